"""One job of a sweep, and the table at the sweep's end.

A job may run in another process or on another machine (`hydra/launcher=...`), so jobs report through a file:
`jobs.jsonl` in the sweep's folder, a line each.
"""

import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from seqrec_cli.commands.dispatch import record_of, run_record
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line

TEST_METRICS = ("hr@10", "ndcg@10", "auc")
LONGEST_FOLDER = 120  # characters of a job's overrides in its folder's name


@dataclass(frozen=True)
class Sweep:
    """A sweep under way: its folder, and how much of `jobs.jsonl` an earlier sweep into the same folder wrote."""

    folder: Path
    start: int

    def rows(self) -> list[dict[str, Any]]:
        """What its jobs reported so far, by job number."""
        path = self.folder / "jobs.jsonl"
        if not path.is_file():
            return []
        lines = path.read_bytes()[self.start :].decode().splitlines()
        return sorted((json.loads(line) for line in lines), key=lambda row: int(row["job"]))


class SweepWatcher(Callback):
    """Tells the process that started a sweep where the jobs will report; put among Hydra's callbacks by `cli.py`."""

    current: Sweep | None = None

    def __init__(self, verb: str) -> None:
        self.verb = verb

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls it once, before the sweeper."""
        path = Path(config.hydra.sweep.dir) / "jobs.jsonl"
        SweepWatcher.current = Sweep(path.parent, path.stat().st_size if path.is_file() else 0)


def job_folder(number: int, overrides: list[str]) -> str:
    """`3_model=bst_trainer.lr=0.01`: the job's number and overrides, of characters any file system takes."""
    said = [text for text in overrides if text.split("=")[0] != "run_dir"]
    short = [
        f"{key}={Path(value).name if '/' in value else value}" for key, _, value in (s.partition("=") for s in said)
    ]
    safe = re.sub(r"[^\w.=,@-]+", "", "_".join(short))
    return f"{number}_{safe}"[:LONGEST_FOLDER].rstrip("._")


def run_job(verb: str, cfg: DictConfig, hydra: HydraConf) -> float | None:
    """Validate and run one job in a folder of its own; its validation metric (NaN if refused) is for Hydra's sweepers.

    Bad input is printed and reported, and the sweep goes on; an interrupted job ends it.
    """
    overrides = [str(text) for text in hydra.overrides.task]
    folder = Path(str(hydra.sweep.dir))
    row: dict[str, Any] = {"job": int(str(hydra.job.num)), "overrides": overrides, "monitor": None, "val": None}
    row |= {"run_dir": None, "test": {}, "spread": {}, "error": None}
    result: dict[str, Any] = {}
    try:
        if "run_dir" in cfg:
            cfg.run_dir = str(Path(cfg.run_dir or folder) / job_folder(row["job"], overrides))
            row["run_dir"] = cfg.run_dir
        record = record_of(verb, cfg, overrides)
        result = run_record(verb, record)
        row["run_dir"] = result.get("run_dir", row["run_dir"])
        trainer = getattr(record, "trainer", None)
        row["monitor"] = trainer.monitor if trainer is not None else None
        row["val"] = result.get("val", {}).get(row["monitor"])
        for kind in ("test", "spread"):  # the second: standard deviations, where a job trains from several seeds
            row[kind] = {name: value for name, value in result.get(kind, {}).items() if name in TEST_METRICS}
        if result.get("interrupted"):
            row["error"] = "interrupted"
    except SeqrecError as error:
        row["error"] = one_line(error)
        print(f"seqrec {verb} {' '.join(overrides)}: {row['error']}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "jobs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if result.get("interrupted"):
        raise KeyboardInterrupt
    return math.nan if row["error"] else row["val"]


def print_sweep(sweep: Sweep) -> bool:
    """Print a row a job and the best job by the validation metric; True when every job went well."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = sweep.rows()
    if not rows:  # refused before its first job
        return True
    settings = [dict(text.split("=", 1) for text in row["overrides"] if "=" in text) for row in rows]
    keys = list(dict.fromkeys(key for said in settings for key in said))
    varying = [key for key in keys if len({said.get(key) for said in settings}) > 1]
    monitors = list(dict.fromkeys(row["monitor"] for row in rows if row["monitor"]))
    shown = [name for name in TEST_METRICS if any(name in row["test"] for row in rows)]
    best = _best(rows, monitors[0]) if len(monitors) == 1 else None

    table = Table()
    for name in ("job", *varying):
        table.add_column(Text(name))
    for name in (*(f"val {monitor}" for monitor in monitors), *(f"test {name}" for name in shown)):
        table.add_column(Text(name), justify="right")
    failed = any(row["error"] for row in rows)
    if failed:
        table.add_column("state")
    for row, said in zip(rows, settings, strict=True):
        cells = [str(row["job"]), *(said.get(key, "") for key in varying)]
        cells += [_number(row["val"] if row["monitor"] == monitor else None) for monitor in monitors]
        cells += [_number(row["test"].get(name), row.get("spread", {}).get(name)) for name in shown]
        cells += [_state(row)] if failed else []
        table.add_row(*map(Text, cells), style="bold" if row is best else None)
    Console().print(table)
    for row in rows:  # again: a job's own words may be on another machine
        if _state(row) == "refused":
            print(f"job {row['job']}: {row['error']}")
    if best is not None:
        where = f", in {best['run_dir']}" if best["run_dir"] else ""
        print(f"best by validation {monitors[0]}: job {best['job']} ({_number(best['val'])}){where}")
    print(sweep.folder)
    return not failed


def _state(row: dict[str, Any]) -> str:
    if row["error"] in (None, "interrupted"):
        return row["error"] or "done"
    return "refused"


def _best(rows: list[dict[str, Any]], monitor: str) -> dict[str, Any] | None:
    from seqrec_cli.metrics.table import lower_is_better  # numpy: `cli` imports this file before every verb

    scored = [row for row in rows if row["val"] is not None and not math.isnan(row["val"]) and not row["error"]]
    sign = -1 if lower_is_better(monitor) else 1
    return max(scored, key=lambda row: sign * row["val"], default=None)


def _number(value: float | None, spread: float | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"
