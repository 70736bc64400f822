"""What is read a block at a time is what the whole is: users' blocks, arrays on disk, seen items looked up."""

from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import dataset, protocol

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data import blocks, negatives
from seqrec_cli.data.negatives import SeenInLog, SeenItems, draw_unseen
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import training_counts
from seqrec_cli.protocols.view.build import with_view


def history(seed: int, users: int = 40, items: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    offsets_U1 = np.concatenate([[0], np.cumsum(rng.integers(0, 9, users))])
    return offsets_U1, rng.integers(1, items + 1, int(offsets_U1[-1])).astype(np.int32)


def test_blocks_are_of_whole_users_and_hold_all_of_them() -> None:
    offsets_U1, items_N = history(0)
    found = list(blocks.user_blocks(offsets_U1, events=10))
    assert len(found) > 5
    assert np.concatenate([items_N[events] for _, events in found]).tolist() == items_N.tolist()
    assert np.concatenate([np.arange(40)[users] for users, _ in found]).tolist() == list(range(40))
    for users, events in found:
        assert (events.start, events.stop) == (offsets_U1[users.start], offsets_U1[users.stop])
        assert events.stop - events.start <= 10


def test_a_large_array_lies_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ON_DISK", 64)
    assert not isinstance(blocks.zeros((3, 5), np.int32, tmp_path), np.memmap)
    found = blocks.zeros((4, 5), np.int32, tmp_path)
    assert isinstance(found, np.memmap)
    found[2] = 7
    assert found.sum() == 35
    assert list(tmp_path.iterdir()) == []
    assert not isinstance(blocks.zeros((4, 5), np.int32, None), np.memmap)


@pytest.mark.parametrize("cut", [False, True])
def test_seen_items_are_the_same_looked_up_in_the_log(monkeypatch: pytest.MonkeyPatch, cut: bool) -> None:
    offsets_U1, items_N = history(1)
    ends_U = np.maximum(offsets_U1[1:] - 2, offsets_U1[:-1]) if cut else None
    kept = SeenItems.of(offsets_U1, items_N, 12, ends_U=ends_U)
    monkeypatch.setattr(negatives, "LARGE", 10)
    found = SeenItems.of(offsets_U1, items_N, 12, ends_U=ends_U)
    assert isinstance(found, SeenInLog)
    assert not isinstance(kept, SeenInLog)
    rows, items = np.divmod(np.arange(40 * 12), 12)
    assert found.contains(rows, items + 1).tolist() == kept.contains(rows, items + 1).tolist()
    assert kept.contains(rows, items + 1).any()
    assert found.counts(40).tolist() == kept.counts(40).tolist()
    drawn = [draw_unseen(np.arange(40), 5, seen, rng=np.random.default_rng(3)).tolist() for seen in (kept, found)]
    assert drawn[0] == drawn[1]


def test_who_has_seen_all_is_refused_in_the_log_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negatives, "LARGE", 1)
    items_N = np.array([1, 2, 1, 2, 1], np.int32)
    with pytest.raises(SeqrecError, match="every user has seen every item"):
        SeenItems.of(np.array([0, 2, 5]), items_N, 2).refuse_all_seen(2)
    SeenItems.of(np.array([0, 1, 5]), items_N, 2).refuse_all_seen(2)


def test_a_view_is_the_same_in_blocks_of_a_few_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    rows = [f"u{user},i{item},{1_500_000_000 + time}" for user, item, time in rng.integers(0, 25, (600, 3))]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows]) + "\n", encoding="utf-8")
    cfg = dataset("csv", archive=tmp_path / "log.csv", duplicates="drop")
    views = []
    for nth, (events, on_disk, large) in enumerate([(1 << 22, 1 << 28, 1 << 25), (7, 8, 3)]):
        monkeypatch.setattr(blocks.user_blocks, "__defaults__", (events,))
        monkeypatch.setattr(blocks, "ON_DISK", on_disk)
        monkeypatch.setattr(negatives, "LARGE", large)
        log = with_view(prepare(cfg, tmp_path / str(nth), lambda line: None), protocol("leave_last"), lambda line: None)
        assert log.view is not None
        clicks = log.view.clicks["test"]
        views.append(
            (training_counts(log).tolist(), log.view.manifest, clicks.items_RC.tolist(), clicks.labels_RC.tolist())
        )
    assert views[0] == views[1]
    assert views[0][1]["splits"]["test"]["repeated_targets"] > 0
    assert views[0][1]["targets_in_ties"]["test"] > 0
