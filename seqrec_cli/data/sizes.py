"""Sizes that come again: what multiplies matrices on a CPU makes code for each size that it meets, .5 ms beside 1 to 3
ms of work (950 or 5,500 rows, 256 x 1,024, two cores), and keeps some of it. A little padding is cheaper."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

WIDTH_STEP = 8  # a part's length is a multiple of it; a row's columns of targets too
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
