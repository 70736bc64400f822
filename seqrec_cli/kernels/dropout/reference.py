"""Dropout's specification in torch's operators, random bits included; also what runs where the C code does not."""

from collections.abc import Iterator

import torch
from torch import Tensor

LEVELS = 256  # an element gets a byte: probabilities are multiples of 1 / LEVELS
GROUP, WORDS = 64, 16  # elements whose bytes come from so many 32-bit words


def reference(x: Tensor, seed: int, levels: int) -> Tensor:
    return x * keep_mask(1, x.numel(), seed, levels).view(x.shape).to(x.dtype) * (LEVELS / (LEVELS - levels))


def apply_by_row(x: Tensor, seed: int, levels: int) -> Tensor:
    """Dropout in kernels over rows [..., channels], each of which begins a new group of random numbers."""
    if not levels:
        return x
    mask = keep_mask(x.numel() // max(x.shape[-1], 1), x.shape[-1], seed, levels)
    return x * mask.view(x.shape).to(x.dtype) * (LEVELS / (LEVELS - levels))


def keep_mask(rows: int, channels: int, seed: int, levels: int) -> Tensor:
    """Which elements [rows, channels] are kept: those whose byte is not below `levels`, with the hash of
    include/dropout.h, for fewer than 2^34 elements."""
    groups = -(-channels // GROUP)
    x = torch.arange(rows * groups * WORDS, dtype=torch.int32)  # whose products wrap around, as in C
    x.mul_(_signed(0x9E3779B9)).add_(_signed(seed))
    x.bitwise_xor_(_shifted(x, 16)).mul_(_signed(0x7FEB352D))
    x.bitwise_xor_(_shifted(x, 15)).bitwise_xor_(_signed(seed >> 32)).mul_(_signed(0x846CA68B))
    x.bitwise_xor_(_shifted(x, 16))
    bytes_by_group = x.view(torch.uint8).view(rows, groups, WORDS, 4).transpose(2, 3)
    return bytes_by_group.reshape(rows, groups * GROUP)[:, :channels] >= levels


def _signed(bits: int) -> int:
    """The low 32 bits as an int32."""
    return (bits + 2**31) % 2**32 - 2**31


def _shifted(x: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (x >> by).bitwise_and_((1 << 32 - by) - 1)


def examples(dtype: torch.dtype) -> Iterator[tuple[Tensor, int, int]]:
    for size, levels in ((1, 128), (63, 26), (64, 26), (1000, 200)):
        yield torch.randn(size).to(dtype), -(2**62) - 12345678901, levels
    yield torch.randn(7, 5, 11).to(dtype).transpose(0, 2), 99, 100
