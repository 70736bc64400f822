"""Context of a request: what was logged with an event (device, city), and, if asked for, the hour and weekday.

Legend: N events, F context attributes; `...` is any shape of requests. A request is asked at an event, its target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from seqrec_cli.config.dataset import TIME_CONTEXT
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.blocks import row_blocks
from seqrec_cli.data.catalog import Attribute
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.numbers import nearest_level, number_of

DAY, HOUR = 86_400, 3_600
# UTC; value 1 is the first of these (0: absent).
TIME_VALUES = {"hour": tuple(map(str, range(24))), "weekday": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")}
FIRST_WEEKDAY = 3  # 1970-01-01 was a Thursday


def with_time_context(log: PackedLog, names: Sequence[str]) -> PackedLog:
    """The log, the hour or weekday of each request (its target's own time) added to their context."""
    if not names:
        return log
    if log.times_N is None:
        raise SeqrecError(f"dataset.time_context={list(names)}, but {log.without_times}; set it to []")
    known = {attribute.name for attribute in log.catalog.context_attributes}
    for name in names:
        if name in known:
            raise SeqrecError(f"dataset.time_context: the log already has a context attribute '{name}'; leave it out")
        found: set[int] = set()
        for rows in row_blocks(len(log.times_N)):
            found |= set(np.unique(of_times([name], np.asarray(log.times_N[rows]))).tolist())
            if len(found) > 1:
                break
        if len(found) == 1:
            value = TIME_VALUES[name][found.pop() - 1]
            raise SeqrecError(
                f"dataset.time_context: the {name} is {value} at every event, so it can tell nothing; leave it out"
            )
    added = tuple(Attribute(name, len(TIME_VALUES[name]) + 1, 1) for name in TIME_CONTEXT if name in names)
    catalog = replace(log.catalog, context_attributes=(*log.catalog.context_attributes, *added))
    return replace(log, catalog=catalog, time_context=tuple(attribute.name for attribute in added))


def contexts(log: PackedLog, events: np.ndarray) -> np.ndarray | None:
    """Context [..., F] (int64) of requests at these absolute log positions [...]; None where the log has none."""
    logged = None if log.context_NF is None else log.context_NF[events]
    return context_of(log, logged, None if log.times_N is None else log.times_N[events])


def context_of(log: PackedLog, logged: np.ndarray | None, times: np.ndarray | None) -> np.ndarray | None:
    """Context [..., F] (int64) of requests by what was logged with them and the seconds they were asked at; None where
    the log has none."""
    if not log.catalog.context_attributes:
        return None
    parts = [] if logged is None else [np.asarray(logged, np.int64)]
    if log.time_context:
        assert times is not None
        parts.append(of_times(log.time_context, np.asarray(times, np.int64)))
    return np.concatenate(parts, axis=-1)


def of_times(names: Sequence[str], times: np.ndarray) -> np.ndarray:
    """[...] seconds -> [..., len(names)]."""
    values = {"hour": times // HOUR % 24, "weekday": (times // DAY + FIRST_WEEKDAY) % 7}
    return np.stack([values[name] + 1 for name in names], axis=-1)


def logged_context(log: PackedLog) -> tuple[str, ...]:
    """The context attributes that were logged, which a request may tell; hour and weekday follow from its time."""
    names = log.catalog.context_names
    return names[: len(names) - len(log.time_context)]


def told_context(log: PackedLog, told: Mapping[str, str], asked_at: int | None) -> np.ndarray | None:
    """Context [1, F] of a request that is not in the log; what `told` lacks is absent (0). None where the log has
    none. Raises SeqrecError on an attribute or a value that the data do not have."""
    names, logged = log.catalog.context_names, logged_context(log)
    for name in told:
        if name not in logged:
            have = ", ".join(logged) or "none"
            raise SeqrecError(f"context.{name}: the data have no such context{nearest(name, logged)} (have: {have})")
    if not names:
        return None
    values = []
    for name in logged:
        texts = list(log.manifest["context_values"][name])
        if name in told and name in log.catalog.context_ranks:
            number = number_of(told[name], f"context.{name}")
            levels = np.array([float(text) for text in texts])
            values.append(0 if np.isnan(number) else 1 + int(nearest_level(levels, np.array(number))))
            continue
        if name in told and told[name] not in texts:
            raise SeqrecError(f"context.{name}={told[name]}: no such value{nearest(told[name], texts)}")
        values.append(1 + texts.index(told[name]) if name in told else 0)
    if log.time_context:
        absent = [0] * len(log.time_context)
        values += absent if asked_at is None else of_times(log.time_context, np.array(asked_at)).tolist()
    return np.array([values], np.int64)
