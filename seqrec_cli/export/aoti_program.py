"""format=aoti: a package compiled ahead of time by AOTInductor, run by PyTorch without Python's interpreter.

It is machine code for processors like the one it was made on: to load it is to run it, so load only what you trust.
Inductor takes it that no axis has size 0, so an empty history is a row of padding here; an axis of length 0 ends in the
package's own error.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.options import Options
from seqrec_cli.export.scoring import Scoring
from seqrec_cli.export.tracing import at_any_length, stored_as, trace
from seqrec_cli.kernels.gru_scan.in_programs import written_out

PACKAGE = "compiled.pt2"
COMPILERS = ("g++", "clang++", "c++")


class AotiProgram:
    """Writes and loads `compiled.pt2`."""

    packages: tuple[str, ...] = ()
    quantizes: tuple[str, ...] = ("fp16", "bf16")
    shortest = 1
    loading = (
        f'program = torch._inductor.aoti_load_package("{PACKAGE}")  # machine code: load only what you trust',
        "scores = program(**inputs)  # tensors by the names of signature.json",
    )

    def lacking(self) -> str | None:
        wanted = os.environ.get("CXX")
        if any(shutil.which(name) for name in ((wanted,) if wanted else COMPILERS)):
            return None
        have = f"CXX={wanted}" if wanted else ", ".join(COMPILERS)
        return f"format=aoti needs a C++ compiler, and none is here ({have}): install g++, or take format=torch"

    def write(self, scoring: Scoring, log: PackedLog, folder: Path, *, options: Options) -> dict[str, int | None]:
        with written_out():
            program, axes = at_any_length(scoring, "torch.export", lambda dynamic: trace(scoring, log, dynamic))
        try:
            torch._inductor.aoti_compile_and_package(stored_as(program, options), package_path=str(folder / PACKAGE))
        except Exception as error:  # the compiler's own kinds are private
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SeqrecError(
                f"format=aoti: AOTInductor cannot compile this model ({reason}); take format=torch"
            ) from error
        return axes

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        package = torch._inductor.aoti_load_package(str(folder / PACKAGE))

        def run(inputs: dict[str, Tensor]) -> Tensor:
            answered: Tensor = package(**inputs)
            return answered

        return run
