"""The rows of a log in whatever files it comes: parts of text, JSON lines or Parquet, also by train, valid and test.

Legend: N rows.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqrec_cli.config.dataset_files import FilesConfig
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.data.arrow import to_numpy
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.given_splits import NAMES
from seqrec_cli.data.json_columns import json_columns
from seqrec_cli.data.lists import Lists, one_event_a_row
from seqrec_cli.data.parts import ROLES, Part, Parts, find, located
from seqrec_cli.data.remote import Address

SPLIT = "\0split"  # the column of a row's split, 0 train, 1 valid, 2 test
EVENTS = r"rating|event|interaction|click|review|behaviou?r|log|train"  # in names of files that may hold them
Parse = Callable[[bytes | Path, str, Sequence[Column]], Columns]  # delimited text as columns


class Found(NamedTuple):
    """What reading counted: parts without a byte, rows that hold a sequence, and those whose sequence is empty."""

    no_bytes: list[str]
    rows: int = 0
    empty: int = 0

    def said(self, events: int) -> list[str]:
        """In words, for people."""
        shown = ", ".join(self.no_bytes[:3]) + ", ..." * (len(self.no_bytes) > 3)
        notes = [f"empty files: {len(self.no_bytes):,} ({shown})"] * bool(self.no_bytes)
        if self.rows:
            nothing = f"; {self.empty:,} are empty and hold no event" if self.empty else ""
            notes.append(f"a sequence a row: {self.rows:,} rows with {events:,} events{nothing}")
        return notes


def read_log(
    cfg: FilesConfig, path: Path | Address, wanted: Sequence[Column], *, parse: Parse, lists: Lists
) -> Columns:
    """A row an event, with the column SPLIT where the files are split; notes say what was understood of them."""
    parts, notes = log_parts(cfg, path)
    return read_parts(parts, wanted, parse=parse, lists=lists).noted(*notes)


def log_parts(cfg: FilesConfig, path: Path | Address) -> tuple[Parts, list[str]]:
    """The parts of the log; each with its split where there are files of their own for training, validation and test,
    by settings or by their names. Raises SeqrecError for some, but not all, of such names."""
    parts = find(path)
    others = {1: ("dataset.valid_file", cfg.valid_file), 2: ("dataset.test_file", cfg.test_file)}
    given = {split: find(located(file, name), name) for split, (name, file) in others.items() if file is not None}
    notes = [note for each in (parts, *given.values()) if (note := each.note()) is not None]
    if given:
        held = [replace(part, split=split) for split, each in given.items() for part in each.parts]
        every = [*(replace(part, split=0) for part in parts.parts), *held]
        return replace(parts, parts=tuple(every), form="folder"), notes
    roles = [part.role for part in parts.parts]
    if len(roles) > 1 and None not in roles and len(set(roles)) > 1:
        every = sorted((replace(part, split=part.role) for part in parts.parts), key=lambda part: part.split or 0)
        of = [", ".join(part.name for part in every if part.split == split) for split in range(3)]
        said = "; ".join(f"{name} {names}" for name, names in zip(NAMES, of, strict=True) if names)
        return replace(parts, parts=tuple(every)), [*notes, f"split by their names: {said}"]
    return parts, notes


def read_parts(parts: Parts, wanted: Sequence[Column], *, parse: Parse, lists: Lists | None = None) -> Columns:
    """The rows of all parts, one part after another. Raises SeqrecError where they are not of one form."""
    kinds: dict[str, Part] = {}
    for part in parts.parts:
        kinds.setdefault(part.kind, part)
    if len(kinds) > 1:
        one, other = list(kinds.values())[:2]
        raise SeqrecError(
            f"{parts.label} holds files of several kinds, {one.name} and {other.name}; name those of one kind by a "
            f"quoted glob, as *{one.ending}"
        )
    done: list[Columns] = []
    found = Found([])
    for part in parts.parts:
        data = part.read() if part.on_disk is None or part.kind == "lines" else part.on_disk
        if len(parts.parts) > 1 and not (data.stat().st_size if isinstance(data, Path) else data):
            found.no_bytes.append(part.name)
            continue
        try:
            columns = _read(part, data, wanted, parse=parse)
        except SeqrecError as error:
            error.args = (f"{error}{of_several(parts, (done[0].label, done[0].known) if done else None, error)}",)
            raise
        refuse_other_columns(columns, (done[0].label, done[0].known) if done else None, wanted)
        if lists is not None:
            columns, rows, empty = one_event_a_row(columns, lists)
            found = found._replace(rows=found.rows + rows, empty=found.empty + empty)
        done.append(columns if part.split is None else columns.with_constant(SPLIT, part.split))
    if not done:
        raise SeqrecError(f"{parts.label} holds empty files alone")
    joined = Columns.joined(done, None if len(parts.parts) == 1 else parts.label)
    return joined.noted(*found.said(len(joined)))


def of_several(parts: Parts, first: tuple[str, tuple[str, ...]] | None, error: SeqrecError) -> str:
    """What a message of one part says of the others; `first` is the first one's label, and its columns."""
    if first is not None and first[1]:
        if "cannot be read" in str(error):
            return "; copy that part again, or take it out of the folder"
        if not re.search(r"\bcolumn", str(error)):
            return ""
        return f"; all parts of {parts.label} have the same columns, and {first[0]} has {', '.join(first[1][:10])}"
    if len(parts.parts) == 1:
        return ""
    names = ", ".join(part.name for part in parts.parts[:5])
    likely = [part.name for part in parts.parts if re.search(EVENTS, part.name, re.I) and "." in part.name]
    return (
        f"; {parts.label} holds {len(parts.parts):,} files ({names}): name one, as "
        f"{parts.label}/{(likely or [parts.parts[0].name])[0]}, or those of one table by a quoted glob"
    )


def _read(part: Part, data: bytes | Path, wanted: Sequence[Column], *, parse: Parse) -> Columns:
    """One part's columns, those of its folders (`day=2024-05-01`) among them."""
    keys = dict(part.keys)
    inside = [column for column in wanted if column not in keys]
    if isinstance(data, bytes) and part.kind == "lines":
        columns = json_columns(data, part.label, inside)
    elif part.kind == "parquet":
        columns = Columns.parquet(data, part.label, inside)
    else:
        columns = parse(data, part.label, inside)
    for column in dict.fromkeys(wanted):
        if column in keys:
            columns = columns.with_constant(column, keys[str(column)])
    return columns


def refuse_other_columns(columns: Columns, first: tuple[str, tuple[str, ...]] | None, wanted: Sequence[Column]) -> None:
    """By position a column must have one name everywhere; by name it is found wherever it stands. `first` is the first
    part's label, and its columns."""
    if first is None or columns.known == first[1] or all(isinstance(column, str) for column in wanted):
        return
    raise SeqrecError(
        f"{first[0]} has the columns {', '.join(first[1][:10])} and {columns.label} has "
        f"{', '.join(columns.known[:10])}; with columns given by position all parts must have the same"
    )


def splits_of(columns: Columns, column: Column) -> np.ndarray:
    """Each row's split by a column of words (train, valid, test) or of 0, 1, 2; int8 [N]."""
    codes_N, texts = columns.texts(column)
    known = ROLES | {"0": 0, "1": 1, "2": 2}
    if (codes_N < 0).any():
        row = int(np.argmax(codes_N < 0))
        raise SeqrecError(f"{columns.label}: {columns.place(row)} has an empty {column}; say train, valid or test")
    for text in texts:
        if text.strip().lower() not in known:
            raise SeqrecError(f"{columns.label}: {column} is '{text}'{nearest(text, NAMES)}; say train, valid or test")
    return np.array([known[text.strip().lower()] for text in texts], np.int8)[codes_N]


def split_column(columns: Columns) -> np.ndarray | None:
    """The column SPLIT as an array, int8 [N]; None where the files are not split."""
    return to_numpy(columns.array(SPLIT)) if columns.has(SPLIT) else None
