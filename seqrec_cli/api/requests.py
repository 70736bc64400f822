"""Whom a question is about: users of the data, or histories that come with the question, in whatever form.

Legend: R users or histories.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from seqrec_cli.api.frames import collected, columns_of, is_frame, names_of, to_arrow
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.histories import Histories, joined, logged_histories
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.times import TimeUnit
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId, Request

SHOWN = 5  # unknown items named in a warning


@dataclass(frozen=True)
class Names:
    """What the columns of a frame of events are called."""

    user: str
    item: str
    time: str | None
    time_unit: TimeUnit


def names_in(dataset: Any) -> Names:
    """What a run's own data (its dataset's settings) call them."""
    names = Names("user", "item", "time", "s")
    if dataset.source == "csv" and isinstance(dataset.user_column, str) and isinstance(dataset.item_column, str):
        time = dataset.time_column if isinstance(dataset.time_column, str) else names.time
        names = Names(dataset.user_column, dataset.item_column, time, dataset.time_unit)
    if dataset.predict == "users":
        names = Names(names.item, names.user, names.time, names.time_unit)
    return names


@dataclass(frozen=True)
class Asked:
    """Histories and their labels: raw user ids (`kind` is "user"), or their number from 0 ("row")."""

    kind: str
    labels_R: np.ndarray
    histories: Histories


def as_list(values: Any) -> list[Any]:
    """One id, or several in a list, array or series, as a list of Python's own values."""
    if isinstance(values, str | int | np.integer):
        return [values]
    for method in ("tolist", "to_list", "to_pylist"):  # arrays and pandas; polars; Arrow
        if hasattr(values, method):
            plain = getattr(values, method)()
            return plain if isinstance(plain, list) else [plain]
    return list(values)


def ids_of(values: Any, column: str, what: str) -> list[Any]:
    """Raw ids; of a frame, those of its column, each once."""
    if is_frame(values):
        values = dict.fromkeys(columns_of(to_arrow(values, [column])).ids(column).tolist())
    ids = as_list(values)
    if not ids:
        raise SeqrecError(f"{what}: none is given")
    return ids


def asked_about(
    recommending: Recommending,
    log: PackedLog,
    user_ids: np.ndarray,
    *,
    names: Names,
    users: Any,
    histories: Any,
    times: Any,
    asked_at: Any,
    context: Any,
) -> Asked:
    """Users of the data (None: all), or histories (with `users`: whose they are).

    Raises SeqrecError for a user the data do not have, a history without a known item, and what does not fit together.
    """
    if histories is None:
        for name, value in (("times", times), ("asked_at", asked_at), ("context", context)):
            if value is not None:
                raise SeqrecError(f"{name} goes with histories; of the data's own users it is known")
        if users is None:
            return Asked("user", user_ids, logged_histories(log, np.arange(log.num_users)))
        logged = recommending.logged(ids_of(users, names.user, "users"))
        return Asked("user", user_ids[logged.users_R - 1], logged)
    if is_frame(histories):
        if users is not None or times is not None:
            raise SeqrecError("histories: a frame has users and times in its own columns; leave users and times out")
        users, histories, times = _of_frame(histories, names)
    elif isinstance(histories, Mapping):
        if users is not None:
            raise SeqrecError("histories: a mapping names its users; leave users out")
        users, histories = list(histories), list(histories.values())
        times = [times[user] for user in users] if isinstance(times, Mapping) else times
    else:
        histories, times = _nested(histories, "histories"), None if times is None else _nested(times, "times")
    if isinstance(context, Mapping) and not all(isinstance(name, str) for name in context):
        raise SeqrecError("context: name attributes, {'device': 'tv'}, for all or in a list, one for each")
    count = len(histories)
    whose = None if users is None else ids_of(users, names.user, "users")
    requests = [
        Request(user, history, seconds, at, known, top=1, repeats=False)
        for user, history, seconds, at, known in zip(
            _each(whose, count, "users"),
            histories,
            _each(times, count, "times"),
            _each(_seconds(asked_at), count, "asked_at"),
            _each(context, count, "context", absent={}),
            strict=True,
        )
    ]
    if not requests:
        raise SeqrecError("histories: none is given")
    labels = np.arange(count) if whose is None else np.array([*whose, None], object)[:-1]
    return Asked("row" if whose is None else "user", labels, _of_requests(recommending, requests))


def _of_requests(recommending: Recommending, requests: Sequence[Request]) -> Histories:
    parts, unknown = [], list[RawId]()
    for row, request in enumerate(requests):
        try:
            part, left_out = recommending.given(request)
        except SeqrecError as error:
            who = f"history {row}" if request.user is None else f"history of user {request.user}"
            raise SeqrecError(f"{who}: {error}" if len(requests) > 1 else str(error)) from None
        parts.append(part)
        unknown += left_out
    if unknown:
        distinct = list(dict.fromkeys(map(str, unknown)))
        more = f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else ""
        line = f"items that the data do not have are left out: {', '.join(distinct[:SHOWN])}{more}"
        warnings.warn(line, UserWarning, stacklevel=5)
    return joined(parts)


def _of_frame(frame: Any, names: Names) -> tuple[list[Any], list[list[Any]], list[list[int]] | None]:
    """Users in the order they come, their items, and their times: by time where the frame has them."""
    frame = collected(frame)
    time = names.time if names.time in names_of(frame) else None
    columns = columns_of(to_arrow(frame, [names.user, names.item, *([time] if time else [])]))
    users_N, items_N, seconds_N = columns.ids(names.user), columns.ids(names.item), None
    order_N = np.arange(len(users_N))
    if time is not None:
        ticks_N, ticks = columns.times(time, names.time_unit)
        order_N, seconds_N = np.argsort(ticks_N, kind="stable"), ticks_N // ticks if ticks else None
    rows: dict[Any, list[int]] = {user: [] for user in users_N.tolist()}
    for event, user in zip(order_N.tolist(), users_N[order_N].tolist(), strict=True):
        rows[user].append(event)
    items = [items_N[events].tolist() for events in rows.values()]
    return list(rows), items, None if seconds_N is None else [seconds_N[events].tolist() for events in rows.values()]


def _nested(values: Any, name: str) -> list[list[Any]]:
    """Several lists; one that holds ids stands for itself."""
    lists = as_list(values)
    if lists and all(isinstance(each, str | int | np.integer) for each in lists):
        return [lists]
    if any(isinstance(each, str | int | float | None) for each in lists):
        raise SeqrecError(f"{name}: give a list for each, or one list of ids")
    return [as_list(each) for each in lists]


def _each(values: Any, count: int, name: str, *, absent: Any = None) -> list[Any]:
    """A value for each of `count`: one for all, or a list."""
    if values is None or isinstance(values, str | int | Mapping):
        return [absent if values is None else values] * count
    given = as_list(values)
    if len(given) != count:
        raise SeqrecError(f"{name}: {len(given)} for {count} histories; give one for each")
    return given


def _seconds(moments: Any) -> Any:
    """Datetimes as seconds since 1970 (UTC, where they name no zone)."""
    if moments is None or isinstance(moments, int | np.integer):
        return moments if moments is None else int(moments)
    if isinstance(moments, datetime):
        return int((moments if moments.tzinfo else moments.replace(tzinfo=UTC)).timestamp())
    return [_seconds(moment) for moment in as_list(moments)]
