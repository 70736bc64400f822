"""What a model reads of a request beyond users and items, found by watching it answer one."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from seqrec_cli.data.batch import Batch

OPTIONAL = ("times_BL", "request_times_B", "context_BF", "context_BLF")


class _Watched(Batch):
    """A batch that remembers which of its fields were read, of it or of a batch that was cut from it."""

    read: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in OPTIONAL:
            _Watched.read.add(name)
        return object.__getattribute__(self, name)


def optional_inputs(answer: Callable[[Batch], Any], batch: Batch) -> list[str]:
    """Those of `OPTIONAL` that `answer` reads, of which the batch has them."""
    present = {name: tensor for name, tensor in vars(batch).items() if tensor is not None}
    _Watched.read.clear()
    watched = _Watched(**present)
    with torch.inference_mode():
        answer(watched)
    return [name for name in OPTIONAL if name in _Watched.read and name in present]
