"""What all protocols keep to: nothing held out reaches training; repeats are no give-away; seeds draw what is drawn."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import names
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.interactions import LabelledRows, PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows, WindowRows
from seqrec_cli.data.splits import training_counts
from tests.protocols.asking import asked, log_of, questions, view_of
from tests.shipped import shipped
from tests.toylog import batching, packed

CPU = torch.device("cpu")


def busy_log() -> PackedLog:
    """40 users, 30 items, repeats and ties, requests with impressions, sessions and a split of its own."""
    rng = np.random.default_rng(4)
    histories = [rng.integers(1, 31, int(rng.integers(5, 25))).tolist() for _ in range(40)]
    log = packed(histories, 30)
    times = [np.sort(rng.integers(0, 20_000, len(h))) for h in histories]
    ends_R = np.array([end - back for end in log.offsets_U1[1:] for back in (4, 3, 2, 1)])
    items_RC = np.stack([log.items_N[ends_R], log.items_N[ends_R] % 30 + 1], axis=1)
    requests = LabelledRows(np.repeat(np.arange(40), 4), ends_R, items_RC, np.tile(np.float32([1, 0]), (160, 1)))
    return replace(
        log,
        view=None,
        times_N=np.concatenate(times),
        sessions_N=(np.arange(len(log.items_N)) // 3).astype(np.int32),
        splits_N=np.concatenate([np.sort(rng.integers(0, 3, len(h))) for h in histories]).astype(np.int8),
        requests=requests,
    )


ASKED = [
    *((name, {}) for name in names("protocol")),
    *(("global_time", {"targets": choice}) for choice in ("last", "first", "random", "all")),
    *(("global_time", {"validation": how}) for how in ("last_train_event", "by_users")),
    ("last_k", {"targets": "all", "k": 2}),
    ("ratio", {"targets": "all"}),
    ("sessions", {"by": "column", "targets": "last"}),
    ("new_users", {"targets": "successive"}),
    ("leave_last", {"ties": "reversed"}),
    ("leave_last", {"ties": "shuffled"}),
]


@pytest.mark.parametrize("seen", ["remove", "keep"])
@pytest.mark.parametrize(("name", "settings"), ASKED)
def test_nothing_held_out_reaches_training(name: str, settings: dict[str, Any], seen: str) -> None:
    """Every held-out event's item is replaced by another: all training batches and counts stay, bit for bit."""
    settings = {"held_out_users": 0.2} | settings if "held_out_users" in shipped("protocol", name) else settings
    log = asked(busy_log(), name, seen=seen, **settings)
    view = view_of(log)
    held_N = np.arange(len(log.items_N)) >= np.repeat(view.train_U, np.diff(log.offsets_U1))
    for split in ("val", "test"):
        assert held_N[view.targets(split).positions_T].all()  # type: ignore[arg-type]
    other = replace(log, items_N=np.where(held_N, log.items_N % 30 + 1, log.items_N).astype(np.int32))
    assert (other.items_N != log.items_N).any()
    assert np.array_equal(training_counts(log), training_counts(other))
    assert np.array_equal(training_counts(log), np.bincount(log.items_N[~held_N], minlength=31))
    makers = [
        lambda each: WindowRows(
            each, 6, batching(8), window="sliding", stride=None, negatives=2, draws_by_row=False, device=CPU
        ),
        lambda each: PrefixRows(each, 6, batching(8), negatives=2, history_negatives=1),
        lambda each: PositionRows(each, 6, batching(8), negatives=2, device=CPU),
    ]
    if "train" in log.clicks:
        makers.append(lambda each: LabelledTraining(each, 6, batching(8)))
    for make in makers:
        for one, two in zip(make(log).epoch(0), make(other).epoch(0), strict=True):
            for field in ("items_BL", "targets_BL", "candidates_BC", "labels_BC", "negatives_BLK", "users_B"):
                first, second = getattr(one, field), getattr(two, field)
                assert (first is None) == (second is None)
                assert first is None or torch.equal(first, second), field


@pytest.mark.parametrize(("name", "settings"), ASKED)
def test_histories_end_before_their_targets_and_a_target_is_asked_once(name: str, settings: dict[str, Any]) -> None:
    log = asked(busy_log(), name, seen="keep", **settings)
    for split in ("val", "test"):
        targets = view_of(log).targets(split)  # type: ignore[arg-type]
        requests_T = targets.requests_T
        assert (targets.ends_R[requests_T] <= targets.positions_T).all()
        assert (targets.ends_R > log.offsets_U1[targets.rows_R]).all()
        assert (targets.positions_T < log.offsets_U1[targets.rows_R + 1][requests_T]).all()
        assert len(np.unique(targets.positions_T)) == len(targets.positions_T)
        assert (np.diff(targets.rows_R) >= 0).all()
    assert not np.isin(view_of(log).val.positions_T, view_of(log).test.positions_T).any()


# Repeats


def test_repeated_targets_are_left_out_counted_and_said_or_kept() -> None:
    log = log_of([[1, 2, 3, 1], [4, 5, 6, 7], [8, 9, 8, 9]], times=[*range(12)])
    said: list[str] = []
    removed = asked(log, "leave_last", said.append)
    assert questions(removed, view_of(removed).test) == [(1, [4, 5, 6], [7])]
    assert questions(removed, view_of(removed).val) == [(0, [1, 2], [3]), (1, [4, 5], [6])]
    assert said[1] == (
        "test: 2 of 3 targets repeat an item of their history and are left out (protocol.seen=keep ranks them)"
    )
    counts = view_of(removed).manifest["splits"]["test"]
    assert (counts["held_out_targets"], counts["repeated_targets"], counts["left_out_repeats"]) == (3, 2, 2)
    assert removed.clicks["test"].rows_R.tolist() == [1]
    kept = asked(log, "leave_last", seen="keep")
    assert view_of(kept).test.rows_R.tolist() == [0, 1, 2]
    counts = view_of(kept).manifest["splits"]["test"]
    assert (counts["repeated_targets"], counts["left_out_repeats"]) == (2, 0)


def test_a_log_of_repeats_alone_is_refused_under_remove() -> None:
    log = log_of([[1, 2, 1, 2], [3, 4, 3, 4]], times=[*range(8)])
    with pytest.raises(SeqrecError, match=r"every target of val repeats an item .*; use protocol.seen=keep"):
        asked(log, "leave_last")


@pytest.mark.parametrize(
    ("name", "settings"), [("last", {}), ("new_users", {}), ("global_time", {"cut": 0.7, "validation": "by_users"})]
)
def test_the_seed_draws_the_users(name: str, settings: dict[str, Any]) -> None:
    log = log_of([[1 + (user + nth) % 20 for nth in range(6)] for user in range(60)], times=[*range(6)] * 60)
    drawn = [set(view_of(asked(log, name, seed=s, **settings)).val.rows_R.tolist()) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_seed_draws_the_users_whose_requests_are_held_out() -> None:
    drawn = [set(view_of(asked(busy_log(), "impressions_by_user", seen="keep", seed=s)).val.rows_R) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", ["leave_last", "positions", "last"])
def test_negatives_are_drawn_from_seen_items_too_where_those_stay(name: str) -> None:
    """Under keep, whether a candidate was seen tells clicks from negatives no better than repeats do by themselves."""
    rng = np.random.default_rng(0)
    log = log_of([rng.permutation(12)[:8].tolist() for _ in range(300)], times=[*range(2400)], num_items=12)
    log = replace(log, items_N=(log.items_N + 1).astype(np.int32), catalog=replace(log.catalog, num_items=12))
    shares = {}
    for seen in ("remove", "keep"):
        rows = asked(log, name, seen=seen).clicks["test"]
        histories = [set(log.items_N[log.offsets_U1[r] : e]) for r, e in zip(rows.rows_R, rows.ends_R, strict=True)]
        negatives = [int(items_C[-1]) for items_C in rows.items_RC]
        shares[seen] = np.mean([n in h for n, h in zip(negatives, histories, strict=True)])
        assert all(n != t for n, t in zip(negatives, rows.items_RC[:, 0], strict=True))  # never the target itself
    assert shares["remove"] == 0
    assert shares["keep"] == pytest.approx(7 / 11, abs=0.1 if name != "last" else 0.2)


def test_the_seed_draws_the_click_negatives() -> None:
    drawn = [asked(log_of(), "leave_last", click_negatives=9, seed=s).clicks["test"].items_RC for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_training_negatives_follow_the_same_choice() -> None:
    log = log_of([[*range(1, 11)]] * 20, times=[*range(200)], num_items=12)
    for make in (
        lambda each: PrefixRows(each, 20, batching(400), negatives=5),
        lambda each: PositionRows(each, 20, batching(400), negatives=5, device=CPU),
    ):
        (removed,) = make(asked(log, "leave_last")).epoch(0)
        (kept,) = make(asked(log, "leave_last", seen="keep")).epoch(0)
        for batch, share in ((removed, 0.0), (kept, 7 / 11)):
            items_BTC = batch.candidates_BC.view(len(batch), -1, 6)
            real = items_BTC[..., 0] > 0
            negatives, positives = items_BTC[..., 1:][real], items_BTC[..., :1][real]
            assert (negatives <= 8).float().mean().item() == pytest.approx(share, abs=0.08)  # items 1 to 8 train
            assert not (negatives == positives).any()
