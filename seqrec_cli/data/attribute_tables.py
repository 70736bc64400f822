"""Attributes of items and users by raw id, from columns of the log or of a file beside it.

An attribute of an item or user is taken from its first row that has one. Legend: N rows.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.dataset_files import FilesConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.lists import is_list
from seqrec_cli.data.parts import find, located
from seqrec_cli.data.raw import AttributeTable
from seqrec_cli.data.tables import read_parts
from seqrec_cli.data.text_form import AUTO
from seqrec_cli.data.vocabulary import factorize, first_rows

JOINT = "\x1f"  # between the values of a list, which no text holds


class Described(NamedTuple):
    """Columns that say something of items or users, and the raw id that each row is of."""

    columns: Columns
    ids_N: np.ndarray


class Descriptions(NamedTuple):
    """What is known of items and users."""

    items: dict[str, AttributeTable]
    users: dict[str, AttributeTable]
    titles: AttributeTable | None


def columns_of_log(cfg: FilesConfig) -> list[Column]:
    """The attribute columns that the log itself holds: those of items and users without a file of their own."""
    titles = [] if cfg.title_column is None else [cfg.title_column]
    of_items = [*cfg.item_attribute_columns, *titles] if cfg.item_file is None else []
    return [*of_items, *(cfg.user_attribute_columns if cfg.user_file is None else ())]


def describe(
    cfg: FilesConfig, items: Described, users: Described, *, called: tuple[Column, Column], notes: list[str]
) -> Descriptions:
    """Attributes and titles, from files beside the log where these are set, else from the log's rows, which are given.

    `called` are the columns of item and user ids, in such files too where nothing else is said.
    """
    titles = () if cfg.title_column is None else (cfg.title_column,)
    if cfg.item_file is not None:
        ids = called[0] if cfg.item_file_id is None else cfg.item_file_id
        wanted = (*cfg.item_attribute_columns, *titles)
        items = beside("item", cfg.item_file, items.ids_N, wanted=(ids, *wanted), notes=notes)
    if cfg.user_file is not None:
        ids = called[1] if cfg.user_file_id is None else cfg.user_file_id
        users = beside("user", cfg.user_file, users.ids_N, wanted=(ids, *cfg.user_attribute_columns), notes=notes)
    separator = cfg.value_separator
    by_title = attribute_tables(items, titles, kind="item", separator=None, notes=notes)
    return Descriptions(
        attribute_tables(items, cfg.item_attribute_columns, kind="item", separator=separator, notes=notes),
        attribute_tables(users, cfg.user_attribute_columns, kind="user", separator=separator, notes=notes),
        next(iter(by_title.values()), None),
    )


def beside(
    kind: Literal["item", "user"], file: str, ids_N: np.ndarray, *, wanted: Sequence[Column], notes: list[str]
) -> Described:
    """The rows of a file beside the log that are of the log's ids, which `wanted` names first; what is missing on
    either side is counted. Raises SeqrecError where it describes none of them."""
    parts = find(located(file, f"dataset.{kind}_file"), f"dataset.{kind}_file")
    columns = read_parts(parts, wanted, parse=_parse)
    raw_N = columns.ids(wanted[0])
    of_log = {str(raw_id): raw_id for raw_id in factorize(ids_N)[0].tolist()}
    found = [of_log.get(str(raw_id)) for raw_id in raw_N.tolist()]
    known_N = np.array([raw_id is not None for raw_id in found], bool)
    if not known_N.any():
        raise SeqrecError(
            f"{columns.label} describes none of the log's {kind}s (its first {wanted[0]} is "
            f"{raw_N[0] if len(raw_N) else 'nothing'}, the log's {next(iter(of_log))}); is dataset.{kind}_file_id the "
            "column of the same ids?"
        )
    kept = [raw_id for raw_id in found if raw_id is not None]
    described = len(set(kept))
    said = f"{columns.label} describes {described:,} of {len(of_log):,} {kind}s"
    facts = {
        f"{len(of_log) - described:,} have no row": len(of_log) - described,
        f"{len(kept) - described:,} rows repeat an id (the first that has a value counts)": len(kept) - described,
        f"{int((~known_N).sum()):,} rows are of {kind}s the log lacks": int((~known_N).sum()),
    }
    notes += [f"{columns.label} {note}" for note in columns.notes]
    notes += ["; ".join([said, *(fact for fact, count in facts.items() if count)])]
    ids = np.array([*kept, None], object)[:-1] if ids_N.dtype == object else np.array(kept, np.int64)
    return Described(columns.where(known_N), ids)


def _parse(data: bytes | Path, label: str, columns: Sequence[Column]) -> Columns:
    return Columns.parse(data, label, delimiter=AUTO, columns=columns, header="auto", quoted=True, encoding=AUTO)


def attribute_tables(
    described: Described,
    names: Sequence[Column],
    *,
    kind: str,
    separator: str | None,
    notes: list[str],
) -> dict[str, AttributeTable]:
    """A table of each column. Text may hold several values, split by the separator; so may lists."""
    columns, tables = described.columns, {}
    for attribute, name in named(names).items():
        joint, codes_N, texts = texts_of(columns, name, separator)
        known_N = codes_N >= 0
        owners, owners_N = factorize(described.ids_N[known_N])
        codes_N = codes_N[known_N]
        picked = codes_N[first_rows(owners_N, len(owners))]
        differ = len(np.unique(owners_N[codes_N != picked[owners_N]]))
        if differ:
            notes.append(f"{differ} {kind}s have rows with differing {name}; each takes its first row's")
        values = [split_values(texts[code], joint) for code in picked]
        tables[attribute] = AttributeTable(owners, values)
    return tables


def numeric_attributes(cfg: FilesConfig) -> frozenset[str]:
    """The attributes whose values are numbers, by name."""
    return frozenset(map(attribute_name, cfg.numeric_columns))


def named(columns: Sequence[Column]) -> dict[str, Column]:
    """Columns by their names as attributes. Raises SeqrecError where two have one name: one would take the other's
    place."""
    found: dict[str, Column] = {}
    for column in columns:
        name = attribute_name(column)
        if found.setdefault(name, column) != column:
            raise SeqrecError(
                f"columns '{found[name]}' and '{column}' are both called {name} as attributes; rename one"
            )
    return found


def attribute_name(name: Column) -> str:
    """What a column is called as an attribute, in names of files too."""
    return re.sub(r"\W+", "_", f"column_{name}" if isinstance(name, int) else name)


def texts_of(columns: Columns, name: Column, separator: str | None) -> tuple[str | None, np.ndarray, list[str]]:
    """What separates values, codes int32 [N] (-1: none), and the text of each code."""
    values = columns.array(name)
    if not is_list(values):
        return (separator, *columns.texts(name))
    texts = pc.fill_null(values.cast(pa.list_(pa.string())), [])
    return (JOINT, *columns.replaced(name, pc.binary_join(texts, JOINT)).texts(name))


def split_values(text: str, separator: str | None) -> tuple[str, ...]:
    """The values of a field, each once."""
    parts = [text] if separator is None else text.split(separator)
    return tuple(dict.fromkeys(part for part in parts if part))
