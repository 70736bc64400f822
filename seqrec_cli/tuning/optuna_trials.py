"""A trial as Optuna keeps it, with its run's validations, as a record."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.tuning.records import State, TrialRecord, Validation

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def trial_record(
    trial: "FrozenTrial", rows: list[dict[str, Any]], folder: Path, *, metric: str, maximise: bool
) -> TrialRecord:
    """`rows` are the run's of `metrics.jsonl`, `folder` is where it runs; the best validation is the highest of the
    metric, or the lowest."""
    from optuna.trial import TrialState

    states: dict[Any, State] = {
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    told, ran = trial.user_attrs, trial.user_attrs.get("ran", {})
    curve = tuple(
        Validation(row["epoch"], row["step"], value=row[metric], val_loss=row.get("loss"))
        for row in rows
        if row["split"] == "val" and metric in row
    )
    return TrialRecord(
        number=trial.number,
        settings=dict(told.get("settings", {})),
        state=states[trial.state],
        curve=curve,
        best=(max if maximise else min)(curve, key=lambda at: at.value, default=None),
        followed=told.get("epochs") or ran.get("followed") or epochs_of(rows),
        seconds=ran.get("seconds", 0.0),
        proposed_by=told.get("by", ""),
        rationale=told.get("rationale", ""),
        run_dir=str(folder) if folder.is_dir() else None,
        error=told.get("error"),
        continues=told.get("continues"),
        epochs=told.get("epochs"),
        value=trial.value if trial.state == TrialState.COMPLETE else None,
    )


def epochs_of(rows: list[dict[str, Any]]) -> int:
    """Up to the last validation."""
    return int(rows[-1]["epoch"]) if rows else 0
