"""A sweep that is started again into its folder: which jobs are done, and how the others go on."""

import json
import shutil
from pathlib import Path

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.validate import dump, validate_plain
from seqrec_cli.reporting.run_folder import MEMBERS, RunFolder
from seqrec_cli.reporting.sweep_folder import ENDED_WELL, Row


def same(row: Row, before: Row | None) -> bool:
    """Whether an earlier start trained these settings on these data (or on data whose raw file has been taken away)."""
    return (
        before is not None
        and row["settings"] is not None
        and row["settings"] == before["settings"]
        and row["data"] in (before["data"], None)
    )


def as_before(row: Row, before: Row | None) -> Row | None:
    """The row of a job that is done; None of one that has to run."""
    if before is None or before["state"] != ENDED_WELL or not same(row, before):
        return None
    there = before["run_dir"] is not None and RunFolder(Path(before["run_dir"])).is_done
    return before if there else None


def retried(record: Settings, row: Row, before: Row | None) -> Settings:
    """The record of a job that failed before: from its last checkpoint if it has one, else from the start.

    Raises SeqrecError where its folder holds a run of other settings or data.
    """
    if before is None or not isinstance(record, TrainConfig) or record.run_dir is None:
        return record
    run = RunFolder(Path(record.run_dir))
    if not run.manifest.is_file():
        return record
    if not same(row, before):
        raise SeqrecError(
            f"{run.path} holds a run of other settings or data than job {row['job']} has now; name another run_dir for "
            "this sweep"
        )
    with run.training():  # its process may still be there
        several = run.config_yaml.is_file() and "seeds" in run.read_manifest()
        begun = run.last.is_file() or several or (run.path / MEMBERS).is_dir()
    if not begun:  # nothing in it to go on from
        shutil.rmtree(run.path)
        return record
    plain = dump(record) | {"resume": str(run.path), "run_dir": None}
    return validate_plain("train", plain)


def test_was_read(row: Row) -> bool:
    """Whether the run's folder has its test metrics: an earlier start of the sweep, or a person, read them."""
    run = RunFolder(Path(row["run_dir"]))
    for path in (run.metrics_json, run.path / "seeds.json"):
        if path.is_file():
            return "test" in json.loads(path.read_text(encoding="utf-8"))
    return False
