"""Shapes of a traced program in the letters of the house: B rows, L history events, C candidates."""

import re
from collections.abc import Mapping

import torch

LONGEST = 14  # characters of a size that is an expression


def symbols(inputs: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Letters by the trace's symbols, from inputs whose names end in their axes (`items_BL`)."""
    found: dict[str, str] = {}
    for name, value in inputs.items():
        for letter, size in zip(name.rpartition("_")[2], value.shape, strict=True):
            if not isinstance(size, int):
                found.setdefault(str(size), letter)
    return found


def named_shape(value: torch.Tensor, letters: Mapping[str, str]) -> str:
    """`B × L × 64`; a size that is worked out is written so, or left open where that is long."""
    return " × ".join(_named(size, letters) for size in value.shape)


def _named(size: int | torch.SymInt, letters: Mapping[str, str]) -> str:
    text = re.sub(r"\b(s\d+) \+ Max\(0, 1 - \1\)", r"\1", str(size))  # one place at least, for an empty history
    text = re.sub(r"Max\(1, (s\d+)\)", r"\1", text)
    text = re.sub(r"\bs\d+\b", lambda match: letters.get(match[0], match[0]), text)
    return text if len(text) <= LONGEST else "…"
