"""What a request means at one state of the items: which ids there are, which may be recommended, what each is read by.

States follow each other and never change: a changed item gets a new row of the table and its former row is dead, so
whoever still answers by an earlier state finds all of it. Rows 0 to V are the catalog's.

Legend: V items of the catalog, R rows, D width, M seen events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.histories import Histories
from seqrec_cli.serving.attribute_values import Given, Plain
from seqrec_cli.serving.cold_start import AnsweredBy
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId, Request


@dataclass(frozen=True)
class Row:
    """A row behind the catalog's: whose it is, and how it came about."""

    raw: RawId
    origin: int  # the item of the catalog that it changes; 0: none, it was added
    by: str  # `vector`, `attributes`, `text_vector` or `like`
    title: str | None
    attributes: Given


@dataclass(frozen=True)
class State:
    """The items after so many changes."""

    version: int
    table_RD: Tensor
    bias_R: Tensor | None
    units_RD: Tensor  # the same vectors of length 1
    dead: Tensor  # rows that are not recommended: padding, former vectors, removed items, those of no training
    rows: Sequence[Row]  # behind the catalog's; later states' may follow
    offered: Mapping[str, int | None]  # the row of every item that was ever changed; None: removed
    read_as: Mapping[str, int]  # what a history has in the place of such an item; none: the model cannot read it
    unusable: Mapping[str, str]  # items whose change does not fit this model, and why

    def __len__(self) -> int:
        return len(self.table_RD)


class Overlay(Mapping[str, int]):
    """Indices by id, some of which have changed; None: no longer there."""

    def __init__(self, base: Mapping[str, int], changes: Mapping[str, int | None]) -> None:
        self._base, self._changes = base, changes

    def __getitem__(self, raw: str) -> int:
        found = self._changes[raw] if raw in self._changes else self._base[raw]
        if found is None:
            raise KeyError(raw)
        return found

    def __iter__(self) -> Any:
        yield from (raw for raw in {**self._base, **self._changes} if self._changes.get(raw, 0) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, raw: object) -> bool:
        return isinstance(raw, str) and self.get(raw) is not None

    def get(self, raw: str, default: Any = None) -> Any:
        if raw in self._changes:
            found = self._changes[raw]
            return default if found is None else found
        return self._base.get(raw, default)


class RecommendingAt(Recommending):
    """Recommending at one state of the items; all but ids and what may be recommended is shared with the original."""

    def __init__(self, original: Recommending, state: State) -> None:
        _ = original.popularity_V, original.priors, original.item_values  # counted once, for all states
        self.__dict__.update({name: value for name, value in vars(original).items() if name != "_by_popularity"})
        self.state, self.left_out = state, state.dead
        self._original = original
        self._index = Overlay(original._index, state.read_as)  # type: ignore[assignment]
        self._offered = Overlay(original._index, state.offered)
        changed = [(row.origin, len(original.items) + 1 + nth) for nth, row in enumerate(state.rows) if row.origin]
        self._current_V: np.ndarray | None = None  # the row by which the model reads and recommends each item
        if changed:
            self._current_V = np.arange(len(original.items) + 1)
            for raw, row in state.offered.items():
                if row is not None and raw in original._index:
                    self._current_V[original._index[raw]] = row

    @property
    def columns(self) -> int:
        return len(self.state)

    def with_any(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """A changed item has the values that were told with it, and the catalog's where none were."""
        trained = super().with_any(name, texts)
        wanted, having = set(texts), set(trained.tolist())
        changed = [
            len(self.items) + 1 + nth
            for nth, row in enumerate(self.state.rows[: len(self.state) - len(self.items) - 1])
            if (wanted & texts_of(row.attributes[name]) if name in row.attributes else row.origin in having)
        ]
        return np.concatenate([trained, np.array(changed, np.int64)])

    def known(self, request: Request) -> tuple[Histories | None, list[RawId]]:
        asked, unknown = super().known(request)
        if asked is None or request.history is not None or self._current_V is None:
            return asked, unknown
        read_as_V = self._current_V if self.encoder().reads_what_it_scores else np.arange(len(self._current_V))
        return replace(asked, items_N=read_as_V[asked.items_N]), unknown

    def seen(self, request: Request, asked: Histories) -> np.ndarray:
        """The rows that a request's history keeps from coming back, [M]: also of items that the model cannot read."""
        if request.history is not None:
            return self.known_indices(request.history)[0]
        if self._current_V is None:
            return asked.items_N
        V = len(self.items)  # what lies behind is a current row already
        return np.where(asked.items_N > V, asked.items_N, self._current_V[asked.items_N.clip(max=V)])

    def indices(self, items: Sequence[RawId]) -> np.ndarray:
        found, unknown = self.known_indices(items)
        if unknown:
            raise SeqrecError(
                f"item={unknown[0]}: there is no such item (ids such as {self.items[0]}, {self.items[-1]})"
            )
        return found

    def known_indices(self, items: Sequence[RawId]) -> tuple[np.ndarray, list[RawId]]:
        found = [self._offered.get(str(item)) for item in items]
        unknown = [item for item, row in zip(items, found, strict=True) if row is None]
        return np.array([row for row in found if row is not None], np.int64), unknown

    def named(self, items_K: np.ndarray) -> tuple[list[RawId], list[str] | None]:
        V, rows = len(self.items), items_K.tolist()
        raws = [self.items[row - 1] if row <= V else self.state.rows[row - V - 1].raw for row in rows]
        return raws, None if self.titles is None else [self.title(row) for row in rows]

    def row_now(self, item: int) -> int | None:
        """The row of an item of the catalog; None where it was removed."""
        return self._offered.get(str(self.items[item - 1]))

    def is_now(self, row: int) -> bool:
        """Whether a row behind the catalog's is that of its item."""
        return self.state.offered.get(str(self.state.rows[row - len(self.items) - 1].raw)) == row

    def title(self, row: int) -> str:
        """That given with the item, that of the data, or else its id."""
        assert self.titles is not None
        if row <= len(self.items):
            return self.titles[row - 1]
        about = self.state.rows[row - len(self.items) - 1]
        return about.title or (self.titles[about.origin - 1] if about.origin else str(about.raw))

    def cold(self, request: Request) -> tuple[AnsweredBy, np.ndarray]:
        """As without changes; an item that was added has what one without training events has, and one that the model
        cannot read tells of taste by its attributes."""
        told = {raw: about for raw in map(str, request.history or ()) if (about := self._attributes(raw))}
        by, scores_V = super().cold(replace(request, item_attributes={**told, **request.item_attributes}))
        origins = [row.origin for row in self.state.rows[: len(self.state) - len(scores_V)]]
        return by, np.concatenate([scores_V, scores_V[origins]]) if origins else scores_V

    def _attributes(self, raw: str) -> Given:
        row = self.state.offered.get(raw)
        return {} if row is None or row <= len(self.items) else self.state.rows[row - len(self.items) - 1].attributes


def texts_of(told: Plain | Sequence[Plain]) -> set[str]:
    """A value or several, as texts."""
    several = told if isinstance(told, Sequence) and not isinstance(told, str) else [told]
    return set(map(str, several))
