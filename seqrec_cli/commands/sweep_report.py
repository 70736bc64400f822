"""What a sweep has to know of one of its jobs: how it ended, and what it trained."""

import hashlib
import json
from pathlib import Path
from typing import Any

from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.tuning import TuneConfig
from seqrec_cli.config.validate import dump

SHOWN = ("hr@10", "ndcg@10", "auc")
DIGITS = 16


def sealed(record: Settings) -> Settings:
    """A job's record: what a run of its own would read once, the sweep reads of its best job alone."""
    evaluation = getattr(record, "evaluation", None)
    if isinstance(record, TuneConfig):  # of several studies' winners, the best one's, if asked
        asked = record.evaluation.model_copy(update={"test": record.tune.test})
        left = record.tune.model_copy(update={"test": "none"})
        return record.model_copy(update={"evaluation": asked, "tune": left})
    if evaluation is not None and evaluation.test == "once":
        return record.model_copy(update={"evaluation": evaluation.model_copy(update={"test": "best"})})
    if getattr(record, "test", None) == "once":  # of an ensemble
        return record.model_copy(update={"test": "best"})
    return record


def report_of(record: Settings, result: dict[str, Any]) -> dict[str, Any]:
    """The part of a job's row that tells how it ended."""
    rules = result.get("protocol", {})
    trainer, asked = getattr(record, "trainer", None), getattr(record, "evaluation", record)
    monitor = trainer.monitor if trainer is not None else rules.get("chosen_by")
    if trainer is not None and "chosen_by" in rules:
        monitor = rules["chosen_by"]  # where the setting was `auto`
    splits = [split for split in ("val", "test") if split in result]
    metrics = {split: {name: result[split][name] for name in SHOWN if name in result[split]} for split in splits}
    spread = {name: value for name, value in result.get("spread", {}).items() if name in SHOWN}
    interrupted = bool(result.get("interrupted"))
    found = {
        "fingerprint": rules.get("fingerprint"),
        "seal": getattr(asked, "test", None),
        "monitor": monitor,
        "val": result.get("val", {}).get(monitor),
        "metrics": metrics,
        "spread": {list(metrics)[-1]: spread} if spread and metrics else {},  # of several seeds: standard deviations
        "state": "interrupted" if interrupted else "done",
        "error": "interrupted" if interrupted else None,
    }
    return found | ({"run_dir": result["run_dir"]} if "run_dir" in result else {})


def identity(record: Settings) -> dict[str, str | None]:
    """Fingerprints of what a training is: its settings, without where it lies and runs, and its data.

    `data` is None where the raw file is not here yet. Of other verbs, whose jobs are never skipped, both are None.
    """
    if not isinstance(record, TrainConfig):
        return {"settings": None, "data": None}
    from seqrec_cli.data.preprocess import fingerprint_of  # numpy: `cli` imports this file before every verb

    plain = dump(record)
    for name in ("run_dir", "resume", "data_dir"):
        plain.pop(name)
    for name in ("device", "threads", "processes", "restarts", "timeout_minutes"):
        plain["hardware"].pop(name)
    for name in record.dataset.not_in_fingerprint - {"time_context"}:
        plain["dataset"].pop(name, None)
    plain["evaluation"]["test"] = "all" if record.evaluation.test == "all" else "sealed"
    text = json.dumps(plain, sort_keys=True)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest()[:DIGITS],
        "data": fingerprint_of(record.dataset, Path(record.data_dir)),
    }
