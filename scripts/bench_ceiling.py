"""What the machine can do at best, measured in this process with this process's threads.

A fraction of the ceiling says more than a rate: useful FLOPs of the timed steps, over their time, over the rate of a
large matrix product in the same number format.
"""

from collections.abc import Callable
from typing import Any

import torch

from scripts.clock import now
from seqrec_cli.data.devices import wait_for
from seqrec_cli.training.precision import DTYPES, Precision

SHAPES = {  # m, n, k of the products tried: the square, a long contraction, a thin one
    "cpu": ((1024, 1024, 1024), (2048, 2048, 2048), (1024, 1024, 8192), (8192, 1024, 512)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192), (4096, 4096, 16384)),
}
COPY_BYTES = 2**28
SECONDS = 0.3  # spent on each shape, at least three calls
SLOW = 1.0  # a product that takes this long ends the search: larger ones would take minutes


def synchronize(device: torch.device) -> None:
    """Wait for the device; a CPU is always done."""
    wait_for(device)


def best_seconds(call: Callable[[], object], device: torch.device) -> float:
    """The fastest of a few calls, after one to warm up."""
    call()
    synchronize(device)
    best, calls, began = float("inf"), 0, now()
    while calls < 3 or now() - began < SECONDS:
        start = now()
        call()
        synchronize(device)
        best, calls = min(best, now() - start), calls + 1
        if best > SLOW:
            break
    return best


def gemm_rate(device: torch.device, dtype: torch.dtype) -> tuple[float, tuple[int, int, int]]:
    """FLOP/s of the fastest product, and its shape."""
    fastest: tuple[float, tuple[int, int, int]] = (0.0, (0, 0, 0))
    for m, n, k in SHAPES["cpu" if device.type == "cpu" else "cuda"]:
        a, b = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
        out = torch.empty(m, n, device=device, dtype=dtype)
        seconds = best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        fastest = max(fastest, (2 * m * n * k / seconds, (m, n, k)))
        if seconds > SLOW:
            break
    return fastest


def copy_rate(device: torch.device) -> float:
    """Bytes a second read and written by a large copy (both count, as in STREAM)."""
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / best_seconds(lambda: target.copy_(source), device)


def ceiling(precision: Precision) -> dict[str, Any]:
    """GEMM GFLOP/s in fp32, bf16 and the run's own format, and copy GB/s."""
    found: dict[str, Any] = {}
    for name in sorted({"fp32", "bf16", precision.name}, reverse=True):
        rate, shape = gemm_rate(precision.device, DTYPES.get(name, torch.float32))
        found |= {f"gemm_{name}_gflop_s": rate / 1e9, f"gemm_{name}_shape": shape}
    found["copy_gb_s"] = copy_rate(precision.device) / 1e9
    return found
