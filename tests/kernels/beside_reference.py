"""A kernel's values and gradients beside those of its reference in fp64. Without pytest: `scripts/gpu_kernels.py` calls
it too."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.registry import Kernel

TOLERANCE = {  # in bf16 two units of the last bit
    torch.float32: 2e-5,
    torch.bfloat16: 2**-6,
    torch.float16: 2**-9,
    torch.complex64: 1e-5,
}
# The kernels that run in Triton on a GPU, and how wide a recurrence's states may be there.
TRITON = ("corpus_softmax", "biased_attention", "activation_unit", "gru_states", "gru_last")
WIDEST_STATES = 64


def triton_examples(kernel: Kernel, dtype: torch.dtype) -> list[tuple[Any, ...]]:
    """Arguments for one of `TRITON`, its products in `dtype`: a recurrence's tensors are fp32 whatever they are."""
    if kernel.triton:
        return list(kernel.examples(dtype))
    low = None if dtype == torch.float32 else dtype
    narrow = (given for given in kernel.examples(torch.float32) if given[2].shape[1] <= WIDEST_STATES)
    return [(*given[:-1], low) for given in narrow]


def leaf(given: Any, exact: bool, device: str = "cpu") -> Any:
    """An argument of the operator, or of its reference, that gradients flow to."""
    if not isinstance(given, Tensor):
        return given
    if not (given.is_floating_point() or given.is_complex()):
        return given.to(device)
    if exact:
        given = given.to(torch.complex128 if given.is_complex() else torch.float64)
    return given.detach().to(device).clone(memory_format=torch.preserve_format).requires_grad_()


def differentiable(kernel: Kernel) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(kernel.operator.name(), "Autograd")


def results(function: Callable[..., Any], given: list[Any]) -> tuple[Tensor, ...]:
    found = function(*given)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def close(got: Tensor, expected: Tensor, tolerance: float) -> float:
    """The largest difference as a share of the largest number. Raises AssertionError where one is not near."""
    scale = expected.abs().max().item() if expected.numel() else 0.0
    assert got.shape == expected.shape
    got = got.to(expected.device, expected.dtype)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance * max(scale, 1e-3))
    return (got - expected).abs().max().item() / max(scale, 1e-3) if expected.numel() else 0.0


def compare(kernel: Kernel, given: tuple[Any, ...], dtype: torch.dtype, *, device: str = "cpu") -> float:
    """The largest difference of values and gradients, as a share of the largest number; the kernel works on `device`,
    its reference on a CPU. Raises AssertionError where they differ by more than the number format does."""
    name = kernel.operator.name()
    mine, exact = [leaf(x, False, device) for x in given], [leaf(x, True) for x in given]
    expected = results(kernel.reference, exact)
    got = results(kernel.operator, mine)[: len(expected)]
    worst = max(close(a.detach(), b.detach(), TOLERANCE[dtype]) for a, b in zip(got, expected, strict=True))
    if not differentiable(kernel):
        return worst
    learning = [i for i, x in enumerate(mine) if isinstance(x, Tensor) and x.requires_grad]
    used = [i for i, right in enumerate(expected) if right.requires_grad and right.numel()]
    grads = [torch.randn(got[i].shape, dtype=got[i].dtype) for i in used]
    found = torch.autograd.grad(
        [got[i] for i in used], [mine[i] for i in learning], [grad.to(device) for grad in grads], allow_unused=True
    )
    of_exact = [grad.to(expected[i].dtype) for i, grad in zip(used, grads, strict=True)]
    right = torch.autograd.grad([expected[i] for i in used], [exact[i] for i in learning], of_exact, allow_unused=True)
    for i, value, its in zip(learning, found, right, strict=True):
        if value is None and its is None:
            continue
        assert value is not None, f"argument {i} of {name} gets no gradient"
        assert value.dtype == mine[i].dtype
        worst = max(worst, close(value, torch.zeros_like(exact[i]) if its is None else its, 2 * TOLERANCE[dtype]))
    return worst
