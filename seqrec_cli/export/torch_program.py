"""format=torch: a `torch.export` program, run by PyTorch alone (or compiled ahead of time from it)."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.options import Options
from seqrec_cli.export.scoring import Scoring
from seqrec_cli.export.tracing import at_any_length, stored_as, trace
from seqrec_cli.training.checkpoint import remembering

PROGRAM = "model.pt2"


class TorchProgram:
    """Writes and loads `model.pt2`."""

    packages: tuple[str, ...] = ()
    quantizes: tuple[str, ...] = ("fp16", "bf16")
    shortest = 0
    loading = (
        f'program = torch.export.load("{PROGRAM}").module()',
        "scores = program(**inputs)  # tensors by the names of signature.json",
    )

    def lacking(self) -> str | None:
        return None

    def write(self, scoring: Scoring, log: PackedLog, folder: Path, *, options: Options) -> dict[str, int | None]:
        program, axes = at_any_length(scoring, "torch.export", lambda dynamic: trace(scoring, log, dynamic))
        with remembering(folder / PROGRAM) as file:  # given a path, torch tells of a full disk in its own words
            torch.export.save(stored_as(program, options), file)
        return axes

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        module = torch.export.load(folder / PROGRAM).module()
        return lambda inputs: module(**inputs)
