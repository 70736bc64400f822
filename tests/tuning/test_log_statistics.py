"""Counts of the data for an adviser, worked out by hand."""

from toylog import packed

from seqrec_cli.tuning.statistics import statistics_of


def test_counts_are_of_training_events() -> None:
    # leave-last-out: 1 2 | 3, 4 and 1 | 2, 5; the third user has too few events to be asked
    assert statistics_of(packed([[1, 2, 3, 4], [1, 2, 5], [1, 1]], num_items=6)) == {
        "users": "3",
        "items": "6, of which 2 have training events",
        "training events": "5",
        "training events a user": "2 (median), 2 (95 of 100 have no more)",
        "training events an item": "0 (median)",
        "popularity": "the first 1 items have 80% of the training events",
        "validation requests": "2",
    }
