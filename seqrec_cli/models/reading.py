"""What a model reads of a request beyond users and items, found by watching it answer one."""

from collections.abc import Callable
from typing import Any

import torch

from seqrec_cli.data.batch import Batch

OPTIONAL = ("times_BL", "request_times_B", "context_BF", "context_BLF")


class _Watched(Batch):
    """A batch that remembers which of its fields were read."""

    def __getattribute__(self, name: str) -> Any:
        if name in OPTIONAL:
            object.__getattribute__(self, "__dict__").setdefault("_read", set()).add(name)
        return object.__getattribute__(self, name)


def optional_inputs(answer: Callable[[Batch], Any], batch: Batch) -> list[str]:
    """Those of `OPTIONAL` that `answer` reads, of which the batch has them."""
    present = {name: tensor for name, tensor in vars(batch).items() if tensor is not None}
    watched = _Watched(**present)
    with torch.inference_mode():
        answer(watched)
    read = watched.__dict__.get("_read", set())
    return [name for name in OPTIONAL if name in read and name in present]
