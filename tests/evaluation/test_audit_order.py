"""Ties and bursts are found event by event, and another order changes what it should and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from toylog import packed

from seqrec_cli.evaluation.audit.order import (
    Burst,
    bursts,
    equal_times,
    in_bursts,
    in_groups,
    reordered,
    ties,
    within_parts,
)
from seqrec_cli.evaluation.audit.subject import Subject


def subject(histories: list[list[int]], times: list[list[int]]) -> Subject:
    log = packed(histories, 9)
    return Subject(replace(log, times_N=np.concatenate([np.array(row, np.int64) for row in times])), "test")


TIED = subject([[1, 2, 3, 4], [5, 6, 7, 8], [1, 3, 5, 7]], [[0, 0, 9, 12], [20, 33, 40, 40], [40, 50, 50, 50]])


def test_ties_join_events_of_one_user_and_time() -> None:
    assert ties(TIED).tolist() == [False, True, False, False, False, False, False, True, False, False, True, True]


def test_tied_targets_and_what_another_order_makes_of_them() -> None:
    found = equal_times(TIED, ties(TIED), seed=0)
    assert found.verdict == "look"
    assert found.numbers["pairs_of_neighbours"] == 9
    assert found.numbers["pairs_of_one_time"] == 4
    assert found.numbers["targets_in_a_tie"] == 2
    assert found.numbers["targets_changed_reversed"] == 2
    assert found.numbers["targets_changed_shuffled"] <= 2


def test_reversing_turns_each_tie_round_and_moves_nothing_else() -> None:
    log = reordered(TIED.log, ties(TIED), None)
    assert log.items_N.tolist() == [2, 1, 3, 4, 5, 6, 8, 7, 1, 7, 5, 3]
    assert reordered(log, ties(TIED), None).items_N.tolist() == TIED.log.items_N.tolist()


def test_shuffling_keeps_each_groups_items_and_its_ratings_beside_them() -> None:
    log = replace(TIED.log, ratings_N=TIED.log.items_N.astype(np.float32))
    seen = set()
    for seed in range(60):
        other = reordered(log, ties(TIED), np.random.default_rng(seed))
        assert sorted(other.items_N[9:12]) == [3, 5, 7]
        assert other.items_N[2:6].tolist() == [3, 4, 5, 6]
        assert other.ratings_N is not None
        assert other.ratings_N.tolist() == other.items_N.tolist()
        seen.add(tuple(other.items_N[9:12].tolist()))
    assert len(seen) == 6  # every order of three comes


def test_kept_targets_stay_where_they_are() -> None:
    kept_N = within_parts(TIED, ties(TIED))
    # user 1's tie is of the validation and the test target; user 2's of one training event and both targets
    assert kept_N.tolist() == [False, True] + [False] * 10


def test_bursts_are_windows_with_enough_events() -> None:
    times = [[0, 10, 20, 100, 150, 165, 170, 400], [402, 403, 500, 501, 502]]
    found = subject([[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5]], times)
    three = in_groups(bursts(found, Burst(20, 3)))
    assert three.tolist() == [True, True, True, False, True, True, True, False, False, False, True, True, True]
    assert not bursts(found, Burst(19, 3))[1]
    # overlapping windows make one burst, windows side by side two
    assert bursts(found, Burst(60, 3)).tolist()[:8] == [False, True, True, False, False, True, True, False]
    numbers = in_bursts(found, bursts(found, Burst(20, 3)), Burst(20, 3)).numbers
    assert numbers["events_in_bursts"] == 9
    assert numbers["share_of_targets"] == pytest.approx(1 / 2)


def test_without_a_clock_neither_is_told() -> None:
    log = Subject(packed([[1, 2, 3]], 9, times=False), "test")
    assert equal_times(log, None, seed=0).verdict == "unknown"
    assert in_bursts(log, None, Burst(60, 5)).verdict == "unknown"
