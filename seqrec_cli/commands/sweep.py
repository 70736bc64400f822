"""A sweep: its jobs by number, the table at its end, and the test of its best job.

A job may run in another process or on another machine (`hydra/launcher=...`), so jobs report through the sweep's
folder, a row each as they end. Jobs choose and are chosen by validation: their test sets stay sealed until the sweep is
over, and then that of the best job alone is read (`evaluation.test`).
"""

import contextlib
import math
import re
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from filelock import BaseFileLock, FileLock, Timeout
from hydra.conf import HydraConf
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from seqrec_cli.commands.dispatch import record_of, run_record, share_cores
from seqrec_cli.commands.sweep_process import run_child, settle_left_over
from seqrec_cli.commands.sweep_report import identity, report_of, sealed
from seqrec_cli.commands.sweep_requests import NO_GPU, asked_of_ray, asked_of_slurm, needs_of, needs_of_jobs
from seqrec_cli.commands.sweep_retry import as_before, retried
from seqrec_cli.commands.sweep_shares import environment_of, launch_of
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.config.quoting import shell_command, shell_override
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.validate import dump
from seqrec_cli.reporting.sweep_board import print_jobs, write_boards
from seqrec_cli.reporting.sweep_folder import Launch, Row, SweepFolder, empty_row
from seqrec_cli.reporting.sweep_live import Watch
from seqrec_cli.reporting.sweep_rank import best_of, monitors_of, repeat_command

RETRIED = ("failed", "killed", "interrupted")  # states that another start may end better
LONGEST_FOLDER = 120  # characters of a job's overrides in its folder's name


class Refused(BaseException):
    """Carries a refusal out of Hydra, which prints a report of its own about any `Exception` or only warns of it."""


@dataclass
class Sweep:
    """A sweep under way in this process's hands."""

    folder: SweepFolder
    lock: BaseFileLock
    launch: Launch
    watch: Watch | None = None  # None where the jobs tell of themselves


class SweepWatcher(Callback):
    """Tells the process that started a sweep where the jobs will report; put among Hydra's callbacks by `cli.py`."""

    current: Sweep | None = None

    def __init__(self, verb: str, varying: list[str]) -> None:
        self.verb, self.varying = verb, varying  # the keys with several values on the command line

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls it once, before the sweeper. Raises `Refused` where another sweep is under way in the folder."""
        hydra = config.hydra
        folder = SweepFolder(Path(str(hydra.sweep.dir)))
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.lock, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise Refused(
                f"another sweep is under way in {folder.path}; wait for it, or name another run_dir"
            ) from None
        launcher = launcher_of(hydra)
        settle_left_over(folder)
        jobs = jobs_of(hydra)
        batch = OmegaConf.select(hydra, "sweeper.max_batch_size")
        settings = cast(dict[str, Any], OmegaConf.to_container(hydra.launcher, resolve=True))
        try:
            ask_cluster(config, launcher, settings, verb=self.verb, jobs=jobs)
            launch = launch_of(launcher, settings, folder.plan(jobs), batch=batch)
        except SeqrecError as error:
            raise Refused(str(error)) from error
        folder.write_launch(launch)
        watch = None
        if in_processes(self.verb, launcher) and self.verb == "train":
            watch = Watch(folder, launch)
            watch.start()
        SweepWatcher.current = Sweep(folder, lock, launch, watch)


def launcher_of(hydra: Any) -> str:
    """The option of `hydra/launcher` that starts the jobs."""
    return str(hydra.runtime.choices["hydra/launcher"])


def ask_cluster(
    config: DictConfig, launcher: str, settings: dict[str, Any], *, verb: str, jobs: list[list[str]] | None
) -> None:
    """Put the numbers of cores and GPUs that a job asks for where the launcher's `settings` have `auto`.

    Raises SeqrecError where a job cannot run with what it would get.
    """
    where = {"submitit_slurm": ("hydra.launcher", asked_of_slurm), "ray": ("hydra.launcher.ray.remote", asked_of_ray)}
    if launcher not in where:
        return
    folder = _config_dir(config.hydra)
    needs = needs_of_jobs(verb, [list(config.hydra.overrides.task)] if jobs is None else jobs, folder)
    node, asked_of = where[launcher]
    asked = asked_of(settings, needs)
    if len(needs) > 1 and asked:
        print("jobs ask for as much as the largest: " + " ".join(f"{name}={value}" for name, value in asked.items()))
    with open_dict(config), read_write(config):
        for name, value in asked.items():
            OmegaConf.update(config, f"{node}.{name}", value)


def _config_dir(hydra: Any) -> str | None:
    """The folder that `--config-dir` named."""
    found = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    return found[0] if found else None


def in_processes(verb: str, launcher: str) -> bool:
    """Whether each job has a process of its own: trainings have, and whatever may run beside another job."""
    return launcher != "inline" and (verb == "train" or launcher != "basic")


def jobs_of(hydra: Any) -> list[list[str]] | None:
    """The overrides of each job, in the order of Hydra's own sweeper; None where it is another's."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not str(hydra.sweeper._target_).endswith(f".{BasicSweeper.__name__}"):
        return None
    given = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*given, *hydra.overrides.task])
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def job_folder(number: int, overrides: list[str], varying: Collection[str]) -> str:
    """`3_model-bst_lr-0.01`: the job's number and what varies, in characters that no shell and no override changes."""
    said = [text.partition("=") for text in overrides if text.partition("=")[0] in varying]
    short = [f"{key.rpartition('.')[2]}-{Path(value).name if '/' in value else value}" for key, _, value in said]
    safe = re.sub(r"[^\w.-]+", "-", re.sub(r"['\"()\[\]{}]", "", "_".join(short)))
    return f"{number}_{safe}"[:LONGEST_FOLDER].rstrip("._-")


def varying_keys(overrides: list[str]) -> list[str]:
    """The keys of a command line that have several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:  # said where they are composed
        return []
    return [str(override.key_or_group) for override in parsed if override.is_sweep_override()]


def run_job(verb: str, cfg: DictConfig, hydra: HydraConf) -> float | None:
    """Validate and run one job in a folder of its own; its validation metric (NaN if it failed) is for Hydra's sweeper.

    A job that fails is reported, and the sweep goes on; an interrupted job ends it. A job that an earlier start of the
    sweep finished is not run again.
    """
    overrides = [str(text) for text in hydra.overrides.task]
    folder = SweepFolder(Path(str(hydra.sweep.dir)))
    launch, launcher = folder.read_launch(), launcher_of(hydra)
    row = empty_row(launch.number(int(str(hydra.job.num))), overrides)
    began = time.monotonic()
    try:
        name = job_folder(
            row["job"], overrides, [*hydra.callbacks["seqrec"].varying, *(hydra.sweeper.get("params") or {})]
        )
        if "run_dir" in cfg:
            cfg.run_dir = str(Path(cfg.run_dir or folder.path) / name)
            row["run_dir"] = cfg.run_dir
        record = sealed(record_of(verb, cfg, overrides))
        row |= identity(record)
        before = folder.row(row["job"])
        if (kept := as_before(row, before)) is not None:
            seal = getattr(getattr(record, "evaluation", None), "test", None)
            if kept["seal"] != seal:
                folder.append(kept | {"seal": seal})
            return kept["val"]
        record = retried(record, row, before)
        if in_processes(verb, launcher):
            row["log"] = f"logs/{name}.log"
            row = _in_child(verb, record, row, folder=folder, launch=launch)
        else:
            row |= report_of(record, run_record(verb, record))
    except SeqrecError as error:
        row |= {"error": one_line(error), "state": "refused"}
        if not in_processes(verb, launcher):
            print(f"seqrec {verb} {' '.join(overrides)}: {row['error']}", file=sys.stderr)
    row["seconds"] = round(time.monotonic() - began, 2)
    folder.end(row)
    if row["state"] == "interrupted":
        raise KeyboardInterrupt
    return math.nan if row["error"] else row["val"]


def _in_child(verb: str, record: Settings, row: Row, *, folder: SweepFolder, launch: Launch) -> Row:
    hardware = getattr(record, "hardware", None)
    needs = NO_GPU if hardware is None else needs_of(hardware.device, hardware.processes)
    facts = {"verb": verb, "record": dump(record), "began": time.time()}
    with environment_of(launch, row["job"], locks=folder.under_way, gpus=needs.gpus) as environment:
        row = run_child(folder, row, facts, environment=environment)
    if verb != "train":  # what such a verb prints is what it was asked for
        print((folder.path / str(row["log"])).read_text(encoding="utf-8", errors="replace"), end="")
    return row


def end_sweep(sweep: Sweep, verb: str, completed: bool) -> bool:
    """Print the jobs, by validation, and then the test of the best one; True when all of it went well.

    Jobs on several test sets (datasets, protocols) have a best one each. The test set stays sealed where the sweep was
    interrupted (not `completed`), or where its jobs were chosen by several metrics.
    """
    if not completed:
        settle_left_over(sweep.folder, stopped=True)
    if sweep.watch is not None:
        sweep.watch.stop()
    rows = sweep.folder.rows()
    if not rows:  # refused before its first job
        sweep.lock.release()
        return True
    monitors = monitors_of(rows)
    fingerprints = list(dict.fromkeys(row["fingerprint"] for row in rows if not row["error"]))
    best = [best_of([row for row in rows if row["fingerprint"] == each], monitors) for each in fingerprints]
    winners = [row for row in best if row is not None]
    print_jobs(rows, monitors, winners)
    asked = sweep.launch.numbers
    went_well = not any(row["error"] for row in rows if asked is None or row["job"] in asked)
    missing = set(asked or ()) - {row["job"] for row in rows}
    if missing:
        went_well = False
        print(f"{len(missing)} of {len(asked or ())} jobs were not started")
    waiting = [row for row in rows if row["seal"] == "best" and not row["error"]]
    for row in winners:
        if completed and row in waiting:
            went_well &= _open(row, verb)
    for row in winners:
        where = f", in {row['run_dir']}" if row["run_dir"] else ""
        print(f"best by validation {row['monitor']}: job {row['job']} ({row['val']:.4f}){where}")
    if waiting and not (completed and winners):
        several = "no job is the best, for they were chosen by several metrics"
        why = several if completed else "the sweep was not finished"
        print(f"test stays sealed: {why}; read one with: {_evaluate((winners or waiting)[0])}")
    for row in winners:
        print(f"again: {repeat_command(verb, row)}")
    if verb == "train" and (missing or any(row["state"] in RETRIED for row in rows)):
        again = shell_override("run_dir", sweep.folder.path)
        print(f"what is missing runs with the same command and {again}; finished jobs stay")
    _write_reports(sweep.folder, rows, winners, verb=verb)
    sweep.lock.release()
    print(sweep.folder.path)
    return went_well


def _write_reports(folder: SweepFolder, rows: list[Row], winners: list[Row], *, verb: str) -> None:
    """What a person looks at; a sweep's numbers are worth more than its pictures, so that a full disk ends nothing."""
    from seqrec_cli.reporting.sweep_page import write_page

    with contextlib.suppress(OSError):
        write_boards(folder, rows, winners)
        write_page(folder, rows, winners, verb=verb)


def _evaluate(row: Row) -> str:
    return shell_command("evaluate", "ckpt", row["run_dir"])


def _open(row: Row, verb: str) -> bool:
    """Read the test set of the best job, in this process, whichever trained it; not again where it was read before."""
    share_cores()
    from seqrec_cli.commands.seal import open_test  # torch: `cli` imports this file before every verb
    from seqrec_cli.commands.sweep_retry import test_was_read

    if test_was_read(row):
        print(f"test of job {row['job']} was read before: {Path(row['run_dir']) / 'metrics.json'} has it")
        return True
    try:
        open_test(row["run_dir"], verb)
    except SeqrecError as error:
        print(f"test of job {row['job']} stays sealed: {one_line(error)}; it is read by: {_evaluate(row)}")
        return False
    return True
