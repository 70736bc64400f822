"""One job of a sweep, the table at the sweep's end, and the test of its best job.

A job may run in another process or on another machine (`hydra/launcher=...`), so jobs report through a file:
`jobs.jsonl` in the sweep's folder, a line each. Jobs choose and are chosen by validation: their test sets stay sealed
until the sweep is over, and then that of the best job alone is read (`evaluation.test`).
"""

import json
import math
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from hydra.conf import HydraConf
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from seqrec_cli.commands.dispatch import record_of, run_record, share_cores
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.config.quoting import shell_command
from seqrec_cli.config.settings import Settings

SHOWN = ("hr@10", "ndcg@10", "auc")
LONGEST_FOLDER = 120  # characters of a job's overrides in its folder's name


@dataclass(frozen=True)
class Sweep:
    """A sweep under way: its folder, and how much of `jobs.jsonl` an earlier sweep into the same folder wrote."""

    folder: Path
    start: int
    lock: BaseFileLock | None = None  # held until its end; None where another sweep has it

    def rows(self) -> list[dict[str, Any]]:
        """What its jobs reported so far, by job number."""
        path = self.folder / "jobs.jsonl"
        if not path.is_file():
            return []
        rows = []
        for line in path.read_bytes()[self.start :].splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:  # of a job that was killed, or whose disk was full, while it reported
                print(f"{path}: a line is cut and its job left out of the table", file=sys.stderr)
        return sorted(rows, key=lambda row: int(row["job"]))


class SweepWatcher(Callback):
    """Tells the process that started a sweep where the jobs will report; put among Hydra's callbacks by `cli.py`."""

    current: Sweep | None = None

    def __init__(self, verb: str, varying: list[str]) -> None:
        self.verb, self.varying = verb, varying  # the keys with several values on the command line

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls it once, before the sweeper."""
        path = Path(config.hydra.sweep.dir) / "jobs.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(".sweep.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:  # Hydra would only warn of an error here: the first job refuses
            SweepWatcher.current = Sweep(path.parent, 0)
            return
        SweepWatcher.current = Sweep(path.parent, path.stat().st_size if path.is_file() else 0, lock)


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


def sealed(record: Settings) -> Settings:
    """A job's record: what a run of its own would read once, the sweep reads of its best job alone."""
    evaluation = getattr(record, "evaluation", None)
    if evaluation is not None and evaluation.test == "once":
        return record.model_copy(update={"evaluation": evaluation.model_copy(update={"test": "best"})})
    if getattr(record, "test", None) == "once":  # of an ensemble
        return record.model_copy(update={"test": "best"})
    return record


def run_job(verb: str, cfg: DictConfig, hydra: HydraConf) -> float | None:
    """Validate and run one job in a folder of its own; its validation metric (NaN if refused) is for Hydra's sweepers.

    Bad input is printed and reported, and the sweep goes on; an interrupted job ends it.
    """
    if SweepWatcher.current is not None and SweepWatcher.current.lock is None:
        raise SeqrecError(f"another sweep is under way in {hydra.sweep.dir}; wait for it, or name another run_dir")
    overrides = [str(text) for text in hydra.overrides.task]
    folder = Path(str(hydra.sweep.dir))
    row: dict[str, Any] = {"job": int(str(hydra.job.num)), "overrides": overrides, "monitor": None, "val": None}
    row |= {"run_dir": None, "fingerprint": None, "seal": None, "metrics": {}, "spread": {}, "error": None}
    result: dict[str, Any] = {}
    try:
        if "run_dir" in cfg:
            varying = [*hydra.callbacks["seqrec"].varying, *(hydra.sweeper.get("params") or {})]
            cfg.run_dir = str(Path(cfg.run_dir or folder) / job_folder(row["job"], overrides, varying))
            row["run_dir"] = cfg.run_dir
        record = sealed(record_of(verb, cfg, overrides))
        result = run_record(verb, record)
        row |= _report(record, result, row["run_dir"])
    except SeqrecError as error:
        row["error"] = one_line(error)
        print(f"seqrec {verb} {' '.join(overrides)}: {row['error']}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "jobs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if result.get("interrupted"):
        raise KeyboardInterrupt
    return math.nan if row["error"] else row["val"]


def _report(record: Settings, result: dict[str, Any], run_dir: str | None) -> dict[str, Any]:
    """What the sweep's end has to know of a job that ran."""
    rules = result.get("protocol", {})
    trainer, asked = getattr(record, "trainer", None), getattr(record, "evaluation", record)
    monitor = trainer.monitor if trainer is not None else rules.get("chosen_by")
    metrics = {split: {name: result[split][name] for name in SHOWN if name in result[split]} for split in _read(result)}
    spread = {name: value for name, value in result.get("spread", {}).items() if name in SHOWN}
    return {
        "run_dir": result.get("run_dir", run_dir),
        "fingerprint": rules.get("fingerprint"),
        "seal": getattr(asked, "test", None),
        "monitor": monitor,
        "val": result.get("val", {}).get(monitor),
        "metrics": metrics,
        "spread": {list(metrics)[-1]: spread} if spread and metrics else {},  # of several seeds: standard deviations
        "error": "interrupted" if result.get("interrupted") else None,
    }


def _read(result: dict[str, Any]) -> list[str]:
    return [split for split in ("val", "test") if split in result]


def end_sweep(sweep: Sweep, verb: str, completed: bool) -> bool:
    """Print the jobs, by validation, and then the test of the best one; True when all of it went well.

    Jobs on several test sets (datasets, protocols) have a best one each. The test set stays sealed where the sweep was
    interrupted (not `completed`), or where its jobs were chosen by several metrics.
    """
    if sweep.lock is None:
        return True
    rows = sweep.rows()
    sweep.lock.release()
    if not rows:  # refused before its first job
        return True
    monitors = list(dict.fromkeys(row["monitor"] for row in rows if row["monitor"]))
    fingerprints = list(dict.fromkeys(row["fingerprint"] for row in rows if not row["error"]))
    best = [_best([row for row in rows if row["fingerprint"] == each], monitors) for each in fingerprints]
    winners = [row for row in best if row is not None]
    _print_jobs(rows, monitors, winners)
    went_well = not any(row["error"] for row in rows)
    waiting = [row for row in rows if row["seal"] == "best" and not row["error"]]
    for row in winners:
        if completed and row in waiting:
            went_well &= _open(row, verb)
    for row in winners:
        where = f", in {row['run_dir']}" if row["run_dir"] else ""
        print(f"best by validation {row['monitor']}: job {row['job']} ({_number(row['val'])}){where}")
    if waiting and not (completed and winners):
        several = "no job is the best, for they were chosen by several metrics"
        why = several if completed else "the sweep was not finished"
        print(f"test stays sealed: {why}; read one with: {_evaluate((winners or waiting)[0])}")
    print(sweep.folder)
    return went_well


def _evaluate(row: dict[str, Any]) -> str:
    return shell_command("evaluate", "ckpt", row["run_dir"])


def _open(row: dict[str, Any], verb: str) -> bool:
    """Read the test set of the best job, in this process, whichever trained it."""
    share_cores()
    from seqrec_cli.commands.seal import open_test  # torch: `cli` imports this file before every verb

    try:
        open_test(row["run_dir"], verb)
    except SeqrecError as error:
        print(f"test of job {row['job']} stays sealed: {one_line(error)}; it is read by: {_evaluate(row)}")
        return False
    return True


def _print_jobs(rows: list[dict[str, Any]], monitors: list[str], winners: list[dict[str, Any]]) -> None:
    """A row a job: what varies, and its validation metrics; test metrics only where every job was to read them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    settings = [dict(text.split("=", 1) for text in row["overrides"] if "=" in text) for row in rows]
    keys = list(dict.fromkeys(key for said in settings for key in said))
    varying = [key for key in keys if len({said.get(key) for said in settings}) > 1]
    shown = [
        (split, name)
        for split in ("val", "test")
        for name in SHOWN
        if any(name in row["metrics"].get(split, {}) for row in rows) and not (split == "val" and name in monitors)
    ]
    table = Table()
    for key in ("job", *varying):
        table.add_column(Text(key))
    for title in (*(f"val {monitor}" for monitor in monitors), *(f"{split} {name}" for split, name in shown)):
        table.add_column(Text(title), justify="right")
    failed = any(row["error"] for row in rows)
    if failed:
        table.add_column("state")
    for row, said in zip(rows, settings, strict=True):
        cells = [str(row["job"]), *(said.get(key, "") for key in varying)]
        cells += [_cell(row, "val", monitor) if row["monitor"] == monitor else "" for monitor in monitors]
        cells += [_cell(row, split, name) for split, name in shown]
        cells += [_state(row)] if failed else []
        table.add_row(*map(Text, cells), style="bold" if row in winners else None)
    Console().print(table)
    for row in rows:  # again: a job's own words may be on another machine
        if _state(row) == "refused":
            print(f"job {row['job']}: {row['error']}")


def _state(row: dict[str, Any]) -> str:
    if row["error"] in (None, "interrupted"):
        return row["error"] or "done"
    return "refused"


def _best(rows: list[dict[str, Any]], monitors: list[str]) -> dict[str, Any] | None:
    from seqrec_cli.metrics.table import lower_is_better  # numpy: `cli` imports this file before every verb

    if len(monitors) != 1:
        return None
    scored = [row for row in rows if row["val"] is not None and not math.isnan(row["val"]) and not row["error"]]
    sign = -1 if lower_is_better(monitors[0]) else 1
    return max(scored, key=lambda row: sign * row["val"], default=None)


def _cell(row: dict[str, Any], split: str, name: str) -> str:
    monitored = split == "val" and name == row["monitor"]
    value = row["val"] if monitored else row["metrics"].get(split, {}).get(name)
    spread = row["spread"].get(split, {}).get(name)
    return _number(value) if spread is None else f"{_number(value)} ± {spread:.4f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
