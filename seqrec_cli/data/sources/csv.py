"""Any log in files of delimited text, JSON lines or Parquet, a row an event or a user; its columns are named here."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from seqrec_cli.config.dataset_text import TextConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.attribute_tables import (
    Described,
    attribute_tables,
    columns_of_log,
    describe,
    named,
    numeric_attributes,
)
from seqrec_cli.data.column_guess import ALIASES, guessed
from seqrec_cli.data.columns import Column, Columns, NoColumnError
from seqrec_cli.data.event_columns import labels, odd_ids, order_key, sessions, weights
from seqrec_cli.data.given_splits import check_order
from seqrec_cli.data.lists import Lists, is_list
from seqrec_cli.data.numbers import categories_of_numbers
from seqrec_cli.data.raw import RawLog
from seqrec_cli.data.remote import Address
from seqrec_cli.data.tables import read_log, split_column, splits_of
from seqrec_cli.data.tidy import tidied
from seqrec_cli.data.times import TimeUnit, read_times


class Config(TextConfig):
    """Which columns hold what. A column is a name, or a position from 0."""

    came_later: ClassVar[frozenset[str]] = TextConfig.came_later | frozenset(
        {"session_column", "owner_column", "order_columns", "label_column", "weight_column"}
        | {"split_column", "split_leaks", "sequence_separator"}
    )

    user_column: str | int = Field(description="column of user ids: a name, or a position from 0")
    item_column: str | int = Field(description="column of item ids")
    time_column: str | int | None = Field(description="column of times; null: the file is in order")
    time_unit: TimeUnit = Field(
        description="numbers since 1970, ISO 8601 text, dates as 20190301, numbers that only give an order, or a form "
        "of text by strptime's codes; auto: recognised by their range or form"
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
    context_columns: tuple[str | int, ...] = Field(
        description="categorical columns of the event: known when it is predicted (device, city)"
    )
    owner_column: str | int | None = Field(
        description="column of the item that holds its owner's user id, for metrics of owners; null for none"
    )
    session_column: str | int | None = Field(description="column of session ids, for protocol=sessions; null for none")
    split_column: str | int | None = Field(
        description="column that says whether an event trains, validates or tests, for protocol=given"
    )
    split_leaks: bool = Field(
        description="take held-out events that are older than what their user trains on; else they are refused"
    )
    sequence_separator: str | None = Field(
        min_length=1,
        description="a sequence a row: text between the items of one field (lists of Parquet and JSON are recognised)",
    )

    @model_validator(mode="after")
    def _one_split(self) -> Self:
        files = [name for name in ("valid_file", "test_file") if getattr(self, name) is not None]
        if self.split_column is not None and files:
            raise ValueError(f"dataset.split_column and dataset.{files[0]}: the split is in one of them, not in both")
        if self.label_column is not None and (files or self.split_column is not None):
            raise ValueError("dataset.label_column: labelled rows have no split of their own; leave the split out")
        return self

    @property
    def features(self) -> tuple[str | int, ...]:
        return (*super().features, *self.context_columns)

    @property
    def logs_impressions(self) -> bool:
        return self.label_column is not None

    @property
    def weighs_events(self) -> bool:
        return self.weight_column is not None


def wanted_columns(cfg: Config) -> list[Column]:
    """The columns that the settings name."""
    main = (cfg.user_column, cfg.item_column, cfg.time_column, cfg.rating_column)
    others = (cfg.session_column, cfg.owner_column, cfg.label_column, cfg.weight_column, cfg.split_column)
    wanted = [column for column in (*main, *others, *cfg.order_columns) if column is not None]
    return [*wanted, *columns_of_log(cfg), *cfg.context_columns]


class Roles(NamedTuple):
    """Columns by what may stand in them (`tidied`)."""

    ids: Sequence[Column]
    values: Sequence[Column]
    others: Sequence[Column]
    numbers: Sequence[Column]


def roles_of(cfg: Config, wanted: Sequence[Column], several: Collection[Column]) -> Roles:
    """`several` are the columns of attributes that hold lists."""
    return Roles(
        (cfg.user_column, cfg.item_column),
        [column for column in (cfg.time_column, cfg.rating_column) if column is not None],
        [column for column in wanted[2:] if column not in (cfg.time_column, cfg.rating_column, *several)],
        [column for column in wanted if column in (cfg.weight_column, *cfg.order_columns, *cfg.numeric_columns)],
    )


def read(cfg: Config, path: Path | Address) -> RawLog:
    """The events, in the order of the files. An attribute of an item or user is that of its first row that has one."""
    wanted = wanted_columns(cfg)

    def parse(data: bytes | Path, label: str, columns: Sequence[Column]) -> Columns:
        return Columns.parse(
            data,
            label,
            delimiter=cfg.delimiter,
            columns=columns,
            names=cfg.columns,
            header=cfg.header,
            quoted=cfg.quoted,
            encoding=cfg.encoding,
            coded=[column for column in columns if column != cfg.time_column],
        )

    of_users, attributes = {cfg.user_column, *cfg.user_attribute_columns}, columns_of_log(cfg)
    lists = Lists(cfg.item_column, cfg.sequence_separator, of_users, attributes)
    try:
        whole = read_log(cfg, path, wanted, parse=parse, lists=lists)
    except NoColumnError as error:
        raise SeqrecError(without_column(cfg, error)) from None
    refuse_one_column(cfg, whole.known)
    if not len(whole):
        raise SeqrecError(f"{whole.label} holds no events, only names of columns")
    several = [column for column in attributes if is_list(whole.values(column))]
    columns = tidied(whole, cfg.missing, **roles_of(cfg, wanted, several)._asdict())
    notes = [*columns.notes, *not_read(whole.known, wanted)]
    users_N, items_N = columns.ids(cfg.user_column), columns.ids(cfg.item_column)
    notes += [*odd_ids(columns, cfg.user_column), *odd_ids(columns, cfg.item_column)]
    times = None
    if cfg.time_column is not None:
        times = read_times(columns.time_column(cfg.time_column), cfg.time_unit)
        notes += [times.said] * (cfg.time_unit == "auto" or times.outside or not times.per_second)
    labels_N = None if cfg.label_column is None else labels(columns, cfg.label_column, notes)
    splits_N = split_column(columns) if cfg.split_column is None else splits_of(columns, cfg.split_column)
    if splits_N is not None:
        notes += check_order(users_N, splits_N, None if times is None else times.ticks_N, keep=cfg.split_leaks)
    items = Described(columns, items_N)
    owned = () if cfg.owner_column is None else (cfg.owner_column,)
    owners = attribute_tables(items, owned, kind="item", separator=None, notes=notes)
    called = (cfg.item_column, cfg.user_column)
    known = describe(cfg, items, Described(columns, users_N), called=called, notes=notes)
    raw = RawLog(
        users_N,
        items_N,
        None if times is None else times.ticks_N,
        None if cfg.rating_column is None else columns.numbers(cfg.rating_column).astype(np.float32),
        known.items,
        known.users,
        {name: columns.texts(column) for name, column in named(cfg.context_columns).items()},
        numeric=numeric_attributes(cfg),
        notes=tuple(notes),
        place=columns.place,
        ticks_per_second=1 if times is None else times.per_second,
        titles=known.titles,
        item_owners=next(iter(owners.values()), None),
        sessions_N=None if cfg.session_column is None else sessions(columns, cfg.session_column),
        order_keys=tuple(order_key(columns, column) for column in cfg.order_columns),
        labels_N=labels_N,
        weights_N=None if cfg.weight_column is None else weights(columns, cfg.weight_column),
        splits_N=splits_N,
    )
    return replace(raw, notes=(*raw.notes, *categories_of_numbers(raw)))


def without_column(cfg: Config, error: NoColumnError) -> str:
    """What to set where a column is not there, or there twice."""
    if error.column in error.known:
        place = list(error.known).index(str(error.column))
        return f"{error}; name one by its position (the first is 0): {_setting_of(cfg, error.column)}={place}"
    wanted = {name: getattr(cfg, name) for name in ALIASES}
    mend = guessed(error.known, wanted) if error.column in wanted.values() else None
    if mend is None:
        return f"{error}; see {_setting_of(cfg, error.column)}"
    near = re.search(r"; did you mean '(.*?)'[?]", str(error))
    said = str(error) if near is None or f"={near[1]}" in mend else str(error).replace(near[0], "")
    return f"{said}; give {mend}"


def refuse_one_column(cfg: Config, known: Sequence[str]) -> None:
    """Raises SeqrecError where users and items are said to be in one column."""
    names = [
        known[column] if isinstance(column, int) and known else column for column in (cfg.user_column, cfg.item_column)
    ]
    if names[0] == names[1]:
        raise SeqrecError(
            f"dataset.user_column={cfg.user_column} and dataset.item_column={cfg.item_column} name the same column; "
            "users and items are in two"
        )


def not_read(known: Sequence[str], wanted: Sequence[Column]) -> list[str]:
    """A note of the columns that no setting names: they may hold labels, ratings or attributes."""
    used = {column if isinstance(column, str) else known[column] for column in wanted if known}
    left = [name for name in known if not used & {name, name.partition(":")[0]} and not name.isdigit()]
    shown = ", ".join(left[:10]) + f" and {len(left) - 10} more" * (len(left) > 10)
    return [f"columns not read, for no setting names them: {shown}"] if left else []


def _setting_of(cfg: Config, column: Column) -> str:
    """The setting that names this column."""
    values = {name: getattr(cfg, name) for name in type(cfg).model_fields if name.endswith(("_column", "_columns"))}
    return next(
        f"dataset.{name}"
        for name, value in values.items()
        if column == value or (isinstance(value, tuple) and column in value)
    )
