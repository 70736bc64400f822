"""What columns say of events beside their time: order, labels, sessions, weights; from the file to the rows."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_helpers import build, dataset, protocol

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.batching import BatchedRows
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.cloze_rows import ClozeRows, Masking
from seqrec_cli.data.context import with_time_context
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows, WindowRows, labelled_batches
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.protocols.view.meaning import meaning
from seqrec_cli.protocols.view.ties import reordered
from tests.toylog import batching

CPU = torch.device("cpu")
DAY = "2019-03-0"


def read(folder: Path, rows: list[str], header: str = "user,item,time", **values: Any) -> PackedLog:
    path = folder / "log.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return build(dataset("csv", archive=path, **({"time_unit": "auto"} | values)), folder / "data")


def items(log: PackedLog) -> list[Any]:
    return vocabulary(log.folder, "items")[log.items_N - 1].tolist()


def test_further_columns_order_what_dates_alone_tie(tmp_path: Path) -> None:
    rows = [f"1,{item},{DAY}{day},{nth}" for item, day, nth in ((5, 1, 2), (6, 1, 1), (7, 2, 3), (8, 2, 3), (9, 2, 1))]
    plain = read(tmp_path, rows, "user,item,time,nth", name="plain")
    assert (items(plain), plain.manifest["equal_times"]) == ([5, 6, 7, 8, 9], 3)
    assert plain.tied_N is None
    log = read(tmp_path, rows, "user,item,time,nth", order_columns=["nth"])
    assert items(log) == [6, 5, 9, 7, 8]
    assert (log.manifest["ordered_ties"], log.manifest["equal_times"]) == (2, 1)
    assert log.tied_N.tolist() == [False, False, False, False, True]
    other = reordered(log, "reversed", seed=0)  # only what nothing orders changes places
    assert vocabulary(log.folder, "items")[other.items_N - 1].tolist() == [6, 5, 9, 8, 7]


def test_ids_as_no_one_would_write_them_are_said(tmp_path: Path) -> None:
    for name, ids, said in (
        ("a", ["1.0", "2.0"], "item: ids are written as 1.0, with a point, and stay text"),
        ("b", ["1.2E+15", "7"], "WARNING: item: 1 ids such as 1.2E+15 look rounded by a spreadsheet"),
        ("c", ["1.5", "2.0"], ""),
    ):
        rows = [f"u{u},{ids[(u + k) % 2]},{1_551_398_400 + k}" for u in range(4) for k in range(3)]
        (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
        told: list[str] = []
        prepare(dataset("csv", name=name, archive=tmp_path / "log.csv"), tmp_path / "data", told.append)
        found = [line for line in told if line.startswith(("item:", "WARNING: item:"))]
        assert [line[: len(said)] for line in found] == [said] * bool(said)


def test_fractions_of_a_second_are_no_ties(tmp_path: Path) -> None:
    log = read(tmp_path, ["1,5,1551398400.75", "1,6,1551398400.25", "1,7,1551398400.25"])
    assert items(log) == [6, 7, 5]
    assert log.times_N.tolist() == [1_551_398_400] * 3
    assert log.ties().tolist() == [False, True, False]


def test_an_order_has_no_seconds_so_what_needs_them_is_refused(tmp_path: Path) -> None:
    rows = [f"{user},{item},{9 - item}" for user in (1, 2, 3) for item in (5, 6, 7, 8)]
    log = read(tmp_path, rows, time_unit="order")
    assert items(log) == [8, 7, 6, 5] * 3
    assert log.times_N is None
    with pytest.raises(SeqrecError, match=r"this log has no times \(dataset\.time_unit=order"):
        with_view(log, protocol("global_time"), str)
    with pytest.raises(SeqrecError, match="an order alone"):
        with_time_context(log, ["hour"])


def test_an_hour_that_never_changes_tells_nothing(tmp_path: Path) -> None:
    log = read(tmp_path, [f"1,{item},{DAY}{item}" for item in (1, 2, 3)])
    with pytest.raises(SeqrecError, match="the hour is 0 at every event"):
        with_time_context(log, ["hour"])
    assert with_time_context(log, ["weekday"]).time_context == ("weekday",)


LABELLED = "user,item,time,label,device"
# (user, item, second, label): item 9 is only shown; user 3 never clicks.
ROWS = [
    (1, 5, 0, 1),
    (1, 9, 1, 0),
    (1, 6, 2, 1),
    (1, 5, 3, 0),
    (1, 7, 4, 1),
    (1, 8, 5, 0),
    (2, 6, 0, 0),
    (2, 7, 1, 1),
    (2, 5, 2, 1),
    (2, 9, 3, 0),
    (2, 8, 4, 1),
    (3, 5, 0, 0),
]


def labelled(
    folder: Path, rows: list[tuple[int, ...]] = ROWS, words: tuple[str, str] = ("0", "1"), **values: Any
) -> Any:
    lines = [f"{u},{i},{1_551_398_400 + t},{words[y]},d{n % 3}" for n, (u, i, t, y) in enumerate(rows)]
    return read(folder, lines, LABELLED, label_column="label", context_columns=["device"], **values)


def test_clicks_are_events_and_every_row_a_question(tmp_path: Path) -> None:
    log = labelled(tmp_path)
    assert items(log) == [5, 6, 7, 7, 5, 8]
    assert vocabulary(log.folder, "items").tolist() == [5, 6, 7, 8, 9]
    assert any("6 of 12 rows are clicks" in note for note in log.manifest["notes"])
    assert any("1 rows that were not clicked are left out" in note for note in log.manifest["notes"])
    rows = log.requests
    assert (rows.items_RC[:, 0] + 4).tolist() == [item for user, item, _, _ in ROWS if user < 3]
    assert rows.labels_RC[:, 0].tolist() == [label for user, _, _, label in ROWS if user < 3]
    assert rows.ends_R.tolist() == [0, 1, 1, 2, 2, 3, 3, 3, 4, 5, 5]  # its user's clicks before it
    assert (rows.times_R - 1_551_398_400).tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]
    assert rows.context_RF[:, 0].tolist() == [1 + n % 3 for n in range(11)]


def test_a_users_last_click_tests_and_what_was_shown_goes_with_the_next_click(tmp_path: Path) -> None:
    log = with_view(labelled(tmp_path), protocol("impressions"), str)
    clicks = log.clicks
    assert {split: (rows.items_RC[:, 0] + 4).tolist() for split, rows in clicks.items()} == {
        "train": [5, 6, 7],
        "val": [9, 6, 5],
        "test": [5, 7, 8, 9, 8],
    }
    assert log.items_N[log.view.test.positions_T].tolist() == [3, 4]
    assert log.view.train_U.tolist() == [1, 4]
    batches = LabelledTraining(log, 10, batching(8, bucket_by_length=False)).epoch(0)
    batch = next(iter(batches))
    order = np.lexsort((batch.candidates_BC[:, 0], batch.users_B)).tolist()
    assert batch.candidates_BC[order, 0].tolist() == [1, 2, 3]
    assert batch.labels_BC[order, 0].tolist() == [1, 0, 1]
    assert batch.lengths_B[order].tolist() == [0, 0, 0]
    assert (batch.request_times_B[order] - 1_551_398_400).tolist() == [0, 0, 1]  # when each was shown, in its context
    assert batch.context_BF[order].tolist() == [[1], [1], [2]]
    _, held = next(labelled_batches(log, "test", max_length=10, batch_size=9))
    last = held.candidates_BC[:, 0].tolist().index(4)  # shown after user 1's last click: all clicks, its own device
    assert held.items_BL[last].tolist() == [1, 2, 3]
    assert (held.request_times_B[last].item(), held.context_BF[last].tolist()) == (1_551_398_405, [3])


def test_a_view_with_labels_of_its_own_is_kept_on_disk(tmp_path: Path) -> None:
    log = labelled(tmp_path)
    first, second = (with_view(log, protocol("impressions"), str) for _ in range(2))
    for split, rows in first.clicks.items():
        assert second.clicks[split].times_R.tolist() == rows.times_R.tolist()
        assert second.clicks[split].context_RF.tolist() == rows.context_RF.tolist()


@pytest.mark.parametrize("words", [("false", "true"), ("-1", "1"), ("0.0", "1.0"), ("False", "True")])
def test_two_labels_of_any_plain_form(tmp_path: Path, words: tuple[str, str]) -> None:
    assert items(labelled(tmp_path, words=words)) == [5, 6, 7, 7, 5, 8]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("0", "3"), r"label is '3' in line 2; labels are 0 and 1 .*Ratings go to"),
        (("1", "1"), r"label is 1 in every row"),
        (("", "1"), r"label is empty in 6 rows, the first is line 3"),
    ],
)
def test_other_labels_are_refused(tmp_path: Path, words: tuple[str, str], complaint: str) -> None:
    with pytest.raises(SeqrecError, match=complaint):
        labelled(tmp_path, words=words)


def test_an_empty_session_is_no_session(tmp_path: Path) -> None:
    rows = [f"1,5,{DAY}1,a", f"1,6,{DAY}2,", f"1,7,{DAY}3,"]
    with pytest.raises(SeqrecError, match=r"visit is empty in 2 rows, the first is line 3; .*protocol\.by=gap"):
        read(tmp_path, rows, "user,item,time,visit", session_column="visit")


def test_sessions_go_with_their_events(tmp_path: Path) -> None:
    visits = ((1, 3, "b"), (2, 1, "a"), (3, 2, "a"), (4, 4, "b"))
    rows = [f"1,{item},{DAY}{day},{visit}" for item, day, visit in visits]
    log = read(tmp_path, rows, "user,item,time,visit", session_column="visit")
    assert items(log) == [2, 3, 1, 4]
    first, second, third, fourth = log.sessions_N.tolist()
    assert first == second != third == fourth


def test_sessions_that_no_protocol_reads_are_named(tmp_path: Path) -> None:
    rows = [f"1,{item},{DAY}{item},a" for item in (1, 2, 3, 4)]
    said: list[str] = []
    with_view(
        read(tmp_path, rows, "user,item,time,visit", session_column="visit"),
        protocol("leave_last", click_negatives=1, seen="keep"),
        said.append,
    )
    assert "dataset.session_column=visit is not read here: protocol=sessions protocol.by=column does" in said


def weighted(folder: Path, weights: list[Any], **values: Any) -> PackedLog:
    rows = [f"1,{item},{DAY}{item},{weight}" for item, weight in enumerate(weights, 1)]
    return read(folder, rows, "user,item,time,w", weight_column="w", **values)


def test_a_target_has_its_events_weight_of_mean_one(tmp_path: Path) -> None:
    log = with_view(weighted(tmp_path, [9, 1, 2, 6, 5, 5]), protocol("leave_last", click_negatives=1, seen="keep"), str)
    rows = WindowRows(log, 10, batching(4), window="last", stride=None, negatives=0, draws_by_row=False, device=CPU)
    batch = next(iter(rows.epoch(0)))
    assert batch.targets_BL.tolist() == [[2, 3, 4]]
    assert batch.weights_BL[0].tolist() == pytest.approx([1 / 3, 2 / 3, 2])  # the first event is nobody's target
    assert batch.rows(0, 1, 2).weights_BL.shape == (1, 2)


def rows_of(kind: str, log: PackedLog) -> BatchedRows:
    few = batching(4)
    if kind == "prefixes":
        return PrefixRows(log, 10, few, negatives=1)
    if kind == "positions":
        return PositionRows(log, 10, few, negatives=1, device=CPU)
    masking = Masking(share=0.2, random=0.1, keep=0.1, last=0.0)
    return ClozeRows(log, 10, few, window="last", stride=None, masking=masking, device=CPU)


def weights_by_item(batch: Batch) -> dict[int, set[float]]:
    """Of every target of the batch, and of what it is told from."""
    found: dict[int, set[float]] = defaultdict(set)
    if batch.weights_BL is not None:
        assert batch.targets_BL is not None
        items = torch.where(batch.targets_BL > 0, batch.targets_BL, batch.items_BL)  # without masks
        for item, weight in zip(items.view(-1).tolist(), batch.weights_BL.view(-1).tolist(), strict=True):
            found[item].add(round(weight, 4))
        return dict(found)
    assert batch.candidates_BC is not None
    assert batch.weights_BC is not None
    assert batch.labels_BC is not None
    weights = batch.weights_BC.masked_select(batch.candidates_BC > 0).tolist()
    labels = batch.labels_BC.masked_select(batch.candidates_BC > 0).tolist()
    for item, label, weight in zip(
        batch.candidates_BC.masked_select(batch.candidates_BC > 0).tolist(), labels, weights, strict=True
    ):
        found[item if label else 0].add(round(weight, 4))
    return dict(found)


@pytest.mark.parametrize("kind", ["prefixes", "positions", "cloze"])
def test_weights_reach_rows_of_every_kind(tmp_path: Path, kind: str) -> None:
    log = with_view(weighted(tmp_path, [9, 1, 2, 6, 5, 5]), protocol("leave_last", click_negatives=1, seen="keep"), str)
    targets = {2: {0.3333}, 3: {0.6667}, 4: {2.0}}
    expected = targets | ({1: {3.0}} if kind == "cloze" else {0: {0.3333, 0.6667, 2.0}})  # a negative has its target's
    assert weights_by_item(next(iter(rows_of(kind, log).epoch(0)))) == expected


def test_labelled_rows_have_their_own_weights(tmp_path: Path) -> None:
    """Those that were not clicked too, each beside its own candidate."""
    lines = [f"{u},{i},{1_551_398_400 + t},{y},{10 * u + i}" for u, i, t, y in ROWS]
    log = read(tmp_path, lines, "user,item,time,label,w", label_column="label", weight_column="w")
    log = with_view(log, protocol("impressions"), str)
    ids = vocabulary(log.folder, "items")
    own = {(u, i): 10 * u + i for u, i, _, _ in ROWS}
    found = {}
    for batch in LabelledTraining(log, 10, batching(2, bucket_by_length=False)).epoch(0):
        for user, (item,), (weight,) in zip(
            batch.users_B.tolist(), batch.candidates_BC.tolist(), batch.weights_BC.tolist(), strict=True
        ):
            found[user, int(ids[item - 1])] = weight
    mean = np.mean([own[key] for key in found])
    assert found == {key: pytest.approx(own[key] / mean) for key in found}
    assert {(1, 5), (2, 7)} < set(found)


def test_equal_weights_are_none(tmp_path: Path) -> None:
    log = with_view(weighted(tmp_path, [3] * 6), protocol("leave_last", click_negatives=1, seen="keep"), str)
    rows = WindowRows(log, 10, batching(4), window="last", stride=None, negatives=0, draws_by_row=False, device=CPU)
    assert next(iter(rows.epoch(0))).weights_BL is None


@pytest.mark.parametrize("bad", ["0", "-1", "inf"])
def test_a_weight_is_a_positive_number(tmp_path: Path, bad: str) -> None:
    with pytest.raises(SeqrecError, match=r"w is .* in line 3"):
        weighted(tmp_path, [1, bad, 2])


def test_what_a_number_means_is_counted(tmp_path: Path) -> None:
    """User 1's last two events tie, so do user 2's, but with one item; user 3 has too few."""
    rows = [f"1,{item},{DAY}{day}" for item, day in ((1, 1), (2, 2), (3, 3), (4, 3))]
    rows += [f"2,{item},{DAY}{day}" for item, day in ((1, 1), (2, 2), (1, 3), (1, 3), (1, 3))]
    rows += [f"3,1,{DAY}1"]
    log = with_view(
        read(tmp_path, rows, duplicates="drop"), protocol("leave_last", click_negatives=1, seen="keep"), str
    )
    found = meaning(log, "test")
    assert found == {
        "share_seen_before": 0.5,
        "share_never_trained": 0.5,
        "targets_in_ties": 1,
        "users": 3,
        "users_without_target": 1,
        "equal_times": 1,
        "ordered_ties": 0,
        "rows": 10,
        "rows_left_out": {"duplicates=drop": 2},
    }
