"""Training events of every item: held-out ones are left out, users too short to be evaluated count whole."""

from toylog import packed

from seqrec_cli.data.splits import training_counts, user_training_counts


def test_held_out_events_are_not_counted() -> None:
    log = packed([[1, 2, 3, 4], [2, 2], [3, 1, 4, 1, 2], [5]], num_items=6)
    assert training_counts(log).tolist() == [0, 2, 3, 1, 1, 1, 0]
    assert training_counts(packed([[2]], num_items=2)).tolist() == [0, 0, 1]


def test_users_are_counted_by_what_trains() -> None:
    log = packed([[1, 2, 3, 4], [5, 6], [7, 8, 9]], 9)
    assert user_training_counts(log).tolist() == [0, 2, 2, 1]
