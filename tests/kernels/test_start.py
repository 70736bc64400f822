"""What importing the kernels costs, and that torch.compile takes whether they may run as a constant all the same."""

import subprocess
import sys

import torch

from seqrec_cli.kernels.registry import _usable


def test_the_compilers_front_end_is_not_imported_before_something_is_compiled() -> None:
    """Nor is Triton, where it is installed."""
    code = "import sys, seqrec_cli.commands.evaluate; print({'torch._dynamo', 'triton'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_mark_is_the_one_that_torch_sets() -> None:
    assert vars(torch.compiler.assume_constant_result(lambda: None)).items() <= vars(_usable).items()
