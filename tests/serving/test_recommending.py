"""Recommendations in the data's own ids, against the scores of the model they come from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.raw import AttributeTable
from seqrec_cli.data.splits import training_counts, view_of
from seqrec_cli.data.vocabulary import write_vocabulary
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Request
from seqrec_cli.training.precision import Precision

CPU = Precision(torch.device("cpu"), "fp32")
WINDOW = 6


class Encoder(SequenceEncoder):
    """The mean of the last event's vector and the user's."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(0)
        self.items = torch.nn.Embedding(log.num_items + 1, 6)
        self.users = torch.nn.Embedding(log.num_users + 1, 6)
        self.seen: list[Batch] = []

    def encode(self, batch: Batch) -> torch.Tensor:
        self.seen.append(batch)
        return self.items(batch.items_BL) + self.users(batch.users_B)[:, None]

    def item_table(self) -> torch.Tensor:
        return self.items.weight


class Clock(Recommender):
    """Scores items by how long ago the last event was."""

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        assert batch.times_BL is not None
        assert batch.request_times_B is not None
        ago_B = batch.request_times_B - batch.times_BL[:, 0]
        return -(items_BC - 100 * ago_B[:, None]).abs().float()


def request(**changes: Any) -> Request:
    plain = {"user": None, "history": None, "times": None, "asked_at": None, "context": {}, "top": 5, "repeats": False}
    return Request(**(plain | changes))


@pytest.fixture
def encoder(saved_log: PackedLog) -> Encoder:
    return Encoder(saved_log)


@pytest.fixture
def recommending(encoder: Encoder, saved_log: PackedLog) -> Recommending:
    found = Recommending(encoder, saved_log, name="mine", max_length=WINDOW, precision=CPU)
    encoder.seen.clear()
    return found


def by_hand(encoder: Encoder, user: int, item: int, seen: set[int], top: int) -> tuple[list[int], list[float]]:
    """Raw ids (index + 99) and scores after an item."""
    state = encoder.items.weight[item] + encoder.users.weight[user]
    scores = (encoder.items.weight @ state).tolist()
    left = sorted((i for i in range(1, len(scores)) if i not in seen), key=lambda i: -scores[i])[:top]
    return [99 + i for i in left], [scores[i] for i in left]


def test_a_user_of_the_data_gets_what_the_model_scores_highest_and_was_not_met(
    recommending: Recommending, encoder: Encoder, saved_log: PackedLog
) -> None:
    for user in (0, 7, 29):
        history = saved_log.items_N[saved_log.offsets_U1[user] : saved_log.offsets_U1[user + 1]].tolist()
        found = recommending.answer(request(user=str(user)))
        items, scores = by_hand(encoder, user + 1, history[-1], set(history), 5)
        assert found.items == items
        assert found.scores == pytest.approx(scores, rel=1e-5)
        assert (found.known_user, found.unknown_items, found.titles) == (True, [], None)
        assert found.events_read == min(len(history), WINDOW)


def test_a_told_history_is_read_up_to_the_window_and_none_of_it_comes_back(
    recommending: Recommending, encoder: Encoder
) -> None:
    history = [109, "104", 100, 101, 102, 103, 999, 105, 106, "x"]
    found = recommending.answer(request(history=history, user=12345, top=100))
    seen = {10, 5, 1, 2, 3, 4, 6, 7}
    items, _ = by_hand(encoder, 0, 7, seen, 100)
    assert found.items == items
    assert len(items) == 25 - len(seen)
    assert found.unknown_items == [999, "x"]
    assert (found.known_user, found.events_read) == (False, WINDOW)
    assert encoder.seen[-1].items_BL.tolist() == [[1, 2, 3, 4, 6, 7]]
    known = recommending.answer(request(history=[105], user=3))
    assert known.items == by_hand(encoder, 4, 6, {6}, 5)[0]
    assert known.known_user


def test_what_comes_back_is_as_the_run_ranked_it_unless_asked_for(encoder: Encoder, saved_log: PackedLog) -> None:
    seen, keeping = {6, 7}, replace(saved_log, view=replace(view_of(saved_log), seen="keep"))
    for log, usual in ((saved_log, seen), (keeping, set())):
        recommending = Recommending(encoder, log, name="mine", max_length=WINDOW, precision=CPU)
        for repeats, left_out in ((None, usual), (True, set()), (False, seen)):
            found = recommending.answer(request(history=[105, 106], top=100, repeats=repeats))
            assert found.items == by_hand(encoder, 0, 7, left_out, 100)[0], (usual, repeats)


def test_items_of_the_history_come_back_where_asked_for(recommending: Recommending, encoder: Encoder) -> None:
    everything = recommending.answer(request(history=[105, 106], top=100, repeats=True))
    assert sorted(map(int, everything.items)) == list(range(100, 125))
    assert everything.items == by_hand(encoder, 0, 7, set(), 100)[0]


def test_a_model_that_reads_times_is_told_them(saved_log: PackedLog) -> None:
    clock = Recommending(Clock(saved_log.catalog), saved_log, name="clock", max_length=WINDOW, precision=CPU)
    asked = {"history": [100, 101], "top": 1}
    assert clock.answer(request(**asked, times=[0, 0], asked_at=0, repeats=True)).items == [100]
    with pytest.raises(SeqrecError, match="model=clock reads when events happened: give times"):
        clock.answer(request(**asked))
    for times, says in (([1], "1 for 2 events"), ([5, 4], "not in their order"), ([5, 2**70], "times: not a time")):
        with pytest.raises(SeqrecError, match=says):
            clock.answer(request(**asked, times=times))
    for asked_at, says in ((4, "asked_at lies before"), (-(2**70), "asked_at: not a time")):
        with pytest.raises(SeqrecError, match=says):
            clock.answer(request(**asked, times=[1, 5], asked_at=asked_at))
    # Unknown items take their times with them; without `asked_at` the last event's time counts.
    later = request(history=[555, 100, 556], times=[1, 3, 3], top=1, repeats=True)
    assert clock.answer(later).items == [100]
    assert clock.answer(replace(later, asked_at=4)).items == [124]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "neither a user nor a history"),
        ({"user": 3, "times": [3]}, "times goes with a history"),
        ({"user": 3, "context": {"device": "mobile"}}, "context goes with a history"),
        ({"history": [100], "context": {"device": "mobile"}}, "context.device: the data have no such context"),
    ],
)
def test_what_cannot_be_answered_is_refused(recommending: Recommending, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        recommending.answer(request(**changes))


def test_of_whom_nothing_is_known_gets_what_is_popular(recommending: Recommending, saved_log: PackedLog) -> None:
    counts_V = training_counts(saved_log)
    best = (np.argsort(-counts_V[1:], kind="stable") + 1)[:5]
    for changes, unknown in (({"user": 400}, []), ({"history": []}, []), ({"history": [1, "2"]}, [1, "2"])):
        found = recommending.answer(request(**changes))
        assert found.items == (99 + best).tolist()
        assert found.scores == pytest.approx(np.log1p(counts_V[best]).tolist())
        assert (found.answered_by, found.events_read, found.unknown_items) == ("popularity", 0, unknown)
    assert recommending.answer(request(user=3)).answered_by == "model"
    left_out = Recommending(
        recommending.model, saved_log, name="mine", max_length=WINDOW, precision=CPU, left_out=best[:2]
    )
    assert left_out.answer(request(history=[], top=3)).items == (99 + best[2:5]).tolist()
    for history in ([1], []):  # where many are asked for at once, a table of them has no such row
        with pytest.raises(SeqrecError, match=r"\(ids such as 100, 124\)"):
            recommending.given(request(history=history))
    with pytest.raises(SeqrecError, match=r"user=400: the data have no such user \(ids such as 0, 29\)"):
        recommending.logged([400])


def test_scores_that_are_no_numbers_are_refused(
    recommending: Recommending, encoder: Encoder, saved_log: PackedLog
) -> None:
    with torch.no_grad():
        encoder.items.weight[9] = torch.nan
    with pytest.raises(SeqrecError, match="diverged"):
        recommending.answer(request(user=1))


def test_titles_stand_beside_their_items(encoder: Encoder, saved_log: PackedLog, tmp_path: Path) -> None:
    assert saved_log.folder is not None
    ids = np.arange(100, 125)
    write_vocabulary(tmp_path, "items", ids, titles=AttributeTable(ids, [(f"No. {raw}",) for raw in ids]))
    pq.write_table(pq.read_table(saved_log.folder / "users.parquet"), tmp_path / "users.parquet")
    named = Recommending(
        encoder, replace(saved_log, folder=tmp_path), name="mine", max_length=WINDOW, precision=CPU
    ).answer(request(user=1))
    assert named.titles == [f"No. {raw}" for raw in named.items]
