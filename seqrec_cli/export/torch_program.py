"""format=torch: a `torch.export` program, run by PyTorch alone (or compiled ahead of time from it).

Legend: B rows, L history events, C candidates.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.scoring import Scoring, Sizes

PROGRAM = "model.pt2"
SHORTEST = 2  # a window up to this long is exported at its full length


class TorchProgram:
    """Writes and loads `model.pt2`."""

    def write(self, scoring: Scoring, log: PackedLog, folder: Path) -> dict[str, int | None]:
        """Save the program; answers the fixed sizes of its axes, None for one that may change from call to call.

        The batch is always dynamic. The history length is too where the model's code permits it, else it is
        max_length.
        """
        wishes = [True, False] if scoring.max_length > SHORTEST else [False]
        for dynamic_length in wishes:
            try:
                program = self._trace(scoring, log, dynamic_length)
                break
            except Exception as error:  # torch.export raises a dozen kinds for code that depends on a size
                if dynamic_length == wishes[-1]:
                    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
                    raise SeqrecError(f"torch.export cannot trace this model: {first_line}") from error
        torch.export.save(program, folder / PROGRAM)
        fixed = {"batch": None, "length": None if dynamic_length else scoring.max_length}
        return fixed if scoring.over_corpus else {**fixed, "candidates": None}

    def _trace(self, scoring: Scoring, log: PackedLog, dynamic_length: bool) -> torch.export.ExportedProgram:
        # Traced at sizes that are neither 0 nor 1 nor a limit: those would be taken for constants.
        length = scoring.max_length - 1 if dynamic_length else scoring.max_length
        dims = {"B": Dim("batch", min=1), "C": Dim("candidates", min=1)}
        if dynamic_length:
            dims["L"] = Dim("length", min=1, max=scoring.max_length)
        shapes = {
            name: {axis: dims[letter] for axis, letter in enumerate(name.rsplit("_", 1)[1]) if letter in dims}
            for name in scoring.inputs
        }
        inputs = scoring.sample(log, Sizes(rows=3, length=length, candidates=5))
        with torch.no_grad():
            return torch.export.export(scoring, (), inputs, dynamic_shapes=shapes, strict=True)

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        """The saved program as a function of named inputs."""
        module = torch.export.load(folder / PROGRAM).module()
        return lambda inputs: module(**inputs)
