"""The Triton kernels on a GPU beside torch's operators and torch.compile: a line of JSON a way, forward and backward.

    python -m scripts.bench_triton [--only corpus_softmax,gru_scan] [--seconds 1] [--small] [--device cuda]

A line has the case, the way (triton, torch: what runs without the kernel, compile: torch.compile of plain operators,
flex: `flex_attention`), milliseconds of a forward and backward pass (the median of as many as fit in --seconds), the
memory that a pass needs beyond its inputs and gradients, and the largest difference of the result from torch's,
relative to its largest number. What a machine cannot run has its error there. In bf16 autocast. About two minutes on a
GPU, most of them torch.compile's; --small is for a processor, whose Triton is not there.

Legend: N targets, V items, D width, B rows, L events, T keys, H heads (or hidden width), d a head's width, C
candidates, F features, M first width.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli import kernels
from seqrec_cli.kernels.gru_scan.op import gru_scan
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.models.hstu import pointwise_attend
from seqrec_cli.models.layers.activation_unit import ActivationUnit
from seqrec_cli.objectives.losses import corpus_cross_entropy

Ways = dict[str, Callable[[], Tensor]]
Case = tuple[str, Ways, list[Tensor]]


def corpus_softmax(small: bool) -> Iterator[Case]:
    shapes = ((64, 100, 8),) if small else ((12_800, 3_417, 64), (8_192, 100_000, 64), (8_192, 100_000, 256))
    for N, V, D in shapes:
        queries_ND, table_VD = torch.randn(N, D), torch.randn(V, D) * 0.02
        targets_N = torch.randint(1, V, (N,))
        plain = torch.compile(lambda q, t, n: F.cross_entropy(q @ t[1:].T, n - 1))

        def with_kernels(on: bool, given: tuple[Tensor, ...]) -> Tensor:
            kernels.use(on)
            return corpus_cross_entropy(*given, chunk_mb=512)

        given = queries_ND.requires_grad_(), table_VD.requires_grad_(), targets_N
        ways = {
            "triton": lambda g=given, f=with_kernels: f(True, g),
            "torch": lambda g=given, f=with_kernels: f(False, g),
            "compile": lambda g=given, f=plain: f(*g),
        }
        yield f"N={N} V={V} D={D}", ways, [queries_ND, table_VD]


def biased_attention(small: bool) -> Iterator[Case]:
    B, H, L, d = (2, 2, 8, 4) if small else (128, 2, 200, 32)
    q, k, v = (torch.randn(B, H, L, d, dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    for pointwise in (False, True):
        bias = torch.randn(1, 1 if pointwise else H, L, L).requires_grad_()

        def run(on: bool, bias: Tensor = bias, pointwise: bool = pointwise) -> Tensor:
            kernels.use(on)
            if pointwise:
                return pointwise_attend(q, k, v, bias_ALT=bias[:, 0], rows_alike=True, mask_BT=None)
            return attention(q, k, v, causal=True, mask_BT=None, drop=0.0, bias_AHLT=bias)

        ways: Ways = {"triton": lambda r=run: r(True), "torch": lambda r=run: r(False)}  # type: ignore[misc]
        compiled = torch.compile(_plain_attention)
        ways["compile"] = lambda c=compiled, b=bias, p=pointwise: c(q, k, v, b, p)  # type: ignore[misc]
        if not pointwise:
            ways["flex"] = lambda b=bias: _flex(q, k, v, b)  # type: ignore[misc]
        yield f"{'pointwise' if pointwise else 'softmax'} B={B} H={H} L={L} d={d}", ways, [q, k, v, bias]


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, pointwise: bool) -> Tensor:
    logits = q @ k.transpose(2, 3) * (1.0 if pointwise else q.shape[-1] ** -0.5) + bias.to(q.dtype)
    logits = logits.masked_fill(~torch.ones_like(logits[0, 0], dtype=torch.bool).tril(), -1e30)
    return (F.silu(logits) if pointwise else logits.softmax(-1)) @ v


_FLEX: list[Any] = []


def _flex(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if not _FLEX:
        L = q.shape[2]
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, L, L, device=q.device)
        _FLEX.extend((torch.compile(flex_attention), mask))
    compiled, mask = _FLEX
    found: Tensor = compiled(q, k, v, score_mod=lambda s, b, h, i, j: s + bias[0, h, i, j], block_mask=mask)
    return found


def recurrence(small: bool) -> Iterator[Case]:
    for L, B, C, H in ((4, 3, 2, 4),) if small else ((100, 1024, 2, 32), (50, 256, 1, 64)):
        inputs_LBG, scales_LBC = torch.randn(L, B, 3 * H).requires_grad_(), torch.rand(L, B, C).requires_grad_()
        weights_GH = (torch.randn(3 * H, H) / H).requires_grad_()
        given = inputs_LBG, scales_LBC, weights_GH

        def run(on: bool, given: tuple[Tensor, ...] = given, L: int = L) -> Tensor:
            kernels.use(on)
            return gru_scan(*given, gate=0, only_last=True, longest=L)  # type: ignore[arg-type]

        ways: Ways = {"triton": lambda r=run: r(True), "torch": lambda r=run: r(False)}  # type: ignore[misc]
        yield f"L={L} B={B} C={C} H={H}", ways, list(given)


def activation_unit(small: bool) -> Iterator[Case]:
    B, L, C, features = (2, 5, 2, 4) if small else (1024, 100, 2, 32)
    for widths, activation in (((36,), "prelu"), ((80, 40), "sigmoid")):
        unit = ActivationUnit(features, widths, activation, softmax=False)  # type: ignore[arg-type]
        events, candidates = torch.randn(B, L, features).requires_grad_(), torch.randn(B, C, features).requires_grad_()
        given = events, candidates, torch.ones(B, L, 1, dtype=torch.bool)

        def run(on: bool, unit: Any = unit, given: tuple[Tensor, ...] = given) -> Tensor:
            kernels.use(on)
            found: Tensor = unit(*given)
            return found

        def plain(compiled: Any = torch.compile(unit), given: tuple[Tensor, ...] = given) -> Tensor:  # noqa: B008
            kernels.use(False)
            found: Tensor = compiled(*given)
            return found

        ways: Ways = {"triton": lambda r=run: r(True), "torch": lambda r=run: r(False), "compile": plain}  # type: ignore[misc]
        yield f"B={B} L={L} C={C} F={features} {list(widths)} {activation}", ways, [*given[:2], *unit.parameters()]


CASES = {
    "corpus_softmax": corpus_softmax,
    "biased_attention": biased_attention,
    "gru_scan": recurrence,
    "activation_unit": activation_unit,
}


def measured(run: Callable[[], Tensor], learning: list[Tensor], device: torch.device, seconds: float) -> dict[str, Any]:
    """Median milliseconds of a forward and backward pass, and its memory in MB."""

    def step() -> Tensor:
        for x in learning:
            x.grad = None
        with torch.autocast(device.type, torch.bfloat16):
            value = run()
        value.float().sum().backward()
        return value.detach()

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(3):
        value = step()
    wait()
    result: dict[str, Any] = {"value": value.float()}
    if device.type == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        result["memory_mb"] = round((torch.cuda.max_memory_allocated() - held) / 2**20, 1)
    times: list[float] = []
    while not times or sum(times) < seconds:
        began = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - began)
    return result | {"ms": round(1e3 * statistics.median(times), 4), "passes": len(times)}


def lines(only: list[str], *, small: bool, device: torch.device, seconds: float) -> Iterator[dict[str, Any]]:
    for name in only:
        with torch.device(device):
            cases = list(CASES[name](small))
        for case, ways, learning in cases:
            values: dict[str, Tensor] = {}
            for way in sorted(ways, key=lambda way: way != "torch"):  # the first is what the others are compared with
                line: dict[str, Any] = {"kernel": name, "case": case, "way": way}
                try:
                    if way == "triton" and not (device.type == "cuda" and kernels.registry.has_triton()):
                        raise RuntimeError("needs CUDA and triton")
                    found = measured(ways[way], learning, device, seconds)
                    if way == "triton" and name not in kernels.ran():
                        raise RuntimeError("the kernel did not run")
                    values[way] = found.pop("value")
                    if "torch" in values:
                        largest = values["torch"].abs().max().clamp(min=1e-30)
                        found["difference"] = ((values[way] - values["torch"]).abs().max() / largest).item()
                    line |= found
                except Exception as error:  # one that does not run here is no reason to leave out the others
                    line["error"] = str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
                yield line
    kernels.use(True)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The Triton kernels beside torch's operators and torch.compile.")
    parser.add_argument("--only", default=",".join(CASES), help="kernels, with commas between")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring each way")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args(words)
    torch.manual_seed(0)
    only = asked.only.split(",")
    if unknown := set(only) - set(CASES):
        parser.error(f"--only={asked.only}: no such kernel: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    for line in lines(only, small=asked.small, device=torch.device(asked.device), seconds=asked.seconds):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
