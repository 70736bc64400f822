"""Rows of a batch, with what belongs to them; ranges one after another."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import ragged_ranges

LENGTHS = [5, 3, 2]
TARGETS = [[1, 4], [0], [0, 1]]  # columns of each row


def cloze_batch(lengths: Sequence[int], targets: Sequence[Sequence[int]]) -> Batch:
    """Three rows, all of whose fields tell their row and column."""
    B, L, M = len(lengths), max(lengths), max(map(len, targets))
    items_BL = (torch.arange(B * L).view(B, L) + 1) * (torch.arange(L) < torch.tensor(lengths)[:, None])
    targets_BL = torch.zeros_like(items_BL)
    for row, columns in enumerate(targets):
        targets_BL[row, columns] = items_BL[row, columns]
    return Batch(
        users_B=torch.arange(1, B + 1),
        items_BL=items_BL,
        lengths_B=torch.tensor(lengths),
        times_BL=items_BL * 60,
        targets_BL=targets_BL,
        positions_N=torch.tensor([row * L + column for row, columns in enumerate(targets) for column in columns]),
        masked_BM=torch.tensor([[*columns, *[L] * (M - len(columns))] for columns in targets]),
        negatives_BLK=items_BL[:, :, None] + 100,
        host_lengths_B=torch.tensor(lengths),
        host_taught_B=torch.tensor([len(columns) for columns in targets]),
    )


@pytest.mark.parametrize("known", [True, False], ids=["counts known on the host", "counts not known"])
@pytest.mark.parametrize(("first", "last"), [(0, 3), (0, 1), (1, 2), (1, 3), (2, 9)])
@pytest.mark.parametrize("width", [None, 5])
def test_rows_keep_their_own_targets(first: int, last: int, width: int | None, known: bool) -> None:
    batch = cloze_batch(LENGTHS, TARGETS)
    if not known:
        batch = replace(batch, host_taught_B=None)
    rows = batch.rows(first, last, width)
    assert rows.users_B.tolist() == [1, 2, 3][first:last]
    assert rows.positions_N is not None
    assert rows.targets_BL is not None
    assert rows.positions_N.tolist() == rows.targets_BL.flatten().nonzero().squeeze(1).tolist()
    assert rows.targets_BL.flatten()[rows.positions_N].tolist() == rows.items_BL.flatten()[rows.positions_N].tolist()
    for field in fields(batch):
        whole, part = getattr(batch, field.name), getattr(rows, field.name)
        assert (whole is None) == (part is None)
        assert part is None or field.name == "positions_N" or torch.equal(part, whole[first:last])


def test_a_part_is_as_wide_as_its_rows_need() -> None:
    batch = cloze_batch([20, 9, 8], [[1, 19], [0], [0, 7]])
    part = batch.part(1, 3)
    assert part.items_BL.tolist() == batch.items_BL[1:, :16].tolist()
    assert part.negatives_BLK is not None
    assert part.negatives_BLK.shape == (2, 16, 1)
    assert part.positions_N is not None
    assert part.positions_N.tolist() == [0, 16, 23]
    assert part.masked_BM is not None
    assert part.masked_BM.tolist() == [[0, 16], [0, 7]]  # 16: no further target
    assert torch.equal(part.masked_BM, replace(part, masked_BM=None).target_columns())


def test_negatives_of_a_whole_row_are_not_cut() -> None:
    batch = replace(cloze_batch(LENGTHS, TARGETS), negatives_BLK=torch.arange(6).view(3, 1, 2))
    part = batch.rows(2, 3, 2)
    assert part.negatives_BLK is not None
    assert part.negatives_BLK.tolist() == [[[4, 5]]]


def test_ragged_ranges_follow_each_other() -> None:
    assert ragged_ranges(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist() == [5, 6, 7, 8, 9]
    assert ragged_ranges(0, np.array([2, 1, 3], np.int32)).tolist() == [0, 1, 0, 0, 1, 2]
    assert ragged_ranges(np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []
