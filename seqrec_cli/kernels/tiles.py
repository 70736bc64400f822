"""What the Triton kernels share: a product of tiles, and how tiles and programs are chosen. Imported with Triton.

Triton's interpreter multiplies bf16 wrongly unless both tiles are fp32, which changes nothing: the products of two bf16
numbers are exact in fp32, and so the sums are what a tensor core makes, up to their order.
"""

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqrec_cli.kernels import registry

INTERPRETED: Any = tl.constexpr(registry.INTERPRETED)
SMALLEST = 16  # rows and columns of a tile that tensor cores multiply
FORMATS = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr):
    """total + a b, in fp32."""
    if INTERPRETED:
        return total + tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:
        return tl.dot(a, b, total, input_precision=PRECISION)


def precision() -> str:
    """How fp32 tiles are multiplied: as torch is told to multiply matrices."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


def tile(size: int, largest: int) -> int:
    """The smallest power of two that holds `size`, from 16 to `largest`."""
    return min(max(SMALLEST, triton.next_power_of_2(size)), largest)


def splits(tiles: int, blocks: int, device: torch.device, *, most: int = 16) -> int:
    """Into how many parts the `blocks` of each program's loop are cut, so that `tiles` programs fill the device."""
    wanted = -(-2 * processors(device) // max(tiles, 1))
    return max(1, min(wanted, blocks, most))


@functools.cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


def on_device(x: Tensor) -> Any:
    """Triton launches on the current device: that of the tensors, while this context lasts."""
    return torch.cuda.device(x.device if x.device.type == "cuda" else -1)
