"""seqrec: train, evaluate and export recommenders on behaviour sequences.

`load`, `train`, `tune`, `dataset` and `runs` take and give pandas frames; `run` starts any verb of the command line.
Importing the package imports none of what they need (torch, pandas, Hydra): each name is found when it is first used.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqrec_cli.api.datasets import Dataset, dataset
    from seqrec_cli.api.loading import load
    from seqrec_cli.api.run_table import runs
    from seqrec_cli.api.studies import Study, tune
    from seqrec_cli.api.trained import Trained
    from seqrec_cli.api.training import train
    from seqrec_cli.config.errors import SeqrecError

if sys.platform == "darwin":  # read when torch is loaded: operators that Metal lacks then run on the processor
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

__version__ = "0.1.0"
__all__ = ["Dataset", "SeqrecError", "Study", "Trained", "dataset", "load", "run", "runs", "train", "tune"]

_MODULES = {
    "Dataset": "api.datasets",
    "dataset": "api.datasets",
    "runs": "api.run_table",
    "Trained": "api.trained",
    "load": "api.loading",
    "train": "api.training",
    "Study": "api.studies",
    "tune": "api.studies",
    "SeqrecError": "config.errors",
}


def run(verb: str, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Start what `seqrec VERB OVERRIDES` starts and return its result (for `train`: the content of metrics.json).

    Raises `SeqrecError` (one line: what is wrong and how to mend it) on bad input.
    """
    from seqrec_cli.commands.dispatch import run_verb

    return run_verb(verb, list(overrides))


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'seqrec_cli' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"seqrec_cli.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
