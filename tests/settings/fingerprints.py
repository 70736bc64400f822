"""What is compared of two runs: fingerprints of numbers, arrays, tensors and records of them."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def fingerprint(value: Any) -> str:
    """Of numbers, arrays, tensors and records of them, bit for bit."""
    digest = hashlib.sha256()
    _feed(digest.update, value)
    return digest.hexdigest()[:16]


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().to_dense().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key in value:
            update(str(key).encode())
            _feed(update, value[key])
    elif isinstance(value, list | tuple):
        update(f"[{len(value)}".encode())
        for each in value:
            _feed(update, each)
    elif hasattr(value, "__dict__"):
        _feed(update, vars(value))
    else:
        update(repr(value).encode())


def rounded(value: Any) -> Any:
    """The same scores from blocks of another size differ in their last bits: no other number, and no effect."""
    return round(value, 5) if isinstance(value, float) else value


def distinct(values: list[Any]) -> list[str]:
    """In the order of their first occurrence: how often is told by the number of steps."""
    return list(dict.fromkeys(map(repr, values)))
