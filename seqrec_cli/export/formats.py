"""`export`: a program, the vocabularies and a signature in one folder, written only if its scores agree.

A further format is one class with `write` and `load` and one line in `FORMATS`.

Legend: B rows, L history events, C candidates, V items.
"""

import importlib.util
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.context import TIME_VALUES
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.onnx_program import OnnxProgram
from seqrec_cli.export.scoring import AXES, Scoring, Sizes
from seqrec_cli.export.torch_program import TorchProgram
from seqrec_cli.export.tracing import quietly
from seqrec_cli.files import atomic_folder
from seqrec_cli.models.contract import Recommender

TOLERANCE = 1e-4  # largest difference of a reloaded program's logits
VOCABULARIES = ("items.parquet", "users.parquet")
SIGNATURE = "signature.json"


class Exporter(Protocol):
    """One format. The proof is not its business: `export` reloads through `load` and compares."""

    packages: tuple[str, ...]  # what it needs beyond seqrec's own

    def write(self, scoring: Scoring, log: PackedLog, folder: Path) -> dict[str, int | None]:
        """Write the program's files; answers each axis's fixed size, None for one that may change between calls."""
        ...

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        """Read them back as a function of named inputs."""
        ...


FORMATS: dict[str, Exporter] = {"onnx": OnnxProgram(), "torch": TorchProgram()}


def check_format(format: str) -> None:
    """Refuse an unknown format, or one whose packages are missing, before anything is loaded."""
    if format not in FORMATS:
        raise SeqrecError(f"format={format}: no such format{nearest(format, FORMATS)} (have: {', '.join(FORMATS)})")
    missing = [name for name in FORMATS[format].packages if importlib.util.find_spec(name) is None]
    if missing:
        raise SeqrecError(f"format={format} needs what is not installed here: pip install {' '.join(missing)}")


def prove(
    run: Callable[[dict[str, Tensor]], Tensor], scoring: Scoring, log: PackedLog, *, axes: dict[str, int | None]
) -> dict[str, Any]:
    """Compare a reloaded program with the model on real histories, in batches of several sizes and lengths.

    Raises SeqrecError if logits differ by more than TOLERANCE or by NaN.
    """
    fixed = axes["length"]
    calls = [Sizes(1, fixed or 1, 1), Sizes(2, fixed, 3), Sizes(16, fixed or scoring.max_length, 7)]
    worst, rows = 0.0, 0
    for sizes in calls:
        inputs = scoring.sample(log, sizes)
        with torch.inference_mode():
            expected, answered = scoring.live(inputs), run(inputs)
        difference = (expected - answered).abs().max().item() if expected.shape == answered.shape else float("nan")
        if not difference <= TOLERANCE:
            raise SeqrecError(
                f"the exported program differs from the model by {difference:.2g} (at most {TOLERANCE:g} is allowed); "
                "nothing was written"
            )
        worst, rows = max(worst, difference), rows + sizes.rows
    return {"max_difference": worst, "tolerance": TOLERANCE, "rows": rows}


def signature(scoring: Scoring, log: PackedLog, axes: dict[str, int | None], *, format: str) -> dict[str, Any]:
    """What a caller of the program must know, as plain values."""
    corpus = scoring.over_corpus
    shape_of = {letter: axes[axis] or axis for letter, axis in AXES.items() if axis in axes}
    context = log.catalog.context_attributes
    shape_of["F"] = len(context)
    return {
        "format": format,
        "inputs": [
            {"name": name, "dtype": "int64", "shape": [shape_of[letter] for letter in name.rsplit("_", 1)[1]]}
            for name in scoring.inputs
        ],
        "output": {
            "name": scoring.output,
            "dtype": "float32",
            "shape": ["batch", log.num_items + 1 if corpus else "candidates"],
            "padding_column": 0 if corpus else None,
        },
        "padding": {"value": 0, "side": "right"},
        "unknown_user": 0,
        "context": [_context(name, log) for name in (a.name for a in context)]
        if {"context_BF", "context_BLF"} & set(scoring.inputs)
        else [],
        "lengths_B": "events of each row before its padding, at most max_length, the latest kept",
        "max_length": scoring.max_length,
        "num_items": log.num_items,
        "num_users": log.num_users,
        "vocabularies": list(VOCABULARIES),
        "fingerprint": log.fingerprint,
        "versions": {
            "seqrec": seqrec_cli.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _context(name: str, log: PackedLog) -> dict[str, Any]:
    """A context attribute's values: what 1, 2, ... stand for (0: absent)."""
    if name in log.time_context:
        return {"name": name, "values": list(TIME_VALUES[name])}
    return {"name": name, "values": log.manifest["context_values"][name]}


def export(model: Recommender, log: PackedLog, max_length: int, *, format: str, folder: Path) -> dict[str, Any]:
    """Write `folder` (program, vocabularies, signature.json); answers folder, format, files,
    max_difference (of logits, reloaded against live), tolerance and rows.

    The folder appears whole or not at all; an earlier export of that name is replaced. Raises SeqrecError on an
    unknown format, a folder that holds something else, missing vocabularies, or scores that do not agree.
    """
    check_format(format)
    if folder.exists() and not (folder / SIGNATURE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SeqrecError(f"{folder} exists and is no earlier export; choose another folder with out=PATH")
    if log.folder is None or not all((log.folder / name).exists() for name in VOCABULARIES):
        raise SeqrecError("the dataset's folder lacks its id vocabularies; run preprocess again")
    scoring = Scoring(model, log, max_length)
    with atomic_folder(folder, replace=True) as partial:
        with quietly():
            axes = FORMATS[format].write(scoring, log, partial)
            reloaded = FORMATS[format].load(partial)
        proof = prove(reloaded, scoring, log, axes=axes)
        for name in VOCABULARIES:
            shutil.copyfile(log.folder / name, partial / name)
        facts = {**signature(scoring, log, axes, format=format), "proof": proof}
        (partial / SIGNATURE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return {"folder": str(folder), "format": format, "files": sorted(p.name for p in folder.iterdir()), **proof}
