"""Rows of several targets: the examples of one row a prefix, each once, with the same history."""

import numpy as np
import pytest
import torch

from seqrec_cli.data.click_rows import TARGETS, PositionRows, target_runs
from seqrec_cli.data.loader import PrefixRows
from tests.toylog import batching, packed, random_histories

HISTORIES = random_histories(37, 80, 60, seed=3)
LOG = packed(HISTORIES, 80)
CPU = torch.device("cpu")
Example = tuple[int, tuple[int, ...], int, int]  # user, history, candidate, label


def position_rows(
    max_length: int = 8, batch_size: int = 50, negatives: int = 2, seed: int = 1, bucket_by_length: bool = True
) -> PositionRows:
    return PositionRows(LOG, max_length, batching(batch_size, seed, bucket_by_length), negatives=negatives, device=CPU)


def examples(rows: PositionRows, epoch: int, max_length: int) -> list[Example]:
    """Every candidate of an epoch as a row of its own."""
    found = []
    for batch in rows.epoch(epoch):
        assert batch.candidates_BC is not None
        assert batch.ends_BC is not None
        assert batch.labels_BC is not None
        assert (batch.candidates_BC > 0).equal(batch.ends_BC > 0)
        assert (batch.ends_BC <= batch.lengths_B[:, None]).all()
        for b, c in batch.candidates_BC.nonzero().tolist():
            end = int(batch.ends_BC[b, c])
            history = tuple(batch.items_BL[b, max(0, end - max_length) : end].tolist())
            label = int(batch.labels_BC[b, c])
            found.append((int(batch.users_B[b]), history, int(batch.candidates_BC[b, c]), label))
    return found


@pytest.mark.parametrize("max_length", [1, 8, 100])
def test_every_training_target_occurs_once_with_its_history(max_length: int) -> None:
    found = examples(position_rows(max_length), 0, max_length)
    positives = sorted((u, h, item) for u, h, item, label in found if label)
    expected = sorted(
        (u, tuple(h[max(0, t - max_length) : t]), h[t])
        for u, h in enumerate(HISTORIES, 1)
        for t in range(1, len(h) - 2)
    )
    assert positives == expected
    negatives = [(u, item) for u, _, item, label in found if not label]
    assert len(negatives) == 2 * len(positives)
    assert not any(item in HISTORIES[u - 1][:-2] for u, item in negatives)


def test_rows_hold_no_more_events_than_their_targets_need() -> None:
    offsets = np.asarray(LOG.offsets_U1)
    _, _, lengths_R, counts_R = target_runs(offsets, offsets[1:] - 2, 8, targets=5)
    assert counts_R.max() == 5
    assert (lengths_R <= 8 + counts_R - 1).all()
    assert lengths_R.max() == 12
    assert (lengths_R >= counts_R).all()


def test_a_step_has_as_many_examples_as_with_one_row_a_prefix() -> None:
    prefixes = PrefixRows(LOG, 8, batching(50, 1), negatives=2)
    rows = position_rows()
    assert rows.steps == prefixes.steps > 10
    for epoch in range(3):
        sizes = [int((b.candidates_BC > 0).sum()) // 3 for b in rows.epoch(epoch)]  # type: ignore[operator]
        assert len(sizes) == rows.steps
        assert all(50 - TARGETS < size < 50 + TARGETS for size in sorted(sizes)[1:])  # the smallest: what is left over
        assert [int(targets_B.sum()) for _, targets_B in rows.sizes(epoch)] == sizes


def test_order_and_negatives_are_a_function_of_seed_epoch_and_step() -> None:
    rows = position_rows()
    whole = list(rows.epoch(3))
    for later, batch in zip(position_rows().epoch(3, start=2), whole[2:], strict=True):
        assert torch.equal(later.items_BL, batch.items_BL)
        assert torch.equal(later.candidates_BC, batch.candidates_BC)  # type: ignore[arg-type]
    first, second = (sorted(e for e in examples(rows, epoch, 8) if not e[3]) for epoch in (3, 4))
    assert first != second
    users = [[b.users_B.tolist() for b in r] for r in (rows.epoch(4), position_rows(seed=2).epoch(3), whole)]
    assert users[0] != users[2]
    assert users[1] != users[2]


def test_like_lengths_share_a_batch_and_the_largest_comes_from_the_longest() -> None:
    rows = position_rows(max_length=30)
    batches = list(rows.epoch(0))
    real = sum(int(b.lengths_B.sum()) for b in batches)
    assert real / sum(b.items_BL.numel() for b in batches) > 0.85
    largest = rows.largest()
    assert largest.items_BL.numel() == max(b.items_BL.shape[1] for b in batches) * len(largest)
    assert largest.items_BL.shape[1] == 30 + TARGETS - 1


def test_rows_of_any_length_share_a_batch_where_asked_for() -> None:
    rows, like = position_rows(30, bucket_by_length=False), position_rows(30)
    batches = list(rows.epoch(0))
    assert len(batches) == rows.steps == like.steps
    real = sum(int(b.lengths_B.sum()) for b in batches)
    assert real / sum(b.items_BL.numel() for b in batches) < 0.8
    positives = [sorted(e for e in examples(either, 0, 30) if e[3]) for either in (rows, like)]
    assert positives[0] == positives[1]


def test_users_without_a_training_target_have_no_row() -> None:
    rows = PositionRows(packed([[1, 2, 3], [4]], 6), 8, batching(50), negatives=1, device=CPU)
    assert rows.steps == 0
    assert list(rows.epoch(0)) == []


def test_rows_of_a_recurrent_model_fit_its_window_and_have_negatives_beside_their_events() -> None:
    log = packed(random_histories(20, 60, 40), 60)
    rows = PositionRows(log, 6, batching(64), negatives=1, device=CPU, whole=False, history_negatives=2)
    taught = 0
    for batch in rows.epoch(0):
        assert batch.items_BL.shape[1] <= 6
        assert batch.negatives_BLK is not None
        assert batch.negatives_BLK.shape == (*batch.items_BL.shape, 2)
        assert batch.ends_BC is not None
        assert torch.equal(batch.ends_BC.amax(1), batch.lengths_B)
        taught += int((batch.labels_BC > 0).sum())  # type: ignore[operator]
        for user, beside in zip(batch.users_B.tolist(), batch.negatives_BLK, strict=True):
            seen = log.items_N[log.offsets_U1[user - 1] : log.offsets_U1[user] - 2]
            assert not set(beside.flatten().tolist()) & set(seen.tolist())
    whole = PositionRows(log, 6, batching(64), negatives=1, device=CPU)
    assert taught == sum(int((batch.labels_BC > 0).sum()) for batch in whole.epoch(0))  # type: ignore[operator]
    assert next(whole.epoch(0)).negatives_BLK is None
