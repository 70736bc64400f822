"""Every kernel of the registry beside its reference in fp64: values, gradients and torch's rules for operators.

A kernel brings its own examples, odd sizes among them; a new folder is found by itself.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.registry import INTERPRETED, Kernel, all_kernels, has_triton

KERNELS = all_kernels()
CASES = [
    pytest.param(name, dtype, id=f"{name}-{dtype}") for name, kernel in KERNELS.items() for dtype in kernel.formats
]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2**-6, torch.complex64: 1e-5}  # in bf16 two units of the last bit
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler here")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def examples(kernel: Kernel, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    if kernel.compiled and compiler() is None:
        pytest.skip("no C compiler here")
    if kernel.triton and not (INTERPRETED and has_triton()):
        pytest.skip("runs under Triton's interpreter (test_triton.py)")
    torch.manual_seed(0)
    yield from kernel.examples(dtype)


def leaf(given: Any, exact: bool) -> Any:
    """An argument of the operator, or of its reference, that gradients flow to."""
    if not isinstance(given, Tensor) or not (given.is_floating_point() or given.is_complex()):
        return given
    if exact:
        given = given.to(torch.complex128 if given.is_complex() else torch.float64)
    return given.detach().clone(memory_format=torch.preserve_format).requires_grad_()


def differentiable(kernel: Kernel) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(kernel.operator.name(), "Autograd")


def results(function: Callable[..., Any], given: list[Any]) -> tuple[Tensor, ...]:
    found = function(*given)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = expected.abs().max().item() if expected.numel() else 0.0
    assert got.shape == expected.shape
    torch.testing.assert_close(got.to(expected.dtype), expected, rtol=tolerance, atol=tolerance * max(scale, 1e-3))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_values_and_gradients_are_those_of_the_reference(name: str, dtype: torch.dtype) -> None:
    kernel = KERNELS[name]
    for given in examples(kernel, dtype):
        mine, exact = ([leaf(x, is_exact) for x in given] for is_exact in (False, True))
        expected = results(kernel.reference, exact)
        got = results(kernel.operator, mine)[: len(expected)]
        for value, right in zip(got, expected, strict=True):
            close(value.detach(), right.detach(), TOLERANCE[dtype])
        learning = [i for i, x in enumerate(mine) if isinstance(x, Tensor) and x.requires_grad]
        if not differentiable(kernel):
            continue
        used = [i for i, right in enumerate(expected) if right.requires_grad and right.numel()]
        grads = [torch.randn_like(got[i]) for i in used]
        found = torch.autograd.grad([got[i] for i in used], [mine[i] for i in learning], grads, allow_unused=True)
        of_exact = [grad.to(expected[i].dtype) for i, grad in zip(used, grads, strict=True)]
        right = torch.autograd.grad(
            [expected[i] for i in used], [exact[i] for i in learning], of_exact, allow_unused=True
        )
        for i, value, its in zip(learning, found, right, strict=True):
            if value is None and its is None:
                continue
            assert value is not None, f"argument {i} of {name} gets no gradient"
            assert value.dtype == mine[i].dtype
            close(value, torch.zeros_like(exact[i]) if its is None else its, 2 * TOLERANCE[dtype])


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_operators_keep_torchs_rules(name: str, dtype: torch.dtype) -> None:
    kernel = KERNELS[name]
    for given in list(examples(kernel, dtype))[1:4]:
        arguments = tuple(leaf(x, False) if differentiable(kernel) else x for x in given)
        assert set(torch.library.opcheck(kernel.operator, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_threads_change_no_value_and_no_draw(name: str, dtype: torch.dtype, threads: Callable[[int], None]) -> None:
    kernel = KERNELS[name]
    *_, given = examples(kernel, dtype)
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(results(kernel.operator, list(given)))
    for mine, *others in zip(*found, strict=True):
        assert all(torch.equal(mine, other) for other in others)


@needs_compiler
def test_backward_has_the_same_bits_every_time() -> None:
    kernel, found = KERNELS["prelu_dice"], []
    *_, given = examples(kernel, torch.bfloat16)
    for _ in range(3):
        leaves = [leaf(x, False) for x in given]
        kernel.operator(*leaves).sum().backward()
        found.append(leaves[0].grad)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
