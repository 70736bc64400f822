"""objective.window=prefixes: each training target has one row, which ends before it."""

import pytest
import torch

from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.loader import WindowRows, windows
from seqrec_cli.data.splits import train_ends
from tests.toylog import batching, packed, random_histories

HISTORIES = random_histories(23, 50, 20, seed=4)
CPU = torch.device("cpu")


def prefix_rows(negatives: int = 0) -> WindowRows:
    log = packed(HISTORIES, 50)
    return WindowRows(
        log, 8, batching(16), window="prefixes", stride=None, negatives=negatives, draws_by_row=True, device=CPU
    )


def only_target(batch: Batch, row: int) -> int:
    """The row's target, after its last event; nothing else in the row is one."""
    assert batch.targets_BL is not None
    length = int(batch.lengths_B[row])
    assert torch.count_nonzero(batch.targets_BL[row]) == 1
    return int(batch.targets_BL[row, length - 1])


def test_every_prefix_is_a_row_once_an_epoch_and_its_next_event_the_target() -> None:
    rows, expected = prefix_rows(), []
    for user, history in enumerate(HISTORIES, start=1):
        expected += [(user, history[max(0, t - 8) : t], history[t]) for t in range(1, len(history) - 2)]
    for epoch in (0, 1):
        found = [
            (int(batch.users_B[b]), batch.items_BL[b, :n].tolist(), only_target(batch, b))
            for batch in rows.epoch(epoch)
            for b, n in enumerate(batch.lengths_B.tolist())
        ]
        assert sorted(found) == sorted(expected)


def test_an_epoch_has_as_many_targets_as_rows_and_parts_of_a_batch_keep_theirs() -> None:
    rows = prefix_rows()
    every = sum(max(len(history) - 3, 0) for history in HISTORIES)
    assert sum(int(targets_B.sum()) for _, targets_B in rows.sizes(0)) == every
    for batch in rows.epoch(0):
        assert count_targets(batch) == len(batch)
        assert torch.equal(batch.target_positions(), batch.targets_BL.flatten().nonzero()[:, 0])  # type: ignore[union-attr]
        for part in batch.parts(24):
            assert [only_target(part, b) for b in range(len(part))]
            assert torch.equal(part.target_positions() % part.items_BL.shape[1], part.lengths_B - 1)


def test_a_row_is_asked_when_its_target_happened() -> None:
    log = packed(HISTORIES, 50)
    assert log.times_N is not None
    for batch in prefix_rows().epoch(0):
        assert batch.request_times_B is not None
        assert batch.times_BL is not None
        last_B = batch.times_BL[torch.arange(len(batch)), batch.lengths_B - 1]
        assert torch.equal(batch.request_times_B, last_B + 60)


def test_unseen_items_are_drawn_for_a_row_not_for_its_events() -> None:
    for batch in prefix_rows(negatives=3).epoch(0):
        assert batch.negatives_BLK is not None
        assert batch.negatives_BLK.shape == (len(batch), 1, 3)


@pytest.mark.parametrize(("max_length", "expected"), [(2, [(0, 2), (0, 3), (1, 3)]), (9, [(0, 2), (0, 3), (0, 4)])])
def test_windows_by_hand(max_length: int, expected: list[tuple[int, int]]) -> None:
    log = packed([[1, 2, 3, 4, 5, 6], [7, 8, 9]], 9)  # the last two events of each are held out
    found = windows(log.offsets_U1, train_ends(log), max_length, kind="prefixes", stride=None)
    rows_R, starts_R, lengths_R = (x.tolist() for x in found)
    assert rows_R == [0, 0, 0]
    assert list(zip(starts_R, lengths_R, strict=True)) == expected
