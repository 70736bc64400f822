"""The Triton kernels on a GPU, beside their references in fp64."""

import pytest
import torch
from beside_reference import TRITON, compare, triton_examples

from seqrec_cli.kernels.biased_attention.op import biased_attention
from seqrec_cli.kernels.registry import all_kernels, has_triton

pytestmark = pytest.mark.skipif(not (torch.cuda.is_available() and has_triton()), reason="no CUDA device here")
KERNELS = all_kernels()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", TRITON)
def test_values_and_gradients_are_those_of_the_reference(name: str, dtype: torch.dtype) -> None:
    kernel = KERNELS[name]
    torch.manual_seed(0)
    for given in triton_examples(kernel, dtype):
        compare(kernel, given, dtype if dtype != torch.float16 else torch.bfloat16, device="cuda")


def test_dropout_draws_anew_and_the_same_by_a_seed() -> None:
    q, bias = torch.randn(2, 2, 70, 16, device="cuda", dtype=torch.bfloat16), torch.randn(1, 2, 70, 70, device="cuda")
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(biased_attention(q, q, q, bias, mask_BT=None, causal=True, scale=0.25, pointwise=False, drop=0.5))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
