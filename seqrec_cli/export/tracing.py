"""From a model to a graph: what every exported format begins with.

Legend: B rows, L history events, C candidates.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.export import Dim

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.half import DTYPES, in_half
from seqrec_cli.export.options import Options
from seqrec_cli.export.scoring import Scoring, Sizes

# They tell of operators of packages that are not here, and of their own deprecated parts.
TALKATIVE = ("torch.onnx", "torch.export", "torch._export", "torch._dynamo", "torch.fx", "onnxscript", "onnx_ir")
SHORTEST = 2  # a window up to this long is exported at its full length
Program = TypeVar("Program")


def at_any_length(scoring: Scoring, by: str, make: Callable[[bool], Program]) -> tuple[Program, dict[str, int | None]]:
    """What `make` makes with a dynamic history length, or, where the model's code does not permit that, at max_length;
    and the fixed sizes of the program's axes, None for one that may change from call to call.

    The batch is always dynamic. Raises SeqrecError, which names `by`, if neither can be made.
    """
    wishes = [True, False] if scoring.max_length > SHORTEST else [False]
    for dynamic_length in wishes:
        try:
            program = make(dynamic_length)
            break
        except Exception as error:  # torch raises a dozen kinds for code that depends on a size
            if dynamic_length == wishes[-1]:
                raise SeqrecError(f"{by} cannot take this model: {_cause(error)}") from error
    fixed = {"batch": None, "length": None if dynamic_length else scoring.max_length}
    return program, fixed if scoring.over_corpus else {**fixed, "candidates": None}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the exporters' warnings, of which a person can make nothing; their errors are raised, or logged, as ever.
    What an export is worth is proved by its scores."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def stored_as(program: torch.export.ExportedProgram, options: Options) -> torch.export.ExportedProgram:
    """The program with its weights in 16 bits where that is asked for."""
    dtype = DTYPES.get(options.quantize or "")
    return program if dtype is None else in_half(program, dtype)


def _cause(error: BaseException) -> str:
    """The first line of the innermost error's message."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def trace(scoring: Scoring, log: PackedLog, dynamic_length: bool) -> torch.export.ExportedProgram:
    """The scoring as a graph of torch's operators."""
    # Traced at sizes that are neither 0 nor 1 nor a limit: those would be taken for constants.
    length = scoring.max_length - 1 if dynamic_length else scoring.max_length
    dims = {"B": Dim("batch", min=1), "C": Dim("candidates", min=1)}
    if dynamic_length:
        dims["L"] = Dim("length", min=0, max=scoring.max_length)
    shapes = {
        name: {axis: dims[letter] for axis, letter in enumerate(name.rsplit("_", 1)[1]) if letter in dims}
        for name in scoring.inputs
    }
    inputs = scoring.sample(log, Sizes(rows=3, length=length, candidates=5))
    with torch.no_grad():
        return torch.export.export(scoring, (), inputs, dynamic_shapes=shapes, strict=True)
