"""What a protocol asks of a log: which events train, which requests are held out, and what is to be found for each.

Nothing is copied: a view holds positions in the packed log. The rooms `protocols` (which makes views) and `data` (which
reads them) share these types.

Legend: U users, R requests or labelled rows, T targets, C candidates of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

HeldOut = Literal["val", "test"]
SPLITS: tuple[HeldOut, ...] = ("val", "test")
Seen = Literal["remove", "keep"]


@dataclass(frozen=True)
class LabelledRows:
    """Click candidates fixed beside the preprocessed data, so that every model is judged on the same ones.

    `rows_R` is the user row, `ends_R` the absolute log position the history ends before (it starts at the user's
    offset), `items_RC` the candidates (0 where there is none), `labels_RC` 1 for a click, 0 for none. A row is asked at
    the event at `ends_R`, in its context; one that is no event of the log has a time (seconds), a logged context (F)
    and a weight of its own.
    """

    rows_R: np.ndarray
    ends_R: np.ndarray
    items_RC: np.ndarray
    labels_RC: np.ndarray
    times_R: np.ndarray | None = None
    context_RF: np.ndarray | None = None
    weights_R: np.ndarray | None = None

    PARTS = ("rows", "ends", "items", "labels")  # of the names of their files
    OWN = ("times", "context", "weights")  # the same, of rows with their own

    @classmethod
    def load(
        cls, name: str, load: Callable[[str], np.ndarray], optional: Callable[[str], np.ndarray | None] | None = None
    ) -> Self:
        """From the arrays that `arrays` names; `load` reads one, `optional` one that may not be there."""
        own = () if optional is None else (optional(f"{name}_{part}") for part in cls.OWN)
        return cls(*(load(f"{name}_{part}") for part in cls.PARTS), *own)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays by the names they are kept under."""
        values = (
            self.rows_R,
            self.ends_R,
            self.items_RC,
            self.labels_RC,
            self.times_R,
            self.context_RF,
            self.weights_R,
        )
        named = zip((*self.PARTS, *self.OWN), values, strict=True)
        return {f"{name}_{part}": array for part, array in named if array is not None}

    @property
    def asked_apart(self) -> bool:
        """Whether its rows are asked at moments of their own, not at events of the log."""
        return self.times_R is not None or self.context_RF is not None

    def at(self, which: np.ndarray) -> "LabelledRows":
        """Some of the rows, by a mask or indices."""
        own = (None if part is None else part[which] for part in (self.times_R, self.context_RF, self.weights_R))
        return LabelledRows(self.rows_R[which], self.ends_R[which], self.items_RC[which], self.labels_RC[which], *own)


@dataclass(frozen=True)
class Targets:
    """Held-out requests, in order of user row and position.

    A request asks what follows the history of user row `rows_R[r]` that ends before the absolute log position
    `ends_R[r]`; the event there is the next one, at whose time it is asked. Right answers are the items of the events
    at `positions_T[offsets_R1[r]:offsets_R1[r + 1]]`: one, usually that next event; under some protocols several.
    """

    rows_R: np.ndarray
    ends_R: np.ndarray
    positions_T: np.ndarray
    offsets_R1: np.ndarray

    @classmethod
    def next_events(cls, rows_R: np.ndarray, ends_R: np.ndarray) -> Self:
        """Requests with one target each, the next event."""
        return cls(rows_R, ends_R, ends_R, np.arange(len(ends_R) + 1))

    @property
    def counts_R(self) -> np.ndarray:
        """How many targets each request has."""
        return np.diff(self.offsets_R1)

    @property
    def requests_T(self) -> np.ndarray:
        """The request each target belongs to."""
        return np.repeat(np.arange(len(self.rows_R)), self.counts_R)

    def only(self, which_T: np.ndarray) -> "Targets":
        """The targets of a mask [T], and the requests that still have any."""
        counts_R = np.bincount(self.requests_T[which_T], minlength=len(self.rows_R))
        left_R = counts_R > 0
        offsets_R1 = np.concatenate([[0], np.cumsum(counts_R[left_R])])
        return Targets(self.rows_R[left_R], self.ends_R[left_R], self.positions_T[which_T], offsets_R1)

    def at(self, which_R: np.ndarray) -> "Targets":
        """Some of the requests, by ascending indices."""
        kept_R = np.zeros(len(self.rows_R), bool)
        kept_R[which_R] = True
        return self.only(kept_R[self.requests_T])


@dataclass(frozen=True)
class View:
    """A protocol applied to a log.

    `train_U`: the absolute log position before which each user's training events end (they begin at the user's offset).
    `clicks`: labelled rows of val and test, and of train where the protocol fixes them. `seen`: whether items of the
    history leave the candidates (a target that repeats one is then no target) or stay (and negatives are drawn from
    them too). `candidates`: `full`, or a sampled kind such as `uniform:100`. `manifest`: settings, descriptions, counts
    and the fingerprint, all plain.
    """

    train_U: np.ndarray
    val: Targets
    test: Targets
    clicks: dict[str, LabelledRows] = field(default_factory=dict)
    seen: Seen = "remove"
    candidates: str = "full"
    manifest: dict[str, Any] = field(default_factory=dict)

    def targets(self, split: HeldOut) -> Targets:
        """The requests of a split."""
        return self.val if split == "val" else self.test
