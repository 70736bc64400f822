"""`export`: a program, the vocabularies and a signature in one folder, kept only if it answers as the checkpoint does.

A further format is one class with `write`, `load` and what it needs, and one line in `FORMATS`.

Legend: B rows, L history events, C candidates, V items.
"""

import importlib.util
import json
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.export import Tolerance
from seqrec_cli.data.context import TIME_VALUES
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.aoti_program import AotiProgram
from seqrec_cli.export.beside import VOCABULARIES, vocabulary_folder, write_beside
from seqrec_cli.export.embeddings import Embeddings, check_index, index_facts, refuse_no_product
from seqrec_cli.export.gate import Measure, milliseconds, pass_gate
from seqrec_cli.export.onnx_program import OnnxProgram
from seqrec_cli.export.options import Options
from seqrec_cli.export.scoring import AXES, Scoring
from seqrec_cli.export.torch_program import TorchProgram
from seqrec_cli.export.tracing import quietly
from seqrec_cli.files import atomic_folder
from seqrec_cli.models.contract import Recommender
from seqrec_cli.saying import Say, silent

SIGNATURE = "signature.json"
# Into a folder: what the signature says, and the lines that load the program.
WriteCard = Callable[[Path, dict[str, Any], tuple[str, str]], None]


class Exporter(Protocol):
    """One format. The proof is not its business: `export` reloads through `load` and compares."""

    packages: tuple[str, ...]  # what it needs beyond seqrec's own
    quantizes: tuple[str, ...]  # number formats it can store weights in, beside fp32
    shortest: int  # length of the axis of events
    loading: tuple[str, str]  # the lines that load it and ask it, for the card

    def lacking(self) -> str | None:
        """What else is missing on this machine, as a line; None for nothing."""
        ...

    def write(self, scoring: Scoring, log: PackedLog, folder: Path, *, options: Options) -> dict[str, int | None]:
        """Write the program's files; answers each axis's fixed size, None for one that may change between calls."""
        ...

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        """Read them back as a function of named inputs."""
        ...


FORMATS: dict[str, Exporter] = {
    "torch": TorchProgram(),
    "onnx": OnnxProgram(),
    "aoti": AotiProgram(),
    "embeddings": Embeddings(),
}


def check_format(format: str, options: Options) -> None:
    """Refuse an unknown format, or one whose packages are missing, before anything is loaded."""
    if format not in FORMATS:
        raise SeqrecError(f"format={format}: no such format{nearest(format, FORMATS)} (have: {', '.join(FORMATS)})")
    exporter = FORMATS[format]
    missing = [name for name in exporter.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise SeqrecError(f"format={format} needs what is not installed here: pip install {' '.join(missing)}")
    if lacking := exporter.lacking():
        raise SeqrecError(lacking)
    if options.quantize is not None and options.quantize not in exporter.quantizes:
        others = [name for name, other in FORMATS.items() if options.quantize in other.quantizes]
        raise SeqrecError(
            f"format={format} cannot be quantised to {options.quantize} (quantize={', '.join(exporter.quantizes)}); "
            f"format={' or '.join(others)} can"
        )
    if format == "embeddings":
        check_index(options.index)


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
        "lengths_B": "events of each row before its padding, at most max_length, the latest kept; 0: an empty history",
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


def export(
    model: Recommender,
    log: PackedLog,
    max_length: int,
    *,
    format: str,
    folder: Path,
    tolerance: Tolerance,
    options: Options | None = None,
    measure: Measure | None = None,
    metric: str | None = None,
    card: WriteCard | None = None,
    tell: Say = silent,
) -> dict[str, Any]:
    """Write `folder` (program, vocabularies, attributes, signature.json, the card); answers folder, format, files and
    what the gate found. `measure` gives a model's `metric` on validation. Long work is told beforehand.

    The folder appears whole or not at all; an earlier export of that name is replaced. Raises SeqrecError on an
    unknown format, a folder that holds something else, missing vocabularies, or a program beyond tolerance.
    """
    options = Options() if options is None else options
    check_format(format, options)
    if folder.exists() and not (folder / SIGNATURE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SeqrecError(f"{folder} exists and is no earlier export; choose another folder with out=PATH")
    vocabulary_folder(log)
    if format == "embeddings":
        refuse_no_product(model)
    exporter, scoring = FORMATS[format], Scoring(model, log, max_length)
    with atomic_folder(folder, replace=True) as partial:
        tell(EXPECT.get(format, EXPECT["torch"]))
        with quietly():
            axes = exporter.write(scoring, log, partial, options=options)
            run = exporter.load(partial)
        written = sum(path.stat().st_size for path in partial.iterdir())
        found = pass_gate(
            run,
            scoring,
            log,
            fixed=axes["length"],
            shortest=exporter.shortest,
            tolerance=tolerance,
            measure=measure,
            quantized=options.quantize is not None,
        )
        if options.quantize is not None:
            found["fp32"] = _in_fp32(exporter, scoring, log, index=options)
        if format == "embeddings" and options.index is not None:
            found |= index_facts(partial, scoring, log)
        found |= {"bytes": written, "metric": metric, "quantize": options.quantize}
        write_beside(log, partial)
        facts = {**signature(scoring, log, axes, format=format), "quantize": options.quantize, "proof": found}
        facts["shortest_axis"] = axes["length"] or exporter.shortest
        facts |= {"index": options.index} if format == "embeddings" else {}
        (partial / SIGNATURE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        if card is not None:
            card(partial, facts, exporter.loading)
    return {"folder": str(folder), "format": format, "files": sorted(p.name for p in folder.iterdir()), **found}


EXPECT = {
    "torch": "tracing the model; some seconds, a model of many layers up to a minute",
    "aoti": "tracing and compiling the model; about a minute a layer, and of a recurrent one (dien, gru4rec) as much "
    "for every ten events of its window",
}


def _in_fp32(exporter: Exporter, scoring: Scoring, log: PackedLog, *, index: Options) -> dict[str, Any]:
    """Size and time of the same program without quantisation, which is not kept."""
    with tempfile.TemporaryDirectory() as name, quietly():
        folder = Path(name)
        axes = exporter.write(scoring, log, folder, options=Options(index=index.index))
        run = exporter.load(folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        return {"bytes": size, "ms": milliseconds(run, scoring, log, fixed=axes["length"])}
