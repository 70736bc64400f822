"""Training rows and held-out batches against what can be read off the histories."""

import threading
from collections import Counter

import numpy as np
import pytest
import torch

from seqrec_cli.data import prefetch
from seqrec_cli.data.batch import Batch, padded_rows
from seqrec_cli.data.loader import PrefixRows, WindowRows, labelled_batches, target_batches, windows
from seqrec_cli.data.prefetch import prefetched
from seqrec_cli.data.splits import held_out, train_ends
from tests.toylog import batching, packed, random_histories

HISTORIES = random_histories(37, 50, 30, seed=3)


def window_rows(
    log,
    *,
    max_length=8,
    window="last",
    batch_size=5,
    batch_tokens=None,
    negatives=0,
    seed=1,
    by_row=False,
    bucket_by_length=True,
) -> WindowRows:
    device = torch.device("cpu")
    dealt = batching(batch_size, seed, bucket_by_length, batch_tokens)
    return WindowRows(
        log,
        max_length,
        dealt,
        window=window,
        stride=None,
        negatives=negatives,
        draws_by_row=by_row,
        device=device,
    )


def rows_of(batch: Batch) -> list[tuple[int, list[int], list[int]]]:
    """(user, inputs, targets) of every row without its padding."""
    assert batch.targets_BL is not None
    return [
        (int(u), batch.items_BL[b, :n].tolist(), batch.targets_BL[b, :n].tolist())
        for b, (u, n) in enumerate(zip(batch.users_B, batch.lengths_B.tolist(), strict=True))
    ]


def test_rows_are_padded_on_the_right() -> None:
    rows = padded_rows(np.arange(10), np.array([2, 7, 9]), np.array([3, 1, 0]))
    assert rows.tolist() == [
        [2, 3, 4],
        [7, 0, 0],
        [0, 0, 0],
    ]


def test_last_windows_are_the_latest_training_events() -> None:
    log = packed(HISTORIES, 50)
    seen = [row for batch in window_rows(log).epoch(0) for row in rows_of(batch)]
    expected = []
    for user, history in enumerate(HISTORIES, start=1):
        train = history[:-2][-9:]
        if len(train) > 1:
            expected.append((user, train[:-1], train[1:]))
    assert sorted(seen) == sorted(expected)


def test_windows_know_when_their_last_target_is() -> None:
    log = packed(HISTORIES, 50)
    assert log.times_N is not None
    for batch in window_rows(log, window="sliding").epoch(0):
        assert batch.request_times_B is not None
        assert batch.times_BL is not None
        for b, (_, _, targets) in enumerate(rows_of(batch)):
            assert batch.request_times_B[b] == batch.times_BL[b, len(targets) - 1] + 60  # a minute between events
            assert log.items_N[int(batch.request_times_B[b]) // 60] == targets[-1]
    assert next(iter(window_rows(packed(HISTORIES, 50, times=False)).epoch(0))).request_times_B is None


def test_sliding_windows_make_every_training_event_a_target_once() -> None:
    log = packed(HISTORIES, 50)
    rows = window_rows(log, window="sliding")
    seen = Counter((u, t) for batch in rows.epoch(0) for u, _, targets in rows_of(batch) for t in targets)
    expected = Counter((u, t) for u, history in enumerate(HISTORIES, 1) for t in history[1:-2])
    assert seen == expected
    _, starts_R, lengths_R = windows(log.offsets_U1, log.offsets_U1[1:] - 2, 8, kind="sliding", stride=None)
    assert lengths_R.max() == 9
    assert (starts_R >= 0).all()


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_stride_sets_windows_that_far_apart(stride: int) -> None:
    log = packed(HISTORIES, 50)
    rows_R, starts_R, lengths_R = windows(log.offsets_U1, train_ends(log), 8, kind="sliding", stride=stride)
    expected = []
    for user, (first, end) in enumerate(zip(log.offsets_U1[:-1], train_ends(log), strict=True)):
        while end - first > 1:
            start = max(first, end - 9)
            expected.append((user, start, end - start))
            if start == first:
                break
            end -= stride
    assert list(zip(rows_R, starts_R, lengths_R, strict=True)) == expected


def test_order_is_a_function_of_seed_epoch_and_step() -> None:
    log = packed(HISTORIES, 50)
    rows = window_rows(log, negatives=2)
    whole = list(rows.epoch(3))
    assert len(whole) == rows.steps
    for later, batch in zip(window_rows(log, negatives=2).epoch(3, start=2), whole[2:], strict=True):
        assert torch.equal(later.items_BL, batch.items_BL)
        assert torch.equal(later.negatives_BLK, batch.negatives_BLK)
    users = [[b.users_B.tolist() for b in r] for r in (rows.epoch(4), window_rows(log, seed=2).epoch(3), whole)]
    assert users[0] != users[2]
    assert users[1] != users[2]


def test_like_lengths_share_a_batch() -> None:
    log = packed(random_histories(200, 50, 40, seed=5), 50)
    batches = list(window_rows(log, max_length=40, batch_size=20).epoch(0))
    padded = sum(b.items_BL.numel() for b in batches)
    real = sum(int(b.lengths_B.sum()) for b in batches)
    assert real / padded > 0.8  # in random order it would be about 0.55


def test_rows_of_any_length_share_a_batch_where_asked_for() -> None:
    log = packed(random_histories(200, 50, 40, seed=5), 50)
    rows = window_rows(log, max_length=40, batch_size=20, bucket_by_length=False)
    batches = list(rows.epoch(0))
    assert len(batches) == rows.steps == window_rows(log, max_length=40, batch_size=20).steps
    assert 0.4 < sum(int(b.lengths_B.sum()) for b in batches) / sum(b.items_BL.numel() for b in batches) < 0.7
    for batch in batches:  # so that a part of a batch is no wider than its rows need
        assert torch.equal(batch.lengths_B, batch.lengths_B.sort(descending=True).values)
    users = sorted(user for batch in batches for user in batch.users_B.tolist())
    assert users == sorted(user for batch in window_rows(log).epoch(0) for user in batch.users_B.tolist())
    again, other = (
        list(window_rows(log, max_length=40, batch_size=20, bucket_by_length=False, seed=s).epoch(0)) for s in (1, 2)
    )
    assert all(torch.equal(a.items_BL, b.items_BL) for a, b in zip(batches, again, strict=True))
    assert [b.users_B.tolist() for b in other] != [b.users_B.tolist() for b in batches]
    assert [b.users_B.tolist() for b in rows.epoch(1)] != [b.users_B.tolist() for b in batches]


def test_token_budget_bounds_a_batch_and_keeps_the_number_of_steps() -> None:
    log = packed(HISTORIES, 50)
    rows = window_rows(log, batch_tokens=40)
    for epoch in range(3):
        batches = list(rows.epoch(epoch))
        assert len(batches) == rows.steps
        assert all(b.items_BL.numel() <= 40 for b in batches)
    assert sum(len(b) for b in batches) == sum(len(h) > 3 for h in HISTORIES)


def test_window_negatives_are_unseen_in_training_and_may_be_held_out_items() -> None:
    log = packed([[1, 2, 3, 4, 5]], 6)
    drawn = {
        i for e in range(60) for b in window_rows(log, negatives=2).epoch(e) for i in b.negatives_BLK.flatten().tolist()
    }
    assert drawn == {4, 5, 6}


def test_a_row_s_positions_may_share_their_negatives() -> None:
    log = packed(HISTORIES, 50)
    for batch in window_rows(log, negatives=9, by_row=True).epoch(0):
        assert batch.negatives_BLK.shape == (len(batch), 1, 9)
        for user, drawn in zip(batch.users_B.tolist(), batch.negatives_BLK[:, 0].tolist(), strict=True):
            assert not set(drawn) & set(HISTORIES[user - 1][:-2])


def test_prefixes_are_all_training_positions() -> None:
    log = packed(HISTORIES, 50)
    rows = PrefixRows(log, max_length=8, batching=batching(16), negatives=3)
    seen = []
    for batch in rows.epoch(0):
        for b, n in enumerate(batch.lengths_B.tolist()):
            user, positive = int(batch.users_B[b]), int(batch.candidates_BC[b, 0])
            seen.append((user, batch.items_BL[b, :n].tolist(), positive))
            assert not set(batch.candidates_BC[b, 1:].tolist()) & set(HISTORIES[user - 1][:-2])
        assert batch.labels_BC[:, 0].eq(1).all()
        assert batch.labels_BC[:, 1:].eq(0).all()
    expected = [(u, h[max(0, t - 8) : t], h[t]) for u, h in enumerate(HISTORIES, 1) for t in range(1, len(h) - 2)]
    assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize(("split", "back"), [("val", 2), ("test", 1)])
def test_held_out_histories_end_before_the_target(split, back) -> None:
    log = packed(HISTORIES, 50, click_negatives=4)
    seen = {}
    targets = held_out(log, split)
    for picked_B, batch in target_batches(log, targets, max_length=8, batch_size=10):
        rows_B, ends_B = targets.rows_R[picked_B], targets.ends_R[picked_B]
        for b, n in enumerate(batch.lengths_B.tolist()):
            seen[int(rows_B[b])] = (batch.items_BL[b, :n].tolist(), int(log.items_N[ends_B[b]]))
            assert batch.request_times_B[b] == log.times_N[ends_B[b]]
    assert seen == {u: (h[:-back][-8:], h[-back]) for u, h in enumerate(HISTORIES)}
    labelled = {
        int(log.clicks[split].rows_R[r]): b.candidates_BC[i]
        for picked_B, b in labelled_batches(log, split, max_length=8, batch_size=10)
        for i, r in enumerate(picked_B)
    }
    assert {u: int(c[0]) for u, c in labelled.items()} == {u: h[-back] for u, h in enumerate(HISTORIES)}
    assert all(not set(c[1:].tolist()) & set(HISTORIES[u]) for u, c in labelled.items())


def test_a_log_without_times_gives_batches_without_times() -> None:
    log = packed(HISTORIES, 50, times=False)
    assert next(iter(window_rows(log).epoch(0))).times_BL is None


@pytest.fixture(params=[True, False], ids=["thread", "in turn"])
def by_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(prefetch, "_cores_to_spare", lambda: request.param)
    return bool(request.param)


@pytest.mark.usefixtures("by_thread")
def test_errors_of_the_loader_reach_the_consumer() -> None:
    def broken():
        yield next(iter(window_rows(packed(HISTORIES, 50)).epoch(0)))
        raise RuntimeError("disk gone")

    stream = prefetched(broken)
    next(stream)
    with pytest.raises(RuntimeError, match="disk gone"):
        next(stream)


def test_a_loader_thread_works_alone_and_leaves_the_others_their_threads(by_thread: bool) -> None:
    before, inside = torch.get_num_threads(), []

    def make():
        inside.append((torch.get_num_threads(), threading.current_thread() is not threading.main_thread()))
        yield from window_rows(packed(HISTORIES, 50)).epoch(0)

    torch.set_num_threads(2)
    try:
        next(prefetched(make))
        assert (inside, torch.get_num_threads()) == ([(1, True) if by_thread else (2, False)], 2)
    finally:
        torch.set_num_threads(before)


def test_a_step_that_uses_every_core_leaves_none_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "count", lambda kind: 0)
    monkeypatch.setattr(prefetch, "cores", lambda: 3)
    for threads, spare in ((2, True), (3, False), (4, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert prefetch._cores_to_spare() is spare
    monkeypatch.setattr(prefetch, "count", lambda kind: int(kind == "cuda"))  # the processor waits for it
    assert prefetch._cores_to_spare()
