"""A row of many is answered as a request of its own is, and refused as one, with its number."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute
from seqrec_cli.data.context import logged_context, with_time_context
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.request_files import in_plain_columns
from seqrec_cli.models.contract import Recommender
from seqrec_cli.serving.answered_rows import AnsweredRows, Counts, Form
from seqrec_cli.serving.item_filters import filters_of, hidden_items
from seqrec_cli.serving.lists import Wanted
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.request_rows import RequestRows, surveyed
from tests.serving.test_recommending import CPU, WINDOW, Clock, Encoder, request

NAMES = ("user", "history", "times", "asked_at", "place")


class Placed(Recommender):
    """Likes the items whose number is near what the context says."""

    reads_context = True

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        assert batch.context_BF is not None
        place_B, hour_B = batch.context_BF.T
        return -(items_BC - (8 * place_B + hour_B / 4)[:, None] - batch.users_B[:, None] / 100).abs()


@pytest.fixture
def placed(saved_log: PackedLog) -> PackedLog:
    places_NF = np.resize(np.array([1, 2, 0], np.int32), len(saved_log.items_N))[:, None]
    catalog = replace(saved_log.catalog, context_attributes=(Attribute("place", 3, 1),))
    manifest = {**saved_log.manifest, "context_values": {"place": ["A", "B"]}}
    log = replace(saved_log, catalog=catalog, context_NF=places_NF, manifest=manifest)
    return with_time_context(log, ["hour"])


def of(log: PackedLog, model: Any) -> Recommending:
    made = model(log) if model is Encoder else model(log.catalog)
    return Recommending(made, log, name="mine", max_length=WINDOW, precision=CPU)


def table_of(rows: list[dict[str, Any]], log: PackedLog, first: int = 0) -> pa.Table:
    """Rows in the columns that any of them has."""
    kinds = {"history": pa.list_(pa.string()), "times": pa.list_(pa.int64()), "asked_at": pa.int64()}
    columns = {}
    for name in NAMES:
        if any(name in row for row in rows):
            values = [row.get(name) for row in rows]
            if name == "history":
                values = [None if each is None else list(map(str, each)) for each in values]
            elif name not in kinds:
                values = [None if each is None else str(each) for each in values]
            columns[name] = pa.array(values, kinds.get(name, pa.string()))
    table = pa.table(columns)
    return in_plain_columns(table, table.column_names, " ", label="rows", first=first)


def answers(recommending: Recommending, rows: list[dict[str, Any]], **wanted: Any) -> tuple[pa.Table, Counts]:
    form = Form(users=any("user" in row for row in rows), whole_users=False, because=False)
    answering = AnsweredRows(recommending, Wanted(**{"top": 4, **wanted}), form, rows_at_once=3)
    return answering.of(table_of(rows, recommending.log), first=0, label="rows")


def alike(recommending: Recommending, rows: list[dict[str, Any]], **wanted: Any) -> Counts:
    """Each row's answer is that of a request that says the same."""
    found, counts = answers(recommending, rows, **wanted)
    frame = found.to_pandas()
    for nth, row in enumerate(rows):
        plain = {key: value for key, value in row.items() if key != "place"}
        if row.get("place") in ("A", "B"):
            plain["context"] = {"place": row["place"]}
        if row.get("user") is None and row.get("history") is None:
            plain["history"] = []  # which nobody asks alone
        one = recommending.answer(request(**{"top": 4, "repeats": wanted.get("repeats")} | plain))
        mine = frame[frame["row"] == nth]
        assert mine["item"].tolist() == one.items, row
        assert mine["score"].tolist() == pytest.approx(one.scores, rel=1e-5), row
        assert set(mine["answered_by"]) == {one.answered_by}, row
        assert mine["rank"].tolist() == list(range(1, len(one.items) + 1))
    return counts


def test_users_and_histories_in_any_order(saved_log: PackedLog) -> None:
    rows: list[dict[str, Any]] = [
        {"user": 3},
        {"user": "nobody"},
        {"history": [109, 104, 100, 101, 102, 103, 105]},  # longer than the window
        {},
        {"user": 7, "history": [100, 999, 101]},
        {"user": 8, "history": []},
        {"user": "new", "history": [120]},
        {"history": ["x", "y"]},
        {"user": 29},
        {"history": [100, 101], "times": [5, 5]},
        {"history": [100, 101], "asked_at": 9},
    ]
    for repeats in (None, True, False):
        counts = alike(of(saved_log, Encoder), rows, repeats=repeats)
    assert counts == Counts(rows=11, popularity=4, events=17, unknown_items=3)


def test_a_model_of_times_and_context_is_told_them(placed: PackedLog, saved_log: PackedLog) -> None:
    clock = of(saved_log, Clock)
    told = [
        {"history": [100, 101, 999], "times": [0, 40, 350]},  # asked at the latest event, known or not
        {"history": [100], "times": [0], "asked_at": 700},
        {"user": 3},
        {"history": ["x"]},  # nothing to read, so no times are needed
    ]
    alike(clock, told, repeats=True)
    rows = [
        {"history": [100], "times": [3600 * 5], "place": "A"},
        {"history": [100], "asked_at": 3600 * 20, "place": "B", "user": 4},
        {"history": [100], "asked_at": 3600 * 20, "place": "Z"},  # unknown: absent
        {"history": [100], "asked_at": 3600 * 20},
        {"user": 5},
    ]
    counts = alike(of(placed, Placed), rows, repeats=True)
    assert counts.unknown_context == 1
    assert logged_context(placed) == ("place",)


@pytest.mark.parametrize(
    ("model", "rows", "says"),
    [
        (Encoder, [{"user": 1}, {"user": 3, "times": [3]}], "rows: row 11: times goes with a history"),
        (Encoder, [{"user": 3, "asked_at": 3}], "row 10: asked_at goes with a history"),
        (Encoder, [{"history": [100], "times": [1]}, {"history": [100, 101], "times": [1]}], "row 11: times: give one"),
        (Encoder, [{"history": [100, 101], "times": [5, 4]}], "row 10: times: the history is not in their order"),
        (Encoder, [{"history": [100], "times": [2**60]}], "row 10: times: not a time"),
        (Encoder, [{"history": [100], "times": [5], "asked_at": 4}], "row 10: asked_at lies before the latest event"),
        (Encoder, [{"history": [100], "asked_at": -(2**60)}], "row 10: asked_at: not a time"),
        (Encoder, [{"history": [100, 101], "times": [1, None]}], "row 10: a time is null"),
        (Clock, [{"history": ["x"]}, {"history": [100]}], "row 11: model=mine reads when events happened: give times"),
        (Placed, [{"history": [100], "place": "A"}], "row 10: model=mine reads the hour of a request: give asked_at"),
        (Placed, [{"user": 3, "place": "A"}], "row 10: place goes with a history"),
    ],
)
def test_a_refusal_names_the_row(placed: PackedLog, model: Any, rows: list[dict[str, Any]], says: str) -> None:
    recommending = of(placed, model)
    with pytest.raises(SeqrecError, match=says):
        RequestRows(recommending, table_of(rows, placed, 10), first=10, label="rows")


def test_an_item_that_is_null_is_refused(saved_log: PackedLog) -> None:
    table = pa.table({"history": pa.array([["100"], ["100", None]])})
    with pytest.raises(SeqrecError, match="rows: row 1: an item of the history is null"):
        RequestRows(of(saved_log, Encoder), table, first=0, label="rows")


def test_lists_that_are_short_are_counted(saved_log: PackedLog) -> None:
    recommending = of(saved_log, Encoder)
    hidden_V1, _ = hidden_items(recommending, filters_of([100, 101, 102], None, None))
    rows = [{"history": [100, 101, 102]}, {"history": [100]}, {"history": []}]
    found, counts = answers(recommending, rows, repeats=False, top=3, hidden_V1=hidden_V1)
    assert (counts.short, counts.none) == (2, 1)
    assert np.unique(found["row"].to_numpy(), return_counts=True)[1].tolist() == [2, 3]


def test_what_requests_are_like_is_known_before_the_first_is_answered(saved_log: PackedLog) -> None:
    recommending = of(saved_log, Encoder)

    def survey(*chunks: list[dict[str, Any]]) -> tuple[int, bool, bool]:
        found = surveyed((table_of(rows, saved_log) for rows in chunks), recommending, label="rows")
        return found.rows, found.users, found.whole_users

    assert survey([{"user": 3}, {"user": None}], [{"user": "-17"}]) == (3, True, True)
    for other in ("x", "007", "1.5", "9" * 19):
        assert survey([{"user": 3}], [{"user": other}]) == (2, True, False)
    assert survey([{"history": [100]}, {"history": ["x"]}]) == (2, False, False)
    with pytest.raises(SeqrecError, match="rows: row 1: times: give one"):  # counted over all chunks
        survey([{"user": 3}], [{"history": [100], "times": []}])
    with pytest.raises(SeqrecError, match=r"rows: none of the 3 items of its histories is in the data \(ids such as"):
        survey([{"history": ["1", "2"]}, {"user": "3"}], [{"history": ["100,101"]}])
    with pytest.raises(SeqrecError, match="rows: it holds no rows"):
        survey([])
