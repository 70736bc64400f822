"""What is known of items and users of a large log, and the words that reading it has: in the order of a small log's.

Legend: V items or users of the raw log, K those that stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from seqrec_cli.data.arrow import to_numpy
from seqrec_cli.data.attribute_tables import JOINT, attribute_tables, beside, named, numeric_attributes
from seqrec_cli.data.columns import Column
from seqrec_cli.data.event_columns import odd_texts
from seqrec_cli.data.large.attributes import Described, category, number
from seqrec_cli.data.large.engine import Engine
from seqrec_cli.data.large.stage_state import StageState
from seqrec_cli.data.numbers import numbers_among
from seqrec_cli.data.pack import Known
from seqrec_cli.data.sources.csv import Config, not_read, wanted_columns
from seqrec_cli.data.tables import Found
from seqrec_cli.data.times import AN_ORDER

Kind = Literal["item", "user"]


@dataclass
class Facts:
    """Attributes by name, titles and owners, and notes on all of them."""

    items: dict[str, Described] = field(default_factory=dict)
    users: dict[str, Described] = field(default_factory=dict)
    titles: Described | None = None
    owners: Described | None = None
    notes: list[str] = field(default_factory=list)


def facts_of(cfg: Config, state: StageState, engine: Engine, *, vocabularies: dict[str, pa.Array]) -> Facts:
    """From the rows, or from files beside the log; `vocabularies` are all its ids by `user` and `item`."""
    facts = Facts()

    def of_log(kind: Kind, column: Column, separator: str | None) -> Described:
        name = state.names[column]
        separator = JOINT if name in state.listed else separator
        return Described.of(engine.described(kind, name), len(vocabularies[kind]), separator)

    owner = None if cfg.owner_column is None else of_log("item", cfg.owner_column, None)
    if owner is not None:
        facts.owners, facts.notes = owner, owner.note("item", cfg.owner_column)
    notes: list[str] = []
    wanted: dict[Kind, list[Column]] = {
        "item": list(cfg.item_attribute_columns),
        "user": list(cfg.user_attribute_columns),
    }
    titles = [] if cfg.title_column is None else [cfg.title_column]
    files: dict[Kind, tuple[str | None, Column | None, Column]] = {
        "item": (cfg.item_file, cfg.item_file_id, cfg.item_column),
        "user": (cfg.user_file, cfg.user_file_id, cfg.user_column),
    }
    rows: dict[Kind, Any] = {}
    for kind, (file, ids, called) in files.items():
        if file is not None:
            columns = [called if ids is None else ids, *wanted[kind], *(titles if kind == "item" else [])]
            rows[kind] = beside(kind, file, to_numpy(vocabularies[kind]), wanted=columns, notes=notes)

    def found(kind: Kind, columns: Sequence[Column], separator: str | None) -> dict[str, Described]:
        if kind in rows:
            tables = attribute_tables(rows[kind], columns, kind=kind, separator=separator, notes=notes)
            return {name: Described.of_table(table, vocabularies[kind]) for name, table in tables.items()}
        described = {name: of_log(kind, column, separator) for name, column in named(columns).items()}
        for column, each in zip(named(columns).values(), described.values(), strict=True):
            notes.extend(each.note(kind, column))
        return described

    facts.titles = next(iter(found("item", titles, None).values()), None)
    facts.items = found("item", wanted["item"], cfg.value_separator)
    facts.users = found("user", wanted["user"], cfg.value_separator)
    facts.notes += notes
    return facts


def reading_notes(
    cfg: Config, state: StageState, engine: Engine, *, ids: dict[str, pa.Array], label: str, parts: Sequence[str]
) -> list[str]:
    """What was understood of the files, as far as the times; `parts` are the notes on which files were read."""
    known = state.first_part[1] if state.first_part is not None else ()
    counted = Found(state.no_bytes, state.lists, state.empty_lists).said(state.rows_read)
    merged = {
        column: len(texts) - engine.never_without_blanks(state.names[column]) if column in state.names else 0
        for column, texts in state.tidying.changed.items()
    }
    notes = [*state.notes, *counted, *parts, *state.tidying.notes(merged, label), *not_read(known, wanted_columns(cfg))]
    for kind, column in (("user", cfg.user_column), ("item", cfg.item_column)):
        notes += odd_texts(column, ids[kind], first=lambda among, kind=kind: engine.first_of(kind, among))  # type: ignore[misc]
    if cfg.time_column is None:
        return notes
    if cfg.time_unit == "order":
        return [*notes, AN_ORDER]
    said, outside = state.times.said()
    return [*notes, *([said] if cfg.time_unit == "auto" or outside else [])]


def category_notes(cfg: Config, facts: Facts, contexts: dict[str, list[str]]) -> list[str]:
    """A word on categories that may be meant as numbers."""
    texts = contexts | {name: found.texts() for table in (facts.items, facts.users) for name, found in table.items()}
    return numbers_among(texts, numeric_attributes(cfg))


def known_of(tables: dict[str, Described], kept_V: np.ndarray, numeric: frozenset[str]) -> Known:
    """Categories and numbers of the items or users that stay (their codes)."""
    categories = [category(name, found, kept_V) for name, found in tables.items() if name not in numeric]
    numbers = {name: number(name, found, kept_V) for name, found in tables.items() if name in numeric}
    return Known(len(kept_V), categories, numbers)
