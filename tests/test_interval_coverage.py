"""Intervals hold the truth: the count of `scripts.interval_coverage`, small.

Of 200 intervals that are right 95 times in a hundred each, 190 hold on average, with a standard deviation of 3.1. The
band reaches 4 of them down, so that by chance one of 26 counts leaves it once in some hundred seeds.
"""

import numpy as np
import pytest

from scripts.interval_coverage import METRICS, coverage, population, truth

REPETITIONS = 200
FEWEST = 178


@pytest.mark.parametrize("independent", [False, True], ids=["users differ", "independent candidates"])
def test_intervals_hold_the_truth(independent: bool) -> None:
    whole = population(20_000, seed=7, single=independent)
    found = coverage(whole, repetitions=REPETITIONS, users=250, resamples=400, seed=11)
    right = {name: times for name, times in found.items() if not name.startswith("contrast")}
    assert len(right) == 2 * len(METRICS) + 2 * independent
    assert {name: times for name, times in right.items() if times < FEWEST} == {}
    if not independent:  # what would be wrong is seen to be wrong
        assert found["contrast: ndcg@10, one run, requests resampled"] < FEWEST


def test_the_truth_is_the_populations() -> None:
    whole = population(500, seed=0)
    assert whole.drawn(np.arange(500)).ranks[0].users_T.tolist() == whole.ranks[0].users_T.tolist()
    twice = truth(whole.drawn(np.repeat(np.arange(500), 2)))
    for metric, both in truth(whole).items():
        assert twice[metric] == pytest.approx(both)
