"""What dropout draws on a CPU: a byte an element (`draws.h`)."""

import ctypes

import torch
from torch import Tensor

LEVELS = 256  # the probability is a multiple of 1 / LEVELS


class DrawSettings(ctypes.Structure):
    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("dropped", ctypes.c_int),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int),
    )


def dropped_levels(probability: float) -> int:
    """How many of a byte's 256 values drop the element: the nearest number, but never none of them, nor all."""
    return min(max(round(probability * LEVELS), 1), LEVELS - 1)


def random_words(count: int) -> Tensor:
    # The range must be named: `random_()` alone never sets an int64's top bit, so every eighth byte would lie.
    return torch.empty(count, dtype=torch.int64).random_(-(2**63), None)


class Draws:
    """What an element's fate depends on, in forward and in backward."""

    @classmethod
    def of(cls, probability: float) -> "Draws":
        return cls(dropped_levels(probability) if probability else 0)

    def __init__(self, dropped: int) -> None:
        self.dropped = dropped
        self.seed = int(random_words(1)) % 2**64 if dropped else 0

    def settings(self) -> DrawSettings:
        return DrawSettings(self.seed, self.dropped, LEVELS / (LEVELS - self.dropped), torch.get_num_threads())
