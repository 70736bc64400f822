"""Plain sequences without times, in order: `user item` a line, or `user item item ...`, a user's events on one line.

The first is the format of SASRec (Kang & McAuley, ICDM 2018), the second that of S3-Rec's and LightGCN's files. The
lines of a user need not follow each other. A file with a line of more than two fields is of the second form.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import pyarrow as pa
from pydantic import model_validator

from seqrec_cli.config.dataset_files import FilesConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.archive import unpacked
from seqrec_cli.data.attribute_tables import Described, describe, numeric_attributes
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.given_splits import check_order
from seqrec_cli.data.lists import Lists
from seqrec_cli.data.numbers import categories_of_numbers
from seqrec_cli.data.raw import RawLog
from seqrec_cli.data.tables import read_log, split_column

NAMES = ("user", "item")
THREE_FIELDS = re.compile(rb"^[ \t]*[^\s]+[ \t]+[^\s]+[ \t]+[^\s]", re.MULTILINE)


class Config(FilesConfig):
    """Nothing beyond what every log in files has."""

    came_later: ClassVar[frozenset[str]] = FilesConfig.came_later | frozenset(
        {"item_attribute_columns", "user_attribute_columns", "value_separator"}
    )

    @model_validator(mode="after")
    def _attributes_have_a_file(self) -> Self:
        for kind, named in (("item", self.item_attribute_columns), ("user", self.user_attribute_columns)):
            if named and getattr(self, f"{kind}_file") is None:
                raise ValueError(
                    f"dataset.{kind}_attribute_columns are columns of dataset.{kind}_file, which is not set"
                )
        if self.title_column is not None and self.item_file is None:
            raise ValueError("dataset.title_column is a column of dataset.item_file, which is not set")
        return self


def read(cfg: Config, path: Path) -> RawLog:
    """Events in the order of the files."""
    columns = read_log(cfg, path, NAMES, parse=_parse, lists=Lists("item", None, {"user"}))
    notes = list(columns.notes)
    users_N, items_N = columns.ids("user"), columns.ids("item")
    splits_N = split_column(columns)
    if splits_N is not None:
        notes += check_order(users_N, splits_N, None, keep=False)
    items, users = Described(columns, items_N), Described(columns, users_N)
    known = describe(cfg, items, users, called=("item", "user"), notes=notes)
    raw = RawLog(
        users_N,
        items_N,
        times_N=None,
        ratings_N=None,
        item_attributes=known.items,
        user_attributes=known.users,
        numeric=numeric_attributes(cfg),
        notes=tuple(notes),
        titles=known.titles,
        splits_N=splits_N,
    )
    return replace(raw, notes=(*raw.notes, *categories_of_numbers(raw)))


def _parse(data: bytes | Path, label: str, columns: Sequence[Column]) -> Columns:
    """By what the file holds: a line of three fields or more is in no file of pairs."""
    whole = unpacked(data if isinstance(data, bytes) else data.read_bytes(), label)
    if THREE_FIELDS.search(whole):
        return _of_lists(whole, label)
    first = next((line for line in io.BytesIO(whole) if line.strip()), b"")
    delimiter = "\t" if b"\t" in first and b" " not in first else " "
    found = Columns.parse(whole, label, delimiter=delimiter, columns=columns, names=NAMES)
    return found.noted("read as `user item` a line")


def _of_lists(data: bytes, label: str) -> Columns:
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise SeqrecError(f"{label}: byte {error.start} is not UTF-8") from None
    numbers, users, items = [], [], []
    for number, line in enumerate(lines, 1):
        if fields := line.split():
            numbers.append(number)
            users.append(fields[0])
            items.append(fields[1:])
    table = pa.table({"user": users, "item": pa.array(items, pa.list_(pa.string()))})
    return Columns(
        table,
        label,
        {name: name for name in NAMES},
        place=lambda row: f"line {numbers[row]}",
        notes=["read as `user item item ...` a line"],
        known=NAMES,
    )
