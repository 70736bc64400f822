"""On a GPU: every model by every objective against the CPU, saved and resumed, in every number format."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scripts.gpu_cases import cases

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
CASES = list(cases(torch.device("cuda"), tiny=False)) if torch.cuda.is_available() else [("none", dict)]


@pytest.mark.parametrize("work", [work for _, work in CASES], ids=[name for name, _ in CASES])
def test_a_gpu_does_what_the_cpu_does(work: Callable[[], dict[str, Any]]) -> None:
    assert work()
