"""Sizes padded to common multiples. On a CPU, matrix products generate code for every size that is new to them, and
keep some of it: .5 ms beside a product of 1 to 3 ms (950 or 5,500 rows, 256 x 1,024, two cores). Padding is cheaper."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

WIDTH_STEP = 8  # of a micro-batch's length, and of a row's columns of targets
TARGETS_STEP = 64  # targets of a batch
PACKED_STEP = 256  # positions of all its rows together

_exact: ContextVar[bool] = ContextVar("exact", default=False)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def common_size(size: int, step: int, device: torch.device) -> int:
    """`size`, or on a CPU as little more as makes it a multiple of `step`."""
    return size if device.type != "cpu" or _exact.get() else _up(size, step)


def padded_length(longest: int, widest: int) -> int:
    """How wide a part of a batch `widest` wide is, whose longest row is that long."""
    return min(_up(max(longest, 1), WIDTH_STEP), widest)


@contextlib.contextmanager
def exact_sizes() -> Iterator[None]:
    """Nothing is added by `common_size`: for work that is measured on a few rows."""
    before = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(before)
