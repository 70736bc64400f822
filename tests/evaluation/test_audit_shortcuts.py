"""Distributions and shortcuts, on logs made so that the answer is known."""

import math

import numpy as np
import pytest
from toylog import packed

from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.audit.distributions import after_the_cut, rank_correlation, zipf_exponent
from seqrec_cli.evaluation.audit.finding import Finding
from seqrec_cli.evaluation.audit.shortcuts import shortcuts
from seqrec_cli.evaluation.audit.subject import Subject
from seqrec_cli.metrics.popularity import gini_index


def found_in(histories: list[list[int]], num_items: int) -> dict[str, Finding]:
    log = packed(histories, num_items)
    return {finding.name: finding for finding in shortcuts(Subject(log, "test"), requests=1000, seed=0)}


def test_a_cycle_is_solved_by_the_last_item() -> None:
    starts = np.random.default_rng(0).integers(0, 30, 200)
    found = found_in([[(start + step) % 30 + 1 for step in range(12)] for start in starts], 30)
    branching = found["branching"]
    assert branching.verdict == "look"
    assert branching.numbers["distinct_transitions"] == 30
    assert branching.numbers["targets_among_successors"] == 1
    assert branching.numbers["perplexity_after_the_last_item"] == pytest.approx(1, abs=0.01)
    assert branching.numbers["perplexity_of_popularity"] == pytest.approx(30, rel=0.02)
    assert found["long_history"].verdict == "look"
    assert found["long_history"].numbers["share_beyond_the_last_item"] < 0.01


def test_draws_without_memory_have_no_shortcut() -> None:
    rng = np.random.default_rng(0)
    found = found_in(rng.integers(1, 21, (300, 30)).tolist(), 20)
    assert found["branching"].verdict == "ok"
    assert found["branching"].numbers["perplexity_after_the_last_item"] == pytest.approx(20, rel=0.05)


def test_what_the_history_alone_tells_needs_more_than_the_last_item() -> None:
    """Each user loves one of ten kinds of ten items; every other event is drawn from all, so the last is often none."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 10, 400)
    own = kinds[:, None] * 10 + rng.integers(1, 11, (400, 40))
    histories = np.where(rng.random((400, 40)) < 0.5, own, rng.integers(1, 101, (400, 40)))
    found = found_in(histories.tolist(), 100)["long_history"]
    assert found.verdict == "ok"
    assert found.numbers["nats_history"] > found.numbers["nats_last"] + 0.2
    assert found.numbers["share_beyond_the_last_item"] > 0.4


def test_two_items_back_are_seen_where_they_decide() -> None:
    """x, y, then (x + y) mod 13: neither neighbour alone tells anything."""
    rng = np.random.default_rng(1)
    histories = []
    for _ in range(400):
        row = rng.integers(0, 13, 2).tolist()
        while len(row) < 12:
            row.append((row[-1] + row[-2] + 1) % 13)
        histories.append([item + 1 for item in row])
    numbers = found_in(histories, 13)["long_history"].numbers
    assert numbers["nats_last_two"] > -0.1
    assert numbers["nats_last"] < -2


def smooth_log(smooth: bool) -> PackedLog:
    """60 items of three kinds; neighbours are of one kind, or any."""
    rng = np.random.default_rng(0)
    kinds_V1 = np.concatenate([[[0]], np.arange(60)[:, None] % 3 + 1]).astype(np.int32)
    histories = []
    for _ in range(200):
        kind = rng.integers(3)
        row = []
        for step in range(12):
            kind = (kind + 1) % 3 if step % 6 == 5 else kind
            row.append(int(rng.integers(20) * 3 + (kind if smooth else rng.integers(3)) + 1))
        histories.append(row)
    log = packed(histories, 60)
    catalog = Catalog(200, 60, (Attribute("kind", 4, 1),), (), {"kind": kinds_V1}, {})
    return PackedLog(log.offsets_U1, log.items_N, log.times_N, None, catalog, log.manifest)


def test_neighbours_that_share_an_attribute_are_told_from_chance() -> None:
    for smooth, verdict in ((True, "look"), (False, "ok")):
        found = shortcuts(Subject(smooth_log(smooth), "test"), requests=1000, seed=0)
        finding = next(each for each in found if each.name == "smoothness_kind")
        assert finding.verdict == verdict
        assert finding.numbers["anybody"] == pytest.approx(1 / 3, abs=0.03)
        expected = 7 / 9 + 1 / 9 if smooth else 1 / 3  # of 9 training neighbours one pair changes its kind
        assert finding.numbers["neighbours"] == pytest.approx(expected, abs=0.03)


def test_a_log_without_transitions_or_attributes_says_so() -> None:
    log = packed([[1, 2, 3]], 3)
    bare = PackedLog(log.offsets_U1, log.items_N, None, None, Catalog(1, 3), log.manifest)
    found = {finding.name: finding.verdict for finding in shortcuts(Subject(bare, "test"), requests=10, seed=0)}
    assert found == {"branching": "unknown", "smoothness": "unknown", "long_history": "unknown"}


def test_gini_and_zipf_of_known_counts() -> None:
    assert gini_index(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini_index(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
    assert gini_index(np.array([1, 2, 3, 4])) == pytest.approx(1 / 4)
    ranks = np.arange(1, 2001)
    for exponent in (0.7, 1.2):
        assert zipf_exponent((1e6 * ranks**-exponent).round()) == pytest.approx(exponent, abs=0.02)
    assert zipf_exponent(np.array([3, 2, 1])) is None


def test_rank_correlation_is_spearmans_with_mean_ranks() -> None:
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([10, 20, 40, 80])) == pytest.approx(1)
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5 over sqrt(4.5 x 5)
    assert rank_correlation(np.array([1, 2, 2, 4]), np.array([1, 2, 3, 4])) == pytest.approx(4.5 / math.sqrt(22.5))
    assert rank_correlation(np.array([1, 1, 1]), np.array([1, 2, 3])) is None


def test_what_was_popular_and_is_asked_for_no_longer_is_told_of() -> None:
    """Item 1 is in every training history; in the second log it is the target of most too."""
    rng = np.random.default_rng(0)
    for popular, verdict in ((False, "look"), (True, "look")):
        rows = [[1, *(rng.permutation(99)[:6] + 2).tolist()] for _ in range(60)]
        for row in rows[: 40 if popular else 0]:
            row[-1] = 1
        log = packed(rows, 100)
        found = after_the_cut(Subject(log, "test"))
        assert found.verdict == verdict
        assert found.numbers["head_items"] == 1
        assert found.numbers["head_share_of_targets"] == pytest.approx(40 / 60 if popular else 0)
        assert ("rival" if popular else "no longer") in found.advice


def test_of_draws_without_memory_nothing_is_said_of_long_history() -> None:
    found = found_in(np.random.default_rng(2).integers(1, 21, (300, 30)).tolist(), 20)["long_history"]
    assert found.verdict == "unknown"
    assert "beyond popularity" in found.found
