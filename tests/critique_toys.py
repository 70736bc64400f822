"""A table of three arms and results of no run, for the tests of docs/critique."""

from typing import Any

from scripts.critique_arms import Arm


def row_of_no_run(arm: Arm, seed: int) -> dict[str, Any]:
    """A result of no run."""
    quality = {"hr@10": 0.2, "ndcg@10": 0.1}
    named = {"table": arm.table, "log": arm.log, "arm": arm.name, "settings": [*arm.settings], "seed": seed}
    return {**named, "val": quality, "test": quality, "tflop_epoch": 0.1, "epochs": 1}


THREE: Any = {"t": {"page": "p.md", "logs": {"l": ["a=1"]}, "arms": {"x": [], "y": ["b=1"], "z": ["b=2"]}}}
