"""Leave-one-out: what each event adds to a score, against scores of histories written out without it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.histories import Histories, joined
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.leaving_out import contributions, leave_one_out
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.training.precision import Precision
from tests.serving.test_recommending import CPU, WINDOW, Clock

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.served import MOST, Served
from tests.serving.titled import FADES, Fading, fading, titled


@pytest.fixture
def log(saved_log: PackedLog, tmp_path: Path) -> PackedLog:
    return titled(saved_log, tmp_path)


@pytest.fixture
def served(log: PackedLog) -> Iterator[Served]:
    found = Served(fading(log), beside=fading(log, 1))
    yield found
    found.batcher.close()


def test_each_history_lacks_one_event_and_keeps_the_rest() -> None:
    asked = Histories(
        users_R=np.array([7]),
        items_N=np.array([9, 4, 5, 4, 9]),
        starts_R=np.array([1]),
        ends_R=np.array([4]),
        times_N=np.array([0, 10, 20, 30, 99]),
        asked_at_R=np.array([50]),
        context_RF=np.array([[3]]),
        context_NF=np.array([[0], [1], [2], [3], [9]]),
    )
    first, last = leave_one_out(asked, np.array([0, 2]))
    assert (first.items_N.tolist(), last.items_N.tolist()) == ([5, 4], [4, 5])
    assert (first.times_N.tolist(), last.times_N.tolist()) == ([20, 30], [10, 20])  # type: ignore[union-attr]
    assert (first.context_NF.tolist(), last.context_NF.tolist()) == ([[2], [3]], [[1], [2]])  # type: ignore[union-attr]
    for each in (first, last):
        assert (each.starts_R.tolist(), each.ends_R.tolist(), each.users_R.tolist()) == ([0], [2], [7])
        assert (each.asked_at_R.tolist(), each.context_RF.tolist()) == ([50], [[3]])  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="one history"):
        leave_one_out(joined([asked, asked]), np.array([0]))


@pytest.mark.parametrize(
    ("length", "read", "most", "events"),
    [(4, 6, 9, [0, 1, 2, 3]), (8, 6, 9, [2, 3, 4, 5, 6, 7]), (8, 6, 2, [6, 7]), (1, 6, 9, [0])],
)
def test_the_latest_events_that_the_model_reads_are_left_out(
    length: int, read: int, most: int, events: list[int]
) -> None:
    asked = Histories(np.zeros(1, int), np.arange(1, length + 1), np.zeros(1, int), np.array([length]))

    async def score(history: Histories) -> np.ndarray:
        return np.array([history.items_N.sum(), 0.0])  # every item adds its number to the first candidate

    found = asyncio.run(contributions(asked, score, read=read, most=most))
    assert found.events_E.tolist() == events
    assert found.contributions_EC.tolist() == [[event + 1, 0] for event in events]
    assert found.scores_C.tolist() == [sum(range(max(length - read, 0) + 1, length + 1)), 0]


def by_hand(model: Fading, history: list[int], item: int) -> float:
    vectors = model.items.weight.detach().numpy()
    window = history[-WINDOW:]
    state = sum(FADES ** (len(window) - 1 - nth) * vectors[raw - 99] for nth, raw in enumerate(window))
    return float(state @ vectors[item - 99])


def test_contributions_are_those_of_shorter_histories(served: Served) -> None:
    models = [loaded.scoring.model for loaded in served.answering.runs().values()]
    history = [100, 109, 103, 100, 117, 121, 104, 111]  # longer than the window, with an item that came twice
    asked = {"user_history": history, "candidates": [110, 101]}
    answers = served.post("/explain", asked, {**asked, "run": "B"})
    for model, (status, answer) in zip(models, answers, strict=True):
        assert status == 200
        for item in answer["explained"]:
            assert item["score"] == pytest.approx(by_hand(model, history, item["item_id"]), abs=1e-4)  # type: ignore[arg-type]
            assert sorted(event["position"] for event in item["events"]) == [
                3,
                4,
                5,
                6,
                7,
            ]  # the latest five: `left_out`
            sizes = [abs(event["contribution"]) for event in item["events"]]
            assert sizes == sorted(sizes, reverse=True)
            for event in item["events"]:
                assert event["item_id"] == history[event["position"]]
                read = enumerate(history[-WINDOW:], len(history) - WINDOW)  # no older event takes a place
                shorter = [raw for nth, raw in read if nth != event["position"]]
                expected = item["score"] - by_hand(model, shorter, item["item_id"])  # type: ignore[arg-type]
                assert event["contribution"] == pytest.approx(expected, abs=1e-4)
        assert [item["title"] for item in answer["explained"]] == ["No. 110", "Heat"]
    assert sum(served.batches) == 12  # the history and five shorter ones, of each run
    assert len(served.batches) <= 4


def test_unknown_items_keep_their_places_and_unknown_candidates_are_told(served: Served) -> None:
    body = {"user_history": ["?", 105, 999, 106], "candidates": [110, "no"]}
    ((status, answer),) = served.post("/explain", body)
    assert (status, answer["unknown_candidates"], answer["unknown_items"]) == (200, ["no"], ["?", 999])
    events = {event["position"]: event["item_id"] for event in answer["explained"][0]["events"]}
    assert events == {1: 105, 3: 106}


def test_a_user_s_own_events_are_counted_from_the_first(served: Served, log: PackedLog) -> None:
    lengths_U = np.diff(log.offsets_U1)
    user = int(lengths_U.argmax())
    items = log.items_N[log.offsets_U1[user] : log.offsets_U1[user + 1]] + 99
    ((_, answer),) = served.post("/explain", {"user": user, "candidates": [110]})
    events = {event["position"]: event["item_id"] for event in answer["explained"][0]["events"]}
    assert events == {nth: items[nth] for nth in range(len(items) - MOST.left_out, len(items))}


@pytest.mark.parametrize(
    ("body", "events", "by"),
    [
        ({"user_history": [105]}, 1, "model"),
        ({"user_history": []}, 0, "popularity"),
        ({"user": "nobody"}, 0, "popularity"),
        ({"user_history": [105, 105]}, 2, "model"),
    ],
)
def test_short_histories(served: Served, body: Any, events: int, by: str) -> None:
    ((status, answer),) = served.post("/explain", {**body, "candidates": [110]})
    assert (status, answer["answered_by"], len(answer["explained"][0]["events"])) == (200, by, events)
    ((_, scored),) = served.post("/score", {**body, "candidates": [110]})
    assert answer["explained"][0]["score"] == pytest.approx(scored["scores"][0]["score"])


def test_a_ranker_that_reads_times_is_explained(saved_log: PackedLog) -> None:
    clock = Recommending(Clock(saved_log.catalog), saved_log, name="clock", max_length=WINDOW, precision=CPU)
    served = Served(clock)
    body = {"user_history": [100, 101], "times": [0, 1], "asked_at": 2, "candidates": [110]}
    ((status, answer),) = served.post("/explain", body)
    assert status == 200
    # item 11; 200 without the second event's absence, 100 where the first event is not there
    events = {event["position"]: event["contribution"] for event in answer["explained"][0]["events"]}
    assert answer["explained"][0]["score"] == -189
    assert events == {0: -189 + 89, 1: 0}
    served.batcher.close()


def test_the_limits_are_told_in_a_line(log: PackedLog, served: Served) -> None:
    for body, says in (
        ({"user_history": [100]}, "candidates: Field required"),
        ({"user_history": [100], "candidates": [100] * 21}, "candidates: 21 are given, at most 20"),
        ({"user_history": [100], "candidates": [100], "run": "C"}, "run=C: no such run (have: A, B)"),
    ):
        ((status, said),) = served.post("/explain", body)
        assert (status, says in said["detail"]) == (422, True), said
    silent = Served(fading(log), most=replace(MOST, left_out=0))
    ((status, said),) = silent.post("/explain", {"user_history": [100, 101], "candidates": [100]})
    assert (status, said["detail"]) == (422, "this service explains nothing (most_left_out=0)")
    assert silent.batches == []
    silent.batcher.close()


def test_scores_that_are_subtracted_are_of_fp32_whatever_the_run_computes_in(log: PackedLog) -> None:
    formats = list[bool]()

    class Noting(Fading):
        def encode(self, batch: Batch) -> torch.Tensor:
            formats.append(torch.is_autocast_enabled("cpu"))
            return super().encode(batch)

    bf16 = Precision(torch.device("cpu"), "bf16")
    recommending = Recommending(Noting(log), log, name="noting", max_length=WINDOW, precision=bf16)
    served = Served(recommending)
    formats.clear()
    body = {"user_history": [100, 101], "candidates": [110]}
    served.post("/score", body)
    assert set(formats) == {True}
    formats.clear()
    served.post("/explain", body)
    assert set(formats) == {False}
    served.batcher.close()


def test_a_model_whose_row_has_a_place_of_no_event_is_asked_about_fewer(log: PackedLog) -> None:
    class Masking(Fading):
        places_of_no_event = 1

    recommending = Recommending(Masking(log), log, name="masking", max_length=WINDOW, precision=CPU)
    served = Served(recommending, most=replace(MOST, left_out=50))
    body = {"user_history": [100, 109, 103, 100, 117, 121, 104], "candidates": [110]}
    ((_, answer),) = served.post("/explain", body)
    assert sorted(event["position"] for event in answer["explained"][0]["events"]) == [2, 3, 4, 5, 6]
    served.batcher.close()
