"""The answers to a chunk of requests, as a table: a row for each recommended item.

Columns: `row` (of the request, from 0), `user` (where requests name any), `rank` from 1, `item`, `title` (where the
data have titles), `score` (float32), `answered_by` (`model`, `profile` or `popularity`), and `because` (where asked
for).

Legend: R requests of a chunk, K items of a list, M recommended items of all.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import get_args

import numpy as np
import pyarrow as pa

from seqrec_cli.data.arrow import from_numpy
from seqrec_cli.serving.because import strongest_events
from seqrec_cli.serving.cold_start import AnsweredBy
from seqrec_cli.serving.lists import Lists, Wanted, cold_list, lists_for
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.request_rows import RequestRows
from seqrec_cli.serving.requests import Request

BY: tuple[str, ...] = get_args(AnsweredBy)
COLD_USERS = 1024  # whose lists are kept


@dataclass(frozen=True)
class Counts:
    """What came of some rows."""

    rows: int = 0
    popularity: int = 0  # rows that it answered
    profile: int = 0  # rows that their user's attributes answered
    short: int = 0  # rows that got fewer items than were asked for
    none: int = 0  # rows that got none
    events: int = 0  # of the histories that rows gave
    unknown_items: int = 0  # of these, events whose item the data do not have
    unknown_context: int = 0  # values of context that the data do not have

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)))


@dataclass(frozen=True)
class Form:
    """What columns the answers have."""

    users: bool  # requests name users
    whole_users: bool  # whose ids are all whole numbers
    because: bool


class AnsweredRows:
    """Answers chunks of requests with one model, always in the same columns."""

    def __init__(self, recommending: Recommending, wanted: Wanted, form: Form, *, rows_at_once: int) -> None:
        self._recommending, self._wanted, self._form = recommending, wanted, form
        self._rows_at_once = rows_at_once
        self._items = pa.array(recommending.items)
        self._titles = None if recommending.titles is None else pa.array(recommending.titles, pa.string())
        self._cold = lru_cache(COLD_USERS)(self._cold_list)

    @property
    def schema(self) -> pa.Schema:
        """Of every table."""
        form, item = self._form, self._items.type
        return pa.schema(
            [
                ("row", pa.int64()),
                *([("user", pa.int64() if form.whole_users else pa.string())] if form.users else []),
                ("rank", pa.int32()),
                ("item", item),
                *([] if self._titles is None else [("title", pa.string())]),
                ("score", pa.float32()),
                ("answered_by", pa.string()),
                *([("because", item)] if form.because else []),
            ]
        )

    def of(self, table: pa.Table, *, first: int, label: str) -> tuple[pa.Table, Counts]:
        """The answers to a chunk whose first row is `first`, in the order of its rows, and what came of them."""
        rows = RequestRows(self._recommending, table, first=first, label=label)
        shape = (rows.count, self._wanted.top)
        items_RK, events_RK = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        scores_RK, cold_R = np.zeros(shape, np.float32), rows.cold_R
        for group in rows.groups():
            lists = lists_for(self._recommending, group.asked, self._wanted, rows_at_once=self._rows_at_once)
            items_RK[group.rows_R], scores_RK[group.rows_R] = lists.items_RK, lists.scores_RK
            if self._form.because:
                events_RK[group.rows_R] = strongest_events(
                    self._recommending, group.asked, lists.items_RK, rows_at_once=self._rows_at_once
                )
        by_R = np.zeros(rows.count, np.int64)
        for user in np.unique(rows.users_R[cold_R]):
            by, lists = self._cold(int(user))
            rows_R = cold_R[rows.users_R[cold_R] == user]
            items_RK[rows_R], scores_RK[rows_R] = lists.items_RK, lists.scores_RK
            by_R[rows_R] = BY.index(by)
        lengths_R = (items_RK > 0).sum(1)
        counts = Counts(
            rows.count,
            int((by_R == BY.index("popularity")).sum()),
            int((by_R == BY.index("profile")).sum()),
            int((lengths_R < self._wanted.top).sum()),
            int((lengths_R == 0).sum()),
            rows.events,
            rows.unknown_items,
            rows.unknown_context,
        )
        return self._table(table, first, by_R=by_R, items_RK=items_RK, scores_RK=scores_RK, events_RK=events_RK), counts

    def _cold_list(self, user: int) -> tuple[AnsweredBy, Lists]:
        """What one request of this user (from 1; 0: unknown) gets that leaves the model nothing to read."""
        raw = self._recommending.users[user - 1] if user else None
        request = Request(raw, (), None, None, {}, self._wanted.top, self._wanted.repeats)
        return cold_list(self._recommending, request, self._wanted)

    def _table(
        self,
        asked: pa.Table,
        first: int,
        *,
        by_R: np.ndarray,
        items_RK: np.ndarray,
        scores_RK: np.ndarray,
        events_RK: np.ndarray,
    ) -> pa.Table:
        rows_M, places_M = np.nonzero(items_RK)
        items_M = from_numpy(items_RK[rows_M, places_M] - 1)
        columns = {
            "row": from_numpy(rows_M + first),
            "rank": from_numpy((places_M + 1).astype(np.int32)),
            "item": self._items.take(items_M),
            "score": from_numpy(scores_RK[rows_M, places_M]),
            "answered_by": pa.array(BY).take(from_numpy(by_R[rows_M])),
        }
        if self._form.users:
            users = asked.column("user").take(from_numpy(rows_M))
            columns["user"] = users.cast(pa.int64()) if self._form.whole_users else users
        if self._titles is not None:
            columns["title"] = self._titles.take(items_M)
        if self._form.because:
            events_M = events_RK[rows_M, places_M]
            places = pa.array(events_M - 1, mask=events_M == 0)
            columns["because"] = self._items.take(places)
        return pa.table({name: columns[name] for name in self.schema.names}, schema=self.schema)
