"""A program of its own, run with TRITON_INTERPRET=1 by test_triton.py: the Triton kernels on a processor.

It prints a line of JSON a check: its name, what went wrong or null, and its seconds of processor. Words after it name
the checks to run.

Legend: as in the kernels' references.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from beside_reference import TRITON, compare, differentiable, leaf, triton_examples
from torch import Tensor

from seqrec_cli import kernels
from seqrec_cli.kernels.biased_attention.op import biased_attention
from seqrec_cli.kernels.corpus_softmax import triton_kernel as corpus
from seqrec_cli.kernels.gru_scan.op import gru_scan
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.kernels.registry import INTERPRETED, Kernel, all_kernels
from seqrec_cli.models.hstu import pointwise_attend
from seqrec_cli.models.layers.activation_unit import ActivationUnit
from seqrec_cli.objectives.losses import corpus_cross_entropy

FP32, BF16 = torch.float32, torch.bfloat16
KERNELS = all_kernels()
CHECKS: dict[str, Callable[[], None]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS[function.__name__] = function
    return function


def examples(kernel: Kernel, dtype: torch.dtype) -> list[tuple[Any, ...]]:
    """All of a kernel in Triton alone; of a scan the smallest and an odd one, for products in `dtype`."""
    found = triton_examples(kernel, dtype)
    return found if kernel.triton else found[:3] + found[9:10]


def against_reference(name: str, dtype: torch.dtype) -> None:
    for given in examples(KERNELS[name], dtype):
        compare(KERNELS[name], given, dtype)


def keeps_torchs_rules(name: str) -> None:
    kernel = KERNELS[name]
    given = min(examples(kernel, FP32), key=lambda given: sum(x.numel() for x in given if isinstance(x, Tensor)) or 1e9)
    arguments = tuple(leaf(x, False) if differentiable(kernel) else x for x in given)
    assert set(torch.library.opcheck(kernel.operator, arguments).values()) == {"SUCCESS"}


for _name in TRITON:
    for _dtype in (FP32, BF16):
        CHECKS[f"{_name}-{str(_dtype).removeprefix('torch.')}"] = lambda n=_name, d=_dtype: against_reference(n, d)
    CHECKS[f"{_name}-rules"] = lambda n=_name: keeps_torchs_rules(n)


def both_ways(function: Callable[[], Tensor], learning: list[Tensor], used: str, tolerance: float = 1e-5) -> None:
    """The same values and gradients with the kernels as without, and they did run."""
    found = []
    for on in (False, True):
        kernels.use(on)
        value = function()
        found.append([value.detach(), *torch.autograd.grad(value.square().sum(), learning)])
        assert (used in kernels.ran()) == on, kernels.ran()
    for off, on in zip(*found, strict=True):
        torch.testing.assert_close(on, off, rtol=tolerance, atol=tolerance * max(1.0, off.abs().max().item()))


@check
def the_loss_of_an_encoder() -> None:
    """Weighted, smoothed and biased, as the objective calls it."""
    queries_ND, table_VD, bias_V = (torch.randn(*shape, requires_grad=True) for shape in ((11, 6), (40, 6), (40,)))
    targets_N, weights_N = torch.randint(1, 40, (11,)), torch.rand(11)
    plain = lambda: corpus_cross_entropy(queries_ND, table_VD, targets_N, chunk_mb=1)  # noqa: E731
    both_ways(plain, [queries_ND, table_VD], "corpus_softmax")
    more = {"bias_V": bias_V, "label_smoothing": 0.2, "weights_N": weights_N}
    all_of_it = lambda: corpus_cross_entropy(queries_ND, table_VD, targets_N, chunk_mb=1, **more)  # noqa: E731
    both_ways(all_of_it, [queries_ND, table_VD, bias_V], "corpus_softmax")


@check
def a_table_s_gradient_has_the_same_bits_and_no_loss_saturates() -> None:
    queries_ND, table_VD = torch.randn(70, 8), torch.randn(20, 8)
    targets_N = torch.randint(1, 20, (70,))
    assert corpus._parts(1, 5, 16, queries_ND.device)[0] > 1  # summed in parts
    gradients = []
    for _ in range(2):
        losses_N, sums_N = corpus.forward(queries_ND, table_VD, targets_N, None)
        gradients.append(corpus.backward(torch.ones(70), queries_ND, table_VD, targets_N, None, sums_N)[1])
    assert torch.equal(*gradients)
    assert not gradients[0][0].any()  # of padding
    losses_N, _ = corpus.forward(queries_ND * 1000, table_VD, targets_N, None)
    right_N = F.cross_entropy(queries_ND * 1000 @ table_VD[1:].T, targets_N - 1, reduction="none")
    torch.testing.assert_close(losses_N, right_N, rtol=1e-4, atol=0.1)
    assert losses_N.max() > 500


@check
def attention_of_layers() -> None:
    q, k, v = (torch.randn(2, 2, 9, 4, requires_grad=True) for _ in range(3))
    bias, mask_BT = torch.randn(1, 2, 9, 9, requires_grad=True), torch.ones(2, 9, dtype=torch.bool)
    mask_BT[1, 5:] = False
    for causal, mask in ((True, None), (False, mask_BT)):
        soft = lambda c=causal, m=mask: attention(q, k, v, causal=c, mask_BT=m, drop=0.0, bias_AHLT=bias)  # noqa: E731
        both_ways(soft, [q, k, v, bias], "biased_attention")
    by_row = torch.randn(2, 9, 9, requires_grad=True)
    for shared, alike, mask in ((bias[:, 0], True, None), (by_row, False, None), (by_row, False, mask_BT)):
        point = lambda b=shared, a=alike, m=mask: pointwise_attend(  # noqa: E731
            q, k, v, bias_ALT=b, rows_alike=a, mask_BT=m
        )
        both_ways(point, [q, k, v, by_row if shared is by_row else bias], "biased_attention")


@check
def dropped_weights_are_the_same_in_backward() -> None:
    """The values are the identity, so the outputs are the weights, and those that are zero were dropped."""
    n, drop = 20, 0.3
    q, k = (torch.randn(2, 2, n, n, requires_grad=True) for _ in range(2))
    v, bias = torch.eye(n).expand(2, 2, n, n).contiguous().requires_grad_(), torch.randn(1, 2, n, n, requires_grad=True)

    def dropped(seed: int) -> Tensor:
        torch.manual_seed(seed)
        how = {"mask_BT": None, "causal": False, "scale": 0.1, "pointwise": False, "drop": drop}
        return biased_attention(q, k, v, bias, **how)  # type: ignore[arg-type]

    weights = dropped(0)
    assert torch.equal(weights, dropped(0))
    assert not torch.equal(weights, dropped(1))
    kept = (weights != 0).float()
    assert abs(kept.mean().item() - (1 - drop)) < 0.04
    assert not torch.equal(kept[0, 0], kept[0, 1])
    assert not torch.equal(kept[0], kept[1])
    whole = (q @ k.transpose(2, 3) * 0.1 + bias).softmax(-1) * kept / (1 - drop)
    right, grad = whole @ v, torch.randn(2, 2, n, n)
    torch.testing.assert_close(weights, right)
    learning = [q, k, v, bias]
    for mine, its in zip(
        torch.autograd.grad(weights, learning, grad), torch.autograd.grad(right, learning, grad), strict=True
    ):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


@check
def activation_units() -> None:
    events_BLF, candidates_BCF = torch.randn(2, 7, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    sees_BLC = torch.rand(2, 7, 1) < 0.7
    for widths, activation, softmax in (((6,), "prelu", True), ((6, 4), "sigmoid", False), ((6, 4), "prelu", True)):
        unit = ActivationUnit(4, widths, activation, softmax=softmax)  # type: ignore[arg-type]
        learning = [events_BLF, candidates_BCF, *unit.parameters()]
        if softmax:  # it cancels the last bias, whose gradient is rounding
            learning = [x for x in learning if x is not unit.weight.bias]
        both_ways(lambda u=unit: u(events_BLF, candidates_BCF, sees_BLC), learning, "activation_unit")
    shared_CF = torch.randn(5, 4)
    for unit in (unit, ActivationUnit(4, (6,), "dice", softmax=False).eval()):  # noqa: B020
        for layer in unit.activations:
            for running in layer.buffers():
                running.uniform_(0.5, 1.5)
        found = []
        for on in (False, True):
            kernels.use(on)
            with torch.no_grad():
                found.append(unit(events_BLF, shared_CF, sees_BLC))
            assert ("activation_unit" in kernels.ran()) == on
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@check
def dice_in_training_is_left_to_torch() -> None:
    kernels.use(True)
    unit = ActivationUnit(4, (6,), "dice", softmax=False)
    unit(torch.randn(2, 7, 4), torch.randn(2, 3, 4), torch.ones(2, 7, 1, dtype=torch.bool)).sum().backward()
    assert "activation_unit" not in kernels.ran()


@check
def recurrences_of_layers() -> None:
    inputs_LBG, weights_GH = torch.randn(4, 3, 12, requires_grad=True), torch.randn(12, 4, requires_grad=True)
    scales_LBC = torch.rand(4, 3, 2, requires_grad=True)
    for only_last in (False, True):
        scan = lambda last=only_last: gru_scan(  # noqa: E731
            inputs_LBG, scales_LBC, weights_GH, gate=0, only_last=last, longest=4
        )
        both_ways(scan, [inputs_LBG, scales_LBC, weights_GH], "gru_scan", 1e-4)


def main(names: list[str]) -> None:
    assert INTERPRETED, "run with TRITON_INTERPRET=1"
    for name in names or CHECKS:
        torch.manual_seed(0)
        kernels.use(True)
        began = time.process_time()
        try:
            CHECKS[name]()
            error = None
        except Exception:
            error = traceback.format_exc(limit=-4)[-3000:]
        seconds = round(time.process_time() - began, 2)
        print(json.dumps({"check": name, "error": error, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
