"""The vectors of users whose logged histories were asked about lately: a service is asked again after the same ones.

Legend: B rows, M rows whose vector is not kept, D width.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

KEPT = 10_000  # users: 5 MB at a width of 128


class UserVectors:
    """Of one model and one log. One thread at a time."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def of(self, users: Sequence[int], encode: Callable[[np.ndarray], Tensor]) -> Tensor:
        """Vectors [B, D] of these users (from 1; 0: a history that is no user's log, and is not kept).

        `encode` makes those of the rows [M] that it is given.
        """
        missing_M = np.array([row for row, user in enumerate(users) if user not in self._kept], np.int64)
        if len(missing_M) == len(users):
            vectors_BD = encode(missing_M)
        else:
            known = {row: self._kept[user] for row, user in enumerate(users) if user in self._kept}
            made = dict(zip(missing_M.tolist(), encode(missing_M) if len(missing_M) else (), strict=True))
            vectors_BD = torch.stack([known[row] if row in known else made[row] for row in range(len(users))])
        for row, user in enumerate(users):
            if user in self._kept:
                self._kept.move_to_end(user)
            elif user:
                self._kept[user] = vectors_BD[row].clone()  # not a view, which would keep the whole batch
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return vectors_BD

    def forget(self) -> None:
        """All of them: the model reads other vectors of items now."""
        self._kept.clear()
