"""Any log in one delimited file (also compressed) or Parquet file, a row an event; its columns are named here."""

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.numbers import categories_of_numbers
from seqrec_cli.data.raw import AttributeTable, RawLog
from seqrec_cli.data.vocabulary import factorize, first_rows

PARQUET = (".parquet", ".pq")


class Config(DatasetConfig):
    """Which columns hold what. A column is a name, or a position from 0."""

    came_later: ClassVar[frozenset[str]] = frozenset({"session_column", "owner_column", "numeric_columns"})

    user_column: str | int = Field(description="column of user ids: a name, or a position from 0")
    item_column: str | int = Field(description="column of item ids")
    time_column: str | int | None = Field(description="column of times; null: the file is in order")
    time_unit: Literal["s", "ms", "us", "ns", "iso"] = Field(description="numbers since 1970, or ISO 8601 text")
    rating_column: str | int | None = Field(description="column of ratings; null for none")
    delimiter: str = Field(min_length=1, max_length=1, description="character between fields (not for Parquet)")
    header: bool = Field(description="whether the first line holds the columns' names (not for Parquet)")
    columns: tuple[str, ...] | None = Field(description="names for the columns of a file without header")
    item_attribute_columns: tuple[str | int, ...] = Field(description="categorical columns of the item")
    user_attribute_columns: tuple[str | int, ...] = Field(description="categorical columns of the user")
    context_columns: tuple[str | int, ...] = Field(
        description="categorical columns of the event: known when it is predicted (device, city)"
    )
    numeric_columns: tuple[str | int, ...] = Field(
        description="those of these columns whose values are numbers, not categories (price, age)"
    )
    owner_column: str | int | None = Field(
        description="column of the item that holds its owner's user id, for metrics of owners; null for none"
    )
    session_column: str | int | None = Field(description="column of session ids, for protocol=sessions; null for none")
    value_separator: str | None = Field(
        min_length=1, description="text between several values in one attribute field; null: one value a field"
    )

    @model_validator(mode="after")
    def _one_naming(self) -> Self:
        if self.header and self.columns is not None:
            raise ValueError("dataset.columns names the columns of a file without header; set dataset.header=false")
        return self

    @model_validator(mode="after")
    def _numbers_of_something(self) -> Self:
        for column in self.numeric_columns:
            if column not in self.features:
                raise ValueError(
                    f"dataset.numeric_columns: {column} is in none of item_attribute_columns, user_attribute_columns "
                    "and context_columns; add it to the one that says whose number it is"
                )
        return self

    @property
    def features(self) -> tuple[str | int, ...]:
        return (*self.item_attribute_columns, *self.user_attribute_columns, *self.context_columns)


def read(cfg: Config, path: Path) -> RawLog:
    """The file's events. An attribute of an item or user is taken from its first row that has one."""
    named = (cfg.user_column, cfg.item_column, cfg.time_column, cfg.rating_column)
    wanted = [column for column in named if column is not None]
    wanted += [column for column in (cfg.session_column, cfg.owner_column) if column is not None]
    wanted += cfg.features
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
            quoted=True,
        )
    users_N, items_N = columns.ids(cfg.user_column), columns.ids(cfg.item_column)
    times_N, ticks = (None, 1) if cfg.time_column is None else columns.times(cfg.time_column, cfg.time_unit)
    notes: list[str] = []
    owned = () if cfg.owner_column is None else (cfg.owner_column,)
    owners = _attributes(columns, owned, items_N, kind="item", separator=None, notes=notes)
    raw = RawLog(
        users_N,
        items_N,
        times_N,
        None if cfg.rating_column is None else columns.numbers(cfg.rating_column).astype(np.float32),
        _attributes(
            columns, cfg.item_attribute_columns, items_N, kind="item", separator=cfg.value_separator, notes=notes
        ),
        _attributes(
            columns, cfg.user_attribute_columns, users_N, kind="user", separator=cfg.value_separator, notes=notes
        ),
        {_attribute_name(name): columns.texts(name) for name in cfg.context_columns},
        numeric=frozenset(map(_attribute_name, cfg.numeric_columns)),
        notes=tuple(notes),
        ticks_per_second=ticks,
        item_owners=next(iter(owners.values()), None),
        sessions_N=None if cfg.session_column is None else columns.texts(cfg.session_column)[0].astype(np.int32),
    )
    return replace(raw, notes=(*raw.notes, *categories_of_numbers(raw)))


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
