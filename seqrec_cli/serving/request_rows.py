"""Many requests at once, as columns: what of each row the model can read, by whole arrays.

A row is answered as a request of its own would be (`Recommending.known`): the user's logged events, or the history that
the row gives, without what the data do not know; where nothing is left, by popularity. What no request may say is
refused with the row's number.

Legend: R rows of a chunk, N events that they give, M known ones, F context attributes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.arrow import codes_of, mask_of, to_numpy
from seqrec_cli.data.context import logged_context, of_times, told_context
from seqrec_cli.data.histories import Histories, logged_histories
from seqrec_cli.serving.moments import LATEST
from seqrec_cli.serving.recommending import Recommending

WHOLE = r"^(0|-?[1-9][0-9]{0,17})$"  # a user's id that comes back as a number


@dataclass(frozen=True)
class Group:
    """Histories that have the same inputs, and which rows of the chunk they are."""

    rows_R: np.ndarray
    asked: Histories


class RequestRows:
    """A chunk of rows (`data.request_columns`), the first of which is row `first` of all.

    Raises SeqrecError, naming the row, where one says what no request may.
    """

    def __init__(self, recommending: Recommending, table: pa.Table, *, first: int, label: str) -> None:
        self._recommending, self._table = recommending, table
        self._first, self._label = first, label
        self.count = len(table)
        self.users_R = self._codes("users", "user") if "user" in table.column_names else np.zeros(self.count, np.int64)
        self.told_R = self._given("history")
        self._read_history()
        self._read_times()
        self._check_context()
        self._check_needs()

    def groups(self) -> Iterator[Group]:
        """The rows that the model answers."""
        logged_R = np.flatnonzero(~self.told_R & (self.users_R > 0))
        if len(logged_R):
            yield Group(logged_R, logged_histories(self._recommending.log, self.users_R[logged_R] - 1))
        for timed in (False, True):
            for asked in (False, True):
                rows_R = np.flatnonzero(self._read_R & (self._timed_R == timed) & (self._asked_R == asked))
                if len(rows_R):
                    yield Group(rows_R, self._histories(rows_R, timed=timed, asked=asked))

    @property
    def cold_R(self) -> np.ndarray:
        """The rows of which nothing is known that the model could read."""
        return np.flatnonzero(np.where(self.told_R, ~self._read_R, self.users_R == 0))

    @property
    def unknown_items(self) -> int:
        """Events whose item the data do not have."""
        return int((self._codes_N == 0).sum())

    @property
    def events(self) -> int:
        """Events that the rows give."""
        return len(self._codes_N)

    @cached_property
    def _context_RF(self) -> tuple[np.ndarray | None, int]:
        """The rows' context, and how many of their values the data do not have: these are absent (0)."""
        log, strange = self._recommending.log, 0
        if not log.catalog.context_names:
            return None, 0
        values_RF = np.zeros((self.count, len(log.catalog.context_names)), np.int64)
        for column, name in enumerate(logged_context(log)):
            if name not in self._table.column_names:
                continue
            coded = self._array(name).dictionary_encode()
            codes = np.zeros(len(coded.dictionary) + 1, np.int64)
            for place, text in enumerate(coded.dictionary.to_pylist()):
                try:
                    told_RF = told_context(log, {name: text}, None)
                except SeqrecError:
                    codes[place] = -1
                    continue
                assert told_RF is not None
                codes[place] = told_RF[0, column]
            found_R = codes[codes_of(coded)]  # null is -1: the last, 0
            strange += int((found_R < 0).sum())
            values_RF[:, column] = np.maximum(found_R, 0)
        if log.time_context:
            values_RF[self._asked_R, -len(log.time_context) :] = of_times(
                log.time_context, self._asked_at_R[self._asked_R]
            )
        return values_RF, strange

    @property
    def unknown_context(self) -> int:
        """Values of context that the data do not have."""
        return self._context_RF[1]

    def _array(self, name: str) -> pa.Array:
        column = self._table.column(name)
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def _given(self, name: str) -> np.ndarray:
        if name not in self._table.column_names:
            return np.zeros(self.count, bool)
        return mask_of(self._array(name).is_valid())

    def _codes(self, kind: str, name: str) -> np.ndarray:
        """Indices from 1 of a column of ids; 0 for null and for what the data do not have."""
        return self._codes_of(kind, self._array(name))

    def _codes_of(self, kind: str, ids: pa.Array) -> np.ndarray:
        coded = ids.dictionary_encode()
        texts = coded.dictionary.to_pylist()
        assert kind in ("items", "users")
        known = np.append(self._recommending.codes("items" if kind == "items" else "users", texts), 0)
        found: np.ndarray = known[codes_of(coded)]
        return found

    def _read_history(self) -> None:
        self._lengths_R = np.zeros(self.count, np.int64)
        self._codes_N = np.zeros(0, np.int64)
        if "history" in self._table.column_names:
            histories = self._array("history")
            self._lengths_R = _lengths(histories)
            events = histories.flatten()
            self._rows_N = np.repeat(np.arange(self.count), self._lengths_R)
            if events.null_count:
                self._refuse_at(self._rows_N[~mask_of(events.is_valid())][0], "an item of the history is null")
            self._codes_N = self._codes_of("items", events)
        self._rows_N = np.repeat(np.arange(self.count), self._lengths_R)
        self._read_R = np.bincount(self._rows_N[self._codes_N > 0], minlength=self.count) > 0

    def _read_times(self) -> None:
        self._timed_R, self._times_N = self._given("times"), np.zeros(len(self._codes_N), np.int64)
        asked_R = self._given("asked_at")
        self._refuse(self._timed_R & ~self.told_R, "times goes with a history; of a user's logged events it is known")
        self._refuse(asked_R & ~self.told_R, "asked_at goes with a history; of a user's logged events it is known")
        if self._timed_R.any():
            times = self._array("times")
            self._refuse(self._timed_R & (_lengths(times) != self._lengths_R), "times: give one for each event")
            of_timed_N = self._timed_R[self._rows_N]
            seconds = times.flatten()
            if seconds.null_count:
                at = int(np.flatnonzero(of_timed_N)[~mask_of(seconds.is_valid())][0])
                self._refuse_at(self._rows_N[at], "a time is null; give one for each event")
            self._times_N[of_timed_N] = to_numpy(seconds)
            self._refuse_events(np.abs(self._times_N) > LATEST, "times: not a time; give seconds since 1970")
            back_N = np.zeros(len(self._times_N), bool)
            back_N[1:] = (np.diff(self._times_N) < 0) & (np.diff(self._rows_N) == 0)
            self._refuse_events(back_N, "times: the history is not in their order; give the latest event last")
        # By default a request is asked at its latest event's time, known or not.
        latest_R = np.zeros(self.count, np.int64)
        dated_R = self._timed_R & (self._lengths_R > 0)
        latest_R[dated_R] = self._times_N[(np.cumsum(self._lengths_R) - 1)[dated_R]]
        self._asked_at_R, self._asked_R = latest_R, asked_R | dated_R
        if asked_R.any():
            given_R = to_numpy(pc.fill_null(self._array("asked_at"), 0))
            self._refuse(asked_R & (np.abs(given_R) > LATEST), "asked_at: not a time; give seconds since 1970")
            self._refuse(asked_R & dated_R & (given_R < latest_R), "asked_at lies before the latest event")
            self._asked_at_R = np.where(asked_R, given_R, latest_R)

    def _check_context(self) -> None:
        for name in self._recommending.log.catalog.context_names:
            self._refuse(
                self._given(name) & ~self.told_R, f"{name} goes with a history; of a user's logged events it is known"
            )

    def _check_needs(self) -> None:
        """What the model reads of a history, and a row does not say."""
        model, log = self._recommending, self._recommending.log
        if model.reads("context_BLF"):
            names = ", ".join(log.catalog.context_names)
            self._refuse(
                self._read_R, f"model={model.name} reads the context of every event ({names}), which no history tells"
            )
        if model.reads("times_BL", "request_times_B"):
            self._refuse(
                self._read_R & ~self._timed_R,
                f"model={model.name} reads when events happened: give times, seconds since 1970, one an event",
            )
        if model.reads("context_BF") and log.time_context:
            self._refuse(
                self._read_R & ~self._asked_R,
                f"model={model.name} reads the {log.time_context[0]} of a request: give asked_at",
            )

    def _histories(self, rows_R: np.ndarray, *, timed: bool, asked: bool) -> Histories:
        chosen_R = np.zeros(self.count, bool)
        chosen_R[rows_R] = True
        kept_N = (self._codes_N > 0) & chosen_R[self._rows_N]
        lengths_R = np.bincount(self._rows_N[kept_N], minlength=self.count)[rows_R]
        context_RF = self._context_RF[0]
        return Histories(
            users_R=self.users_R[rows_R],
            items_N=self._codes_N[kept_N],
            starts_R=np.cumsum(lengths_R) - lengths_R,
            ends_R=np.cumsum(lengths_R),
            times_N=self._times_N[kept_N] if timed else None,
            asked_at_R=self._asked_at_R[rows_R] if asked else None,
            context_RF=None if context_RF is None else context_RF[rows_R],
        )

    def _refuse_events(self, wrong_N: np.ndarray, why: str) -> None:
        if wrong_N.any():
            self._refuse_at(self._rows_N[wrong_N][0], why)

    def _refuse(self, wrong_R: np.ndarray, why: str) -> None:
        if wrong_R.any():
            self._refuse_at(np.flatnonzero(wrong_R)[0], why)

    def _refuse_at(self, row: np.integer, why: str) -> None:
        raise SeqrecError(f"{self._label}: row {self._first + int(row)}: {why}")


def _lengths(lists: pa.Array) -> np.ndarray:
    return to_numpy(pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64()))


@dataclass(frozen=True)
class Survey:
    """What requests are like."""

    rows: int
    users: bool  # some are named
    whole_users: bool  # by whole numbers alone


def surveyed(tables: Iterable[pa.Table], recommending: Recommending, *, label: str) -> Survey:
    """Look at all requests before the first is answered. Raises SeqrecError for what no request may say, for no
    requests, and for histories of which the data know no item: whose ids, or whose separator, are others."""
    count, users, others, events, unknown = 0, 0, 0, 0, 0
    for table in tables:
        rows = RequestRows(recommending, table, first=count, label=label)
        count, events, unknown = count + rows.count, events + rows.events, unknown + rows.unknown_items
        if "user" in table.column_names:
            named = table.column("user").drop_null()
            users += len(named)
            others += len(named) - (pc.sum(pc.match_substring_regex(named, WHOLE)).as_py() or 0)
    if not count:
        raise SeqrecError(f"{label}: it holds no rows")
    if events and unknown == events:
        ids = f"ids such as {recommending.items[0]}, {recommending.items[-1]}"
        raise SeqrecError(
            f"{label}: none of the {events:,} items of its histories is in the data ({ids}); are these raw ids, and "
            "does sequence_separator part them?"
        )
    return Survey(count, users > 0, users > 0 and not others)
