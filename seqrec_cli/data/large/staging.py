"""The rows of a log, read and checked in batches and laid down as Parquet files of one table (`definition.py`).

A part is laid down whole or not at all, and what was found so far is written beside it, so that reading goes on behind
the last whole part after a kill.

Legend: N rows of a batch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.arrow import to_numpy
from seqrec_cli.data.attribute_tables import columns_of_log, texts_of
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.event_columns import session_texts, weights
from seqrec_cli.data.large.batches import batches
from seqrec_cli.data.large.columns_found import order_values
from seqrec_cli.data.large.definition import place_of
from seqrec_cli.data.large.stage_state import StagedFile, StageState, print_of
from seqrec_cli.data.lists import Lists, one_event_a_row
from seqrec_cli.data.parts import Part, Parts
from seqrec_cli.data.sources.csv import Config, wanted_columns
from seqrec_cli.data.tables import SPLIT, of_several, refuse_other_columns, splits_of

MOST_TEXTS = 1_000_000  # of a column of context, whose texts are in the manifest

Advance = Callable[[int], None]


class Staging:
    """Lays down the rows of parts in a folder, going on where an earlier process ended."""

    def __init__(self, cfg: Config, folder: Path, *, rows: int) -> None:
        self.cfg, self.folder, self.batch_rows = cfg, folder, rows
        self.wanted = wanted_columns(cfg)
        attributes = columns_of_log(cfg)
        self.lists = Lists(cfg.item_column, None, {cfg.user_column, *cfg.user_attribute_columns}, attributes)
        self.about: list[Column] = list(dict.fromkeys([*attributes, *([cfg.owner_column] if cfg.owner_column else [])]))
        self.state = StageState.of(cfg, self.wanted)

    def run(self, whole: Parts, advance: Advance) -> StageState:
        """Lay down what is missing; what the rows were found to be. `advance` is told of every batch's rows."""
        parts, label = whole.parts, whole.label
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = StageState.resumed(self.state, self.folder)
        advance(self.state.rows_read)
        for nth, part in enumerate(parts[self.state.parts_done :], self.state.parts_done):
            if len(parts) > 1 and part.is_empty:
                self.state.no_bytes.append(part.name)
            else:
                try:
                    self._part(nth, part, advance)
                except SeqrecError as error:
                    error.args = (f"{error}{of_several(whole, self.state.first_part, error)}",)
                    raise
            self.state.parts_done = nth + 1
            self.state.save(self.folder)
        if len(self.state.no_bytes) == len(parts):
            raise SeqrecError(f"{label} holds empty files alone")
        if not self.state.rows:
            raise SeqrecError(f"{label} holds no events, only names of columns")
        return self.state

    def _part(self, nth: int, part: Part, advance: Advance) -> None:
        row = 0
        for batch, columns in enumerate(batches(part, self.cfg, self.wanted, rows=self.batch_rows)):
            if not batch:
                refuse_other_columns(columns, self.state.first_part, self.wanted)
            self.state.first_part = self.state.first_part or (columns.label, columns.known)
            columns, lists, empty = one_event_a_row(columns, self.lists)
            self.state.lists, self.state.empty_lists = self.state.lists + lists, self.state.empty_lists + empty
            if part.split is not None:
                columns = columns.with_constant(SPLIT, part.split)
            self.state.note(columns.notes)
            count = len(columns)
            if count:
                self._batch(columns, place_of(nth, row), f"p{nth:05d}-b{batch:05d}.parquet")
            row += count
            self.state.rows_read += count
            advance(count)

    def _batch(self, columns: Columns, place: int, name: str) -> None:
        tidied, kept, blank = self.state.tidying.tidy(columns)
        if not len(tidied):
            return
        found, kinds = self._converted(tidied)
        found["place"] = pa.array(kept + place)
        names = self.state.names
        for column, mask_N in blank.items():
            if column in names:
                found[f"{names[column]}_blank"] = pa.array(mask_N)
        table = pa.table(found)
        coded = [column for column, values in found.items() if pa.types.is_dictionary(values.type)]
        pq.write_table(table, self.folder / name, compression="lz4", use_dictionary=coded, write_statistics=False)
        self.state.files.append(StagedFile(name, len(table), kinds, sorted(found), *print_of(self.folder / name)))
        self.state.rows += len(table)

    def _converted(self, columns: Columns) -> tuple[dict[str, pa.Array], dict[str, Any]]:
        """The columns of a staged table, and the kinds of those whose kind is found."""
        cfg, state = self.cfg, self.state
        kinds: dict[str, Any] = {}
        found: dict[str, pa.Array] = {}
        for name, column in (("user", cfg.user_column), ("item", cfg.item_column)):
            found[name] = _ids(columns, column)
            kinds[name] = "text" if pa.types.is_dictionary(found[name].type) else "whole"
        if cfg.time_column is not None:
            if cfg.time_unit == "order":
                found["time"], kinds["time"] = order_values(columns, cfg.time_column)
            else:
                found["time"], per_second = state.times.add(columns, cfg.time_column, cfg.time_unit)
                kinds["time"] = ("moment", per_second)
        for nth, column in enumerate(cfg.order_columns):
            found[f"key{nth}"], kinds[f"key{nth}"] = order_values(columns, column)
        if cfg.split_column is not None:
            found["split"] = pa.array(splits_of(columns, cfg.split_column))
        elif columns.has(SPLIT):
            found["split"] = columns.array(SPLIT)
        if cfg.rating_column is not None:
            found["rating"] = pa.array(columns.numbers(cfg.rating_column).astype(np.float32))
        if cfg.weight_column is not None:
            found["weight"] = pa.array(weights(columns, cfg.weight_column))
        if cfg.session_column is not None:
            found["session"] = _coded_texts(*session_texts(columns, cfg.session_column))
        for nth, column in enumerate(cfg.context_columns):
            found[f"context{nth}"] = self._context(columns, nth, column)
        for nth, column in enumerate(self.about):
            joint, codes_N, texts = texts_of(columns, column, None)
            found[f"about{nth}"] = _coded_texts(codes_N, texts)
            if joint is not None and f"about{nth}" not in state.listed:
                state.listed.append(f"about{nth}")
        return found, kinds

    def _context(self, columns: Columns, nth: int, column: Column) -> pa.Array:
        codes_N, texts = columns.texts(column)
        known = self.state.contexts[nth]
        whole = np.array([known.setdefault(text, len(known)) for text in texts] + [-1], np.int32)
        if len(known) > MOST_TEXTS:
            raise SeqrecError(f"{columns.label}: {column} has over {MOST_TEXTS:,} different values, and is no category")
        return pa.array(whole[codes_N])


def _ids(columns: Columns, column: Column) -> pa.Array:
    """Raw ids as `Columns.ids` has them: whole numbers, or a dictionary of texts."""
    codes_N, distinct = columns.distinct_ids(column)
    if pa.types.is_string(distinct.type):
        return pa.DictionaryArray.from_arrays(pa.array(codes_N), distinct)
    return pa.array(to_numpy(distinct)[codes_N].astype(np.int64))


def _coded_texts(codes_N: np.ndarray, texts: Sequence[str]) -> pa.Array:
    codes = pc.if_else(pa.array(codes_N >= 0), pa.array(codes_N.astype(np.int32)), pa.scalar(None, pa.int32()))
    return pa.DictionaryArray.from_arrays(codes, pa.array(texts, pa.string()))
