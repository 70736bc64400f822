"""Every kernel of the registry beside its reference in fp64: values, gradients and torch's rules for operators.

A kernel brings its own examples, odd sizes among them; a new folder is found by itself.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from beside_reference import compare, differentiable, leaf, results

from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.registry import Kernel, all_kernels

KERNELS = all_kernels()
CASES = [
    pytest.param(name, dtype, id=f"{name}-{dtype}") for name, kernel in KERNELS.items() for dtype in kernel.formats
]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler here")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def examples(kernel: Kernel, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    if kernel.compiled and compiler() is None:
        pytest.skip("no C compiler here")
    if kernel.triton:
        pytest.skip("runs in Triton (test_triton.py)")
    torch.manual_seed(0)
    yield from kernel.examples(dtype)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_values_and_gradients_are_those_of_the_reference(name: str, dtype: torch.dtype) -> None:
    kernel = KERNELS[name]
    for given in examples(kernel, dtype):
        compare(kernel, given, dtype)


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
def test_threads_change_no_gradient_of_a_product(threads: Callable[[int], None]) -> None:
    """Each thread has memory of its own, over a millisecond's work, in which others run."""
    long = [torch.randn(3, 1, steps, 8) for steps in (64, 3000, 3000)]
    for kernel, given in (
        (KERNELS["attention"], [*long, None, False]),
        (KERNELS["linear"], [*KERNELS["linear"].examples(torch.float32)][-1]),
    ):
        found = []
        for count in [1, *[2, 3] * 10]:
            threads(count)
            leaves = [leaf(x, False) for x in given]
            results(kernel.operator, leaves)[0].square().sum().backward()
            found.append([x.grad for x in leaves if isinstance(x, torch.Tensor)])
        for others in found[1:]:
            assert all(torch.equal(mine, other) for mine, other in zip(found[0], others, strict=True))


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
