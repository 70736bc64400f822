"""A few users' log: the same histories, targets and candidates."""

import numpy as np
from toylog import packed, random_histories

from seqrec_cli.data.sample import evenly_by_length, of_users
from seqrec_cli.data.splits import held_out


def test_users_keep_their_histories_and_candidates() -> None:
    histories = [*random_histories(10, 30, 12), [1, 2]]  # the last trains only
    log = packed(histories, 30, click_negatives=4)
    users = np.array([2, 5, 9])
    few = of_users(log, users)
    for row, user in enumerate(users):
        assert few.items_N[few.offsets_U1[row] : few.offsets_U1[row + 1]].tolist() == histories[user]
    assert few.times_N is not None
    assert log.times_N is not None
    assert few.times_N[0] == log.times_N[log.offsets_U1[2]]
    assert few.num_items == log.num_items
    for split in ("val", "test"):
        targets, clicks = held_out(few, split), few.clicks[split]
        assert np.array_equal(clicks.rows_R, targets.rows_R)
        assert np.array_equal(clicks.ends_R, targets.ends_R)
        assert np.array_equal(clicks.items_RC, log.clicks[split].items_RC[users])
        assert np.array_equal(few.items_N[targets.ends_R], clicks.items_RC[:, 0])


def test_batches_are_spread_over_the_lengths() -> None:
    log = packed([list(range(1, 4 + user)) for user in range(12)], 30, click_negatives=1)
    assert evenly_by_length(log, "test", 100, batch_size=2, batches=3).tolist() == [0, 1, 4, 5, 8, 9]
    assert evenly_by_length(log, "test", 100, batch_size=50, batches=3).tolist() == list(range(12))
