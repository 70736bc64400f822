"""What importing the kernels costs, and that torch.compile takes whether they may run as a constant all the same."""

import subprocess
import sys

import torch

from seqrec_cli.kernels.registry import _usable


def test_the_compilers_front_end_is_not_imported_before_something_is_compiled() -> None:
    code = "import sys, seqrec_cli.commands.evaluate; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_mark_is_the_one_that_torch_sets() -> None:
    assert vars(torch.compiler.assume_constant_result(lambda: None)).items() <= vars(_usable).items()
