"""Columns of several files as one: types, places of rows, notes."""

import pyarrow as pa
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.columns import Columns


def part(label: str, users: list[object], times: list[object]) -> Columns:
    return Columns(pa.table({"u": users, "t": times}), label, {"user": "u", "time": "t"}, notes=(f"{label} is read",))


def test_joined_files_follow_one_another() -> None:
    whole = Columns.joined([part("a", [1, 2], [5, 6]), part("b", [3], [7])])
    assert whole.ids("user").tolist() == [1, 2, 3]
    assert whole.times("time", "s")[0].tolist() == [5, 6, 7]
    assert whole.label == "a and 1 more"
    assert whole.notes == ("a is read", "b is read")


def test_numbers_in_one_file_and_text_in_another_are_text() -> None:
    whole = Columns.joined([part("a", [1, 2], [5, 6]), part("b", ["x"], [7.5])], "folder")
    assert whole.ids("user").tolist() == ["1", "2", "x"]
    assert whole.numbers("time").tolist() == [5, 6, 7.5]


def test_a_row_of_a_joined_file_is_named_by_its_own_file() -> None:
    whole = Columns.joined([part("a", ["x", "y"], [5, 6]), part("b", ["z", None], [7, 8])], "folder")
    with pytest.raises(SeqrecError, match="folder: b: row 2 has an empty user"):
        whole.ids("user")
    kept = whole.where(whole.numbers("time") > 6)
    with pytest.raises(SeqrecError, match="folder: b: row 2 has an empty user"):
        kept.ids("user")
