"""Any log in one delimited file (also compressed) or Parquet file, a row an event; its columns are named here."""

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from seqrec_cli.config.dataset_text import TextConfig
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.event_columns import labels, order_key, sessions, weights
from seqrec_cli.data.raw import AttributeTable, RawLog
from seqrec_cli.data.tidy import tidied
from seqrec_cli.data.times import TimeUnit, read_times
from seqrec_cli.data.vocabulary import factorize, first_rows

PARQUET = (".parquet", ".pq")


class Config(TextConfig):
    """Which columns hold what. A column is a name, or a position from 0."""

    came_later: ClassVar[frozenset[str]] = frozenset(
        {"session_column", "owner_column", "order_columns", "label_column", "weight_column"}
    )

    user_column: str | int = Field(description="column of user ids: a name, or a position from 0")
    item_column: str | int = Field(description="column of item ids")
    time_column: str | int | None = Field(description="column of times; null: the file is in order")
    time_unit: TimeUnit = Field(
        description="numbers since 1970, ISO 8601 text, dates as 20190301, or numbers that only give an order; auto: "
        "recognised by their range"
    )
    order_columns: tuple[str | int, ...] = Field(
        description="columns of numbers or times that order a user's events of equal time (a position within the day)"
    )
    label_column: str | int | None = Field(
        description="column of 0 and 1: shown, and clicked (the events); for protocol=impressions; null for none"
    )
    weight_column: str | int | None = Field(
        description="column of positive numbers: how much an event counts as a training target; null: all alike"
    )
    rating_column: str | int | None = Field(description="column of ratings; null for none")
    item_attribute_columns: tuple[str | int, ...] = Field(description="categorical columns of the item")
    user_attribute_columns: tuple[str | int, ...] = Field(description="categorical columns of the user")
    context_columns: tuple[str | int, ...] = Field(
        description="categorical columns of the event: known when it is predicted (device, city)"
    )
    owner_column: str | int | None = Field(
        description="column of the item that holds its owner's user id, for metrics of owners; null for none"
    )
    session_column: str | int | None = Field(description="column of session ids, for protocol=sessions; null for none")
    value_separator: str | None = Field(
        min_length=1, description="text between several values in one attribute field; null: one value a field"
    )

    @property
    def logs_impressions(self) -> bool:
        return self.label_column is not None

    @property
    def weighs_events(self) -> bool:
        return self.weight_column is not None


def read(cfg: Config, path: Path) -> RawLog:
    """The file's events. An attribute of an item or user is taken from its first row that has one."""
    named = (cfg.user_column, cfg.item_column, cfg.time_column, cfg.rating_column)
    wanted = [column for column in named if column is not None]
    others = (cfg.session_column, cfg.owner_column, cfg.label_column, cfg.weight_column)
    wanted += [column for column in (*others, *cfg.order_columns) if column is not None]
    wanted += [*cfg.item_attribute_columns, *cfg.user_attribute_columns, *cfg.context_columns]
    if path.suffix.lower() in PARQUET:
        columns = Columns.parquet(path, wanted)
    else:
        columns = Columns.parse(
            path,
            path.name,
            delimiter=cfg.delimiter,
            columns=wanted,
            names=cfg.columns,
            header=cfg.header,
            quoted=cfg.quoted,
            encoding=cfg.encoding,
            coded=[column for column in wanted if column != cfg.time_column],
        )
    columns = tidied(
        columns,
        cfg.missing,
        ids=(cfg.user_column, cfg.item_column),
        values=[column for column in (cfg.time_column, cfg.rating_column) if column is not None],
        others=[column for column in wanted[2:] if column not in (cfg.time_column, cfg.rating_column)],
    )
    users_N, items_N = columns.ids(cfg.user_column), columns.ids(cfg.item_column)
    notes = list(columns.notes)
    times = None
    if cfg.time_column is not None:
        times = read_times(columns.time_column(cfg.time_column), cfg.time_unit)
        notes += [times.said] * (cfg.time_unit == "auto" or times.outside or not times.per_second)
    labels_N = None if cfg.label_column is None else labels(columns, cfg.label_column, notes)
    owned = () if cfg.owner_column is None else (cfg.owner_column,)
    owners = _attributes(columns, owned, items_N, kind="item", separator=None, notes=notes)
    return RawLog(
        users_N,
        items_N,
        None if times is None else times.ticks_N,
        None if cfg.rating_column is None else columns.numbers(cfg.rating_column).astype(np.float32),
        _attributes(
            columns, cfg.item_attribute_columns, items_N, kind="item", separator=cfg.value_separator, notes=notes
        ),
        _attributes(
            columns, cfg.user_attribute_columns, users_N, kind="user", separator=cfg.value_separator, notes=notes
        ),
        {_attribute_name(name): columns.texts(name) for name in cfg.context_columns},
        notes=tuple(notes),
        place=columns.place,
        ticks_per_second=1 if times is None else times.per_second,
        item_owners=next(iter(owners.values()), None),
        sessions_N=None if cfg.session_column is None else sessions(columns, cfg.session_column),
        order_keys=tuple(order_key(columns, column) for column in cfg.order_columns),
        labels_N=labels_N,
        weights_N=None if cfg.weight_column is None else weights(columns, cfg.weight_column),
    )


def _attributes(
    columns: Columns,
    names: tuple[Column, ...],
    ids_N: np.ndarray,
    *,
    kind: str,
    separator: str | None,
    notes: list[str],
) -> dict[str, AttributeTable]:
    tables = {}
    for name in names:
        codes_N, texts = columns.texts(name)
        known_N = codes_N >= 0
        owners, owners_N = factorize(ids_N[known_N])
        codes_N = codes_N[known_N]
        picked = codes_N[first_rows(owners_N, len(owners))]
        differ = len(np.unique(owners_N[codes_N != picked[owners_N]]))
        if differ:
            notes.append(f"{differ} {kind}s have rows with differing {name}; each takes its first row's")
        values = [_split(texts[code], separator) for code in picked]
        tables[_attribute_name(name)] = AttributeTable(owners, values)
    return tables


def _attribute_name(name: Column) -> str:
    return re.sub(r"\W+", "_", f"column_{name}" if isinstance(name, int) else name)


def _split(text: str, separator: str | None) -> tuple[str, ...]:
    parts = [text] if separator is None else text.split(separator)
    return tuple(dict.fromkeys(part for part in parts if part))
