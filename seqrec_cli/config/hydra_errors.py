"""Hydra's and OmegaConf's complaints as one line that names the nearest right word."""

import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.migrations import RENAMED
from seqrec_cli.config.quoting import shell_override
from seqrec_cli.config.registry import GROUPS

LAUNCHERS = {
    "joblib": 'pip install "seqrec[joblib]"',
    "submitit": 'pip install "seqrec[slurm]"',
    "ray": 'pip install -c constraints-ray.txt "seqrec[ray]", in an environment of its own',
}
Composer = Callable[[list[str]], DictConfig]
LISTED = 30  # words of a list that a line can still hold
FILES = {".csv", ".tsv", ".txt", ".dat", ".parquet", ".json", ".jsonl", ".gz", ".zip", ".inter"}  # likely logs


def one_line(text: object) -> str:
    """Any text without its line breaks."""
    return " ".join(str(text).split())


def dotted_keys(cfg: DictConfig) -> list[str]:
    """Every key of the tree that holds a value, as the command line names it; Hydra's own left out."""
    found: list[str] = []

    def visit(values: dict[Any, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                visit(value, f"{prefix}{key}.")
            else:
                found.append(f"{prefix}{key}")

    plain = OmegaConf.to_container(cfg)
    assert isinstance(plain, dict)
    visit({key: value for key, value in plain.items() if key != "hydra"}, "")
    return found


def as_seqrec_error(error: BaseException, overrides: list[str], recompose: Composer) -> SeqrecError | None:
    """What a person should read, or None when `error` is no fault of theirs.

    `recompose` composes the verb again with fewer overrides: the keys it may name are those of that tree.
    """
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException

    if isinstance(error, SeqrecError):
        return error
    if found := re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_(\w+)_launcher\.", str(error)):
        return SeqrecError(f"this launcher is not installed: {LAUNCHERS.get(found[1], found[1])}")
    if isinstance(error, OverrideParseException):
        if "=" not in error.override:
            return SeqrecError(_bare_word(error.override, recompose))
        return SeqrecError(_grammar(error.override, one_line(error.message.splitlines()[0])))
    if isinstance(error, MissingConfigException):
        return SeqrecError(_missing_option(error.missing_cfg_file or "", error.options, error))
    if isinstance(error, HydraException):
        return SeqrecError(_composition(_text(error), overrides, recompose))
    if isinstance(error, OmegaConfBaseException):
        where = f"{error.full_key}: " if error.full_key else ""
        return SeqrecError(where + one_line(str(error.msg or error).splitlines()[0]))
    if isinstance(error, ValueError) and _raised_in_hydra(error):
        return SeqrecError(one_line(error).replace("Config group override", "the option of a group"))
    if type(error).__module__.startswith("yaml."):
        return SeqrecError(f"a configuration file is not valid YAML: {one_line(error)}")
    return None


def launcher_error(error: BaseException) -> SeqrecError | None:
    """What a person should read when a launcher lost the processes that wait for the jobs."""
    if type(error).__module__.split(".")[0] not in ("joblib", "submitit", "ray"):
        return None
    return SeqrecError(
        f"the launcher lost a process of its own ({type(error).__name__}: {one_line(error)[:200]}); start the sweep "
        "again into the same folder: finished jobs stay"
    )


def _raised_in_hydra(error: BaseException) -> bool:
    """Whether Hydra itself raised it; some of its checks of the command line are bare `ValueError`s."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("hydra.")


def _text(error: BaseException) -> str:
    """Hydra sometimes raises an empty exception around the one that says something."""
    text = str(error)
    return text if text or error.__cause__ is None else str(error.__cause__)


def _grammar(override: str, complaint: str) -> str:
    key, _, value = override.partition("=")
    hint = ""
    if value and not re.search(r"['\"]", value):
        hint = f"; to take the value as it is, quote it twice: \"{key}='{value}'\""
    return f"'{override}' cannot be read ({complaint}){hint}"


def _bare_word(word: str, recompose: Composer) -> str:
    """A path is likely a log, or a run, of which the verb has a setting."""
    path = Path(word).expanduser()
    try:
        keys = dotted_keys(recompose([]))
    except Exception:  # the configuration is wrong as well
        keys = []
    if (path / "config.yaml").is_file() or path.suffix == ".pt":
        run = next((key for key in ("ckpt", "resume") if key in keys), None)
    else:
        run = None
    if run is not None:
        return f"'{word}' names no setting: a run is given as {shell_override(run, word)}"
    if "dataset.archive" in keys and (path.exists() or path.suffix.lower() in FILES):
        return f"'{word}' names no setting: {_own_file(word)}"
    return f"'{word}': overrides have the form KEY=VALUE"


def _own_file(path: str) -> str:
    return f"a log of your own is given as dataset=csv {shell_override('dataset.archive', path)}"


def _missing_option(missing: str, options: object, error: BaseException) -> str:
    group, _, name = missing.rpartition("/")
    if not group:
        return f"no configuration file '{missing}.yaml': {one_line(str(error).splitlines()[0])}"
    if f"{group}={name}" in RENAMED:  # in a file's list of defaults
        return f"{group}={name} is now {RENAMED[f'{group}={name}']}: change it in the file that asks for it"
    if group == "dataset" and PurePath(name).suffix.lower() in FILES:
        return f"{group}={name}: {_own_file(name)}"
    known = [str(option) for option in options] if isinstance(options, list | tuple) else []
    if len(known) > LISTED:
        have = (
            f" (one of the {len(known)} in conf/{group}/, or with --config-dir DIR a file of your own, "
            f"DIR/{group}/{name}.yaml)"
        )
    else:
        have = f" (have: {', '.join(known)})" if known else ""
    return f"{group}={name}: no such option{nearest(name, known)}{have}"


def _known_words(key: str, overrides: list[str], recompose: Composer) -> tuple[list[str], list[str]]:
    """Keys and groups of the tree without the override that does not fit; and the groups alone."""
    fewer = [text for text in overrides if text.lstrip("+~").split("=")[0] != key]
    for attempt in (fewer, []):
        try:
            cfg = recompose(attempt)
        except Exception:  # another override is wrong as well; its turn comes once this one is mended
            continue
        chosen = [str(group) for group in cfg.hydra.runtime.choices]
        groups = [group for group in chosen if not group.startswith("hydra/")]
        return sorted({*dotted_keys(cfg), *groups}), groups
    return [], []


def _composition(text: str, overrides: list[str], recompose: Composer) -> str:
    line = one_line(text)
    if found := re.match(r"Could not (override|delete from config\.|delete) '([^']+)'", line):
        key = found[2].split("=")[0] if found[1] == "delete" else found[2]
        if found[1] == "delete from config." and "The value of" in line:
            return line
        known, groups = _known_words(key, overrides, recompose)
        if key in groups:
            own = f"with --config-dir DIR one of your own, DIR/{key}/NAME.yaml"
            return f"{key} takes the name of an option: a file of conf/{key}/, or {own}"
        section = key.partition(".")[0]
        if "ckpt" in known and section in GROUPS and all(word.partition(".")[0] != section for word in known):
            return f"{key}: no such key or group: the run has the {section} that it was trained with"
        if section in groups and not any(word.startswith(f"{section}.") for word in known):
            has_own = f", or ckpt=RUN, whose {section} it is" if "ckpt" in known else ""
            return f"{key}: no {section} is chosen; add {section}=NAME{has_own}"
        return f"{key}: no such key or group{_nearest_key(key, known)}"
    if found := re.match(r"Error merging override (\S+)", line):
        key = found[1].lstrip("+~").split("=")[0]
        return f"{found[1]}: does not fit there{_nearest_key(key, _known_words(key, overrides, recompose)[0])}"
    if found := re.match(r"(?:Sweep parameters|Ambiguous value for argument) '(.+?)' ", line):
        return f"{found[1]}: several values are a sweep, add -m; for a list write KEY=[A,B]"
    if found := re.match(r"Could not append to config\. An item is already at '([^']+)'", line):
        return f"{found[1]} is there already: write it without +"
    if found := re.match(r"In '([^']+)': ConfigTypeError .* Cannot merge DictConfig with ListConfig", line):
        return f"{found[1]}.yaml is a list (- ...); it has to hold keys with values (KEY: VALUE)"
    if found := re.match(r"Could not append to config\. '?([^' ]+)'?", line):
        return f"{found[1]}: {line}"
    return line.split(" See https://")[0]


def _nearest_key(key: str, known: list[str]) -> str:
    """The closest key; when the last part alone is right (`lr` for `trainer.lr`), the keys that end in it; where the
    section is right, what stands in it."""
    section, _, last = key.rpartition(".")
    ending = [word for word in known if word.rpartition(".")[2] == last and word != key]
    if 0 < len(ending) <= 3:
        return f"; did you mean {' or '.join(repr(word) for word in ending)}?"
    beside = [word for word in known if word.startswith(f"{section}.") and word != key] if section else []
    if beside:
        have = [word.removeprefix(f"{section}.") for word in beside]
        close = nearest(last, have).replace("did you mean '", f"did you mean '{section}.")
        return close or (f" ({section} has: {', '.join(have)})" if len(have) <= LISTED else "")
    words = sorted({word.split(".")[0] for word in known})
    return nearest(key, [word for word in known if word != key]) or f" (have: {', '.join(words)})"
