"""Filters leave out what they say, in lists of a model and of popularity alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.diversity import Cosine
from seqrec_cli.serving.item_filters import filters_of, hidden_items, listed_items
from seqrec_cli.serving.lists import Mmr, Wanted, answer_with
from tests.serving.test_diversity import attributed, of  # noqa: F401 - a fixture
from tests.serving.test_recommending import request


def passing(log: PackedLog, allow: Any = None, deny: Any = None, where: Any = None) -> tuple[list[int], list[Any]]:
    hidden_V1, unknown = hidden_items(of(log), filters_of(allow, deny, where))
    assert hidden_V1 is not None
    return (np.flatnonzero(~hidden_V1[1:]) + 1).tolist(), unknown


def test_an_item_has_to_pass_every_filter(attributed: PackedLog) -> None:  # noqa: F811
    assert hidden_items(of(attributed), filters_of(None, None, None)) == (None, [])
    assert passing(attributed, allow=[101, "104", "x"]) == ([2, 5], ["x"])
    assert passing(attributed, deny=["100", 7]) == (list(range(2, 26)), [7])
    assert passing(attributed, where={"a": "a1"})[0] == [1, 2]
    assert passing(attributed, where={"b": ["b2", "b1"]})[0] == [1, 3, 5]  # one of them
    assert passing(attributed, where={"a": ["a1", "a2"], "b": ("b1",)})[0] == [1, 5]  # of each attribute
    assert passing(attributed, allow=[100, 102, 104], deny=[100], where={"b": ["b1"]})[0] == [5]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"where": {"c": ["x"]}}, r"where.c: items have no such attribute.* \(have: a, b\)"),
        ({"where": {"a": ["a3"]}}, r"where.a=a3: no item has it; did you mean 'a\d'\? \(have: a1, a2\)"),
        ({"where": {"a": []}}, "where.a: give one value or more"),
        ({"allow": ["x", 3]}, r"allow: none of its 2 items is in the data \(ids such as 100, 124\)"),
        ({"allow": []}, "allow: it is empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(attributed: PackedLog, given: dict[str, Any], says: str) -> None:  # noqa: F811
    with pytest.raises(SeqrecError, match=says):
        passing(attributed, **given)


def test_lists_hold_what_passes_and_no_more(attributed: PackedLog) -> None:  # noqa: F811
    recommending = of(attributed)
    hidden_V1, _ = hidden_items(recommending, filters_of([100, 101, 102, 103], [101], None))
    for changes in ({"history": [110]}, {"history": []}):
        full = recommending.answer(request(**changes, top=99, repeats=True))
        found = answer_with(recommending, request(**changes), Wanted(99, True, hidden_V1))
        assert found.items == [item for item in full.items if item in (100, 102, 103)]
        assert found.answered_by == full.answered_by
    # Of allowed items that were seen, none comes back.
    assert answer_with(recommending, request(history=[102, 110]), Wanted(5, False, hidden_V1)).items == [
        item for item in recommending.answer(request(history=[102, 110], top=99)).items if item in (100, 103)
    ]


def test_a_diverse_list_is_made_of_the_pool(attributed: PackedLog) -> None:  # noqa: F811
    recommending = of(attributed)
    like = Cosine(recommending)
    plain = recommending.answer(request(history=[110], top=6))
    pool = set(plain.items)
    found = answer_with(recommending, request(history=[110]), Wanted(4, False, None, Mmr(0.2, 6, like)))
    assert len(set(found.items)) == 4
    assert set(found.items) < pool
    assert found.items[0] == plain.items[0]
    assert found.items != plain.items[:4]
    by_item = dict(zip(plain.items, plain.scores, strict=True))
    assert found.scores == pytest.approx([by_item[item] for item in found.items])  # the model's own
    narrow = answer_with(recommending, request(history=[110]), Wanted(4, False, None, Mmr(0.2, 1, like)))
    assert set(narrow.items) == set(plain.items[:4])  # at least a list's worth


def test_lists_come_from_files(tmp_path: Path) -> None:
    assert listed_items([1, "x"], "allow") == [1, "x"]
    assert listed_items(None, "deny") is None
    (tmp_path / "a.txt").write_text("7\n\n 008 \n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("item,name\n007,x\n8,y\n", encoding="utf-8")
    pq.write_table(pa.table({"item": [7, 8]}), tmp_path / "c.parquet")
    assert listed_items(str(tmp_path / "a.txt"), "allow") == ["7", "008"]
    assert listed_items(str(tmp_path / "b.csv"), "allow") == ["007", "8"]
    assert listed_items(str(tmp_path / "c.parquet"), "allow") == ["7", "8"]
    (tmp_path / "d.csv").write_text("id\n7\n", encoding="utf-8")
    (tmp_path / "e.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "f.parquet").write_text("no", encoding="utf-8")
    for name, says in (
        ("d.csv", r"no column 'item' in it \(have: id\)"),
        ("e.txt", "it holds no ids"),
        ("f.parquet", "not a readable file of ids"),
        ("g.txt", r"deny=.*g.txt: no such file; give ids as"),
    ):
        with pytest.raises(SeqrecError, match=says):
            listed_items(str(tmp_path / name), "deny")
