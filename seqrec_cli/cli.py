"""The only entrance: takes the verb, gives the rest to Hydra, turns refusals into one line.

Nothing heavy is imported before it is needed: `seqrec --help` needs no Hydra, a refused setting no torch.
Exit codes: 0 done, 1 a bug (with its traceback), 2 refused, 130 interrupted.
"""

import atexit
import gc
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from seqrec_cli.config import migrations
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.verbs import VERBS, verb_named
from seqrec_cli.faults import in_words
from seqrec_cli.processes import started

if TYPE_CHECKING:
    from omegaconf import DictConfig

SHELLS = ("bash", "zsh", "fish")
OVERVIEW = """\
seqrec: train, evaluate and export recommenders on behaviour sequences.

Usage: seqrec VERB [FLAG ...] [GROUP=OPTION ...] [KEY=VALUE ...]

Verbs
{verbs}

  seqrec VERB --help             the verb's groups and keys, in words
  seqrec VERB --cfg job          the configuration it would run with
  seqrec VERB -m KEY=A,B         a sweep: one run a value
  seqrec --version
  seqrec completion bash|zsh|fish
                                 print a completion script; for bash, in ~/.bashrc: eval "$(seqrec completion bash)"

Examples
  seqrec train                                      the generated dataset, no network
  seqrec train dataset=ml-1m model=sasrec trainer.lr=5e-4
  seqrec evaluate ckpt=RUN_FOLDER
"""


def _end_quickly() -> None:
    """Do not search what ends for cycles: torch has so many that it took a second. Triton, which torch for GPUs brings,
    would list on the terminal all that was not searched."""
    if "triton" not in sys.modules:
        gc.freeze()


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code. Bugs keep their traceback."""
    args = list(sys.argv[1:] if argv is None else argv)
    atexit.register(_end_quickly)
    try:
        if sys.stdout is None:  # closed: >&-
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - of the process
        code = _main(args)
        sys.stdout.flush()
        return code
    except SeqrecError as error:
        named = f" {args[0]}" if args and args[0] in VERBS else ""
        return _say(f"seqrec{named}: {' '.join(str(error).split())}", 2)
    except KeyboardInterrupt as error:
        return _say(f"seqrec: {str(error) or 'interrupted'}", 130)
    except BrokenPipeError:  # `seqrec train --help | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError, RuntimeError) as error:
        fault = in_words(error)
        if fault is None:
            raise
        return _say(f"seqrec: {fault}", 2)


def _say(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code


def _main(args: list[str]) -> int:
    verb, rest = (args[0], args[1:]) if args else ("--help", [])
    if verb in ("--help", "-h", "help"):
        print(
            OVERVIEW.format(verbs="\n".join(f"  {name:<12} {known.summary}" for name, known in VERBS.items())), end=""
        )
        return 0
    if verb in ("--version", "-V"):
        from seqrec_cli import __version__

        print(f"seqrec {__version__}")
        return 0
    if verb in ("completion", "--complete"):
        from seqrec_cli.config.completion import candidates, script

        if verb == "completion" and (len(rest) != 1 or rest[0] not in SHELLS):
            raise SeqrecError(f"seqrec completion SHELL: name one of {', '.join(SHELLS)}")
        lines = [script(rest[0])] if verb == "completion" else candidates(rest)
        print("\n".join(lines))
        return 0
    if verb.startswith("-") or "=" in verb:
        raise SeqrecError(f"the verb comes first: seqrec VERB {verb} (verbs: {', '.join(VERBS)})")
    verb = verb_named(migrations.verb(verb)).name
    group = started()
    if group is None:
        return _start(verb, rest)
    if verb != "train" or "-m" in rest or "--multirun" in rest:
        raise SeqrecError(
            f"WORLD_SIZE={group.count} says that several processes were started, and only one run of train is shared "
            "by several; start this one without torchrun, or unset WORLD_SIZE"
        )
    from seqrec_cli.commands.dispatch import share_cores

    share_cores()  # before torch is imported
    from seqrec_cli.commands.ranks import follow, lead

    return lead(group, lambda: _start(verb, rest)) if group.is_first else follow(group)


def _start(verb: str, rest: list[str]) -> int:
    """Give a verb's flags and overrides to Hydra."""
    flags, overrides, args = _parse(rest)
    from seqrec_cli.config.compose import compose_raw, conf_folder, in_full, prefer_own_launchers

    overrides = in_full(VERBS[verb], overrides)
    if any(text.startswith("hydra/launcher=") for text in overrides):
        prefer_own_launchers()
    if args.help:
        from seqrec_cli.config.help import help_text

        print(help_text(VERBS[verb], overrides, args.config_dir))
        return 0
    if "MPLBACKEND" in os.environ:  # pictures go to files; the name may be one that is unknown here
        os.environ["MPLBACKEND"] = "agg"
    import hydra

    from seqrec_cli.commands.sweep import Refused, SweepWatcher, end_sweep, varying_keys
    from seqrec_cli.config.hydra_errors import as_seqrec_error, launcher_error

    watcher = (
        f"_target_:{SweepWatcher.__module__}.SweepWatcher,verb:{verb},varying:[{','.join(varying_keys(overrides))}]"
    )
    ours = [f"+hydra.callbacks.seqrec={{{watcher}}}"]
    ours.append(f"hydra.job.name={verb}")
    folder = [text.partition("=")[2] for text in overrides if text.startswith("run_dir=")]
    if args.multirun and folder and folder[-1] != "null" and "," not in folder[-1]:
        ours.append(f"hydra.sweep.dir={folder[-1]}")  # the sweep's own files beside its runs
    SweepWatcher.current = None
    completed = False
    try:
        with _for_hydra([*flags, *ours, *overrides]):
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=args.config_name or verb)(_job)()
        completed = True
    except Refused as refusal:
        raise SeqrecError(str(refusal)) from refusal.__cause__
    except Exception as error:
        name = args.config_name or verb
        known = as_seqrec_error(error, overrides, lambda fewer: compose_raw(name, fewer, args.config_dir))
        known = known or (launcher_error(error) if SweepWatcher.current is not None else None)
        if known is None:
            raise
        raise known from error
    finally:
        sweep = SweepWatcher.current
        went_well = end_sweep(sweep, verb, completed) if sweep is not None else True
    return 0 if completed and went_well else 2


def _job(cfg: "DictConfig") -> float | None:
    """What Hydra calls for a single run, and for each job of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from seqrec_cli.commands import dispatch, sweep

    hydra = HydraConfig.get()
    verb = str(hydra.callbacks["seqrec"].verb)
    if hydra.mode == RunMode.MULTIRUN:
        try:
            return sweep.run_job(verb, cfg, hydra)
        except SeqrecError as error:  # of the sweep itself; a job's own is in its table
            raise sweep.Refused(str(error)) from error
    if OmegaConf.select(hydra.sweeper, "params"):
        raise sweep.Refused(f"sweep={hydra.runtime.choices['sweep']}: its values are of several runs; add -m")
    try:
        added = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
        record = dispatch.record_of(verb, cfg, list(hydra.overrides.task), config_dir=next(iter(added), None))
        result = dispatch.run_record(verb, record)
    except SeqrecError as error:
        raise sweep.Refused(str(error)) from error
    if result.get("interrupted"):
        raise KeyboardInterrupt
    if result.get("failed"):  # of a study: all else is done
        raise sweep.Refused(result["failed"])
    return None


def _parse(rest: list[str]) -> tuple[list[str], list[str], Namespace]:
    """Hydra's flags, the overrides, and the flags' meaning; flags and overrides may come in any order."""
    from hydra._internal.utils import get_args_parser

    parser: ArgumentParser = get_args_parser()
    known = [flag for action in parser._actions for flag in action.option_strings]

    def refuse(message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0]
        raise SeqrecError(f"{message}{nearest(unknown, known) if unknown else ''}")

    parser.error = refuse  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(rest)
    overrides = list(args.overrides)
    flags = list(rest)
    for text in overrides:
        flags.remove(text)
    return [flag for flag in flags if flag != "--"], overrides, args


@contextmanager
def _for_hydra(args: list[str]) -> Iterator[None]:
    """`hydra.main` reads `sys.argv`; and exceptions must reach us, which Hydra calls a full error."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [argv[0], *args]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        _restore("HYDRA_FULL_ERROR", full)


def _restore(name: str, value: Any) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


if __name__ == "__main__":
    sys.exit(main())
