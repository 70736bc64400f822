"""Metrics of recommended lists, as fractions worked out by hand."""

import math

import numpy as np
import pytest

from seqrec_cli.metrics.kinds import Exposure, ExposureMetric, ListBlock, ListMetric, Training
from seqrec_cli.metrics.popularity import head_weights
from seqrec_cli.metrics.table import METRICS, lower_is_better, metric_names, monitored_metric, parse_metric

# Five items; three users, of whom the first has items 1, 1, 2, the second 1, the third 1, 3.
TRAINING = Training(
    events_V1=np.array([0, 4, 1, 1, 0, 0]),
    users_V1=np.array([0, 3, 1, 1, 0, 0]),
    interactions_U1=np.array([0, 3, 1, 2]),
    owners_V1=np.array([0, 1, 2, 2, 3, 0]),
)


def shown(*counts: float) -> Exposure:
    counts_V1 = np.array([0.0, *counts])
    return Exposure(counts_V1, counts_V1 > 0, TRAINING)


# Two lists of three: items 1, 2, 4 and 1, 2, 3.
EXPECTED = {
    "coverage": 4 / 5,
    "novelty": (0 + 0 + 4 * math.log2(3)) / 6,  # item 4, which nobody has, counts as one user's
    "average_popularity": (2 * 4 + 2 * 1 + 1 * 1 + 0) / 6,
    "gini": (-4 * 0 - 2 * 1 + 0 * 1 + 2 * 2 + 4 * 2) / (5 * 6),
    "head_share": 2 / 6,  # the head is item 1
    # owners 1, 2, 3 interact 3, 1, 2 times; their items are shown 2, 3, 1 times
    "owner_correlation": 1 - 6 * ((3 - 2) ** 2 + (1 - 3) ** 2 + (2 - 1) ** 2) / (3 * (9 - 1)),
    "owner_imbalance": (abs(3 / 6 - 2 / 6) + abs(1 / 6 - 3 / 6) + abs(2 / 6 - 1 / 6)) / 2,
}


def test_every_metric_of_exposure_is_worked_out():
    assert set(EXPECTED) == {kind for kind, metric in METRICS.items() if isinstance(metric, ExposureMetric)}


@pytest.mark.parametrize("kind", EXPECTED)
def test_exposure_by_hand(kind):
    assert METRICS[kind].value(shown(2, 2, 1, 1, 0)) == pytest.approx(EXPECTED[kind])


def test_nothing_recommended_has_no_value():
    for kind in ("novelty", "average_popularity", "gini", "head_share", "owner_imbalance"):
        assert METRICS[kind].value(shown(0, 0, 0, 0, 0)) is None
    assert METRICS["coverage"].value(shown(0, 0, 0, 0, 0)) == 0
    assert METRICS["owner_correlation"].value(shown(1, 1, 0, 1, 0)) == 0  # all owners alike


def test_a_head_whose_end_is_tied_is_shared():
    """Ten items, a head of two: the first, and a third of each of three that tie for the second position."""
    events_V1 = np.array([0, 9, 5, 5, 5, 1, 1, 1, 0, 0, 0])
    weights_V1 = head_weights(Training(events_V1, events_V1, events_V1))
    np.testing.assert_allclose(weights_V1, [0, 1, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0, 0, 0])


# Values of an attribute: item 1 {1}, item 2 {1, 2}, item 3 {2, 3}, item 4 none, item 5 {3}.
VALUES = np.array([[0, 0], [1, 0], [1, 2], [2, 3], [0, 0], [3, 0]])


def block(items: list[list[int]], histories: list[list[int]], values: np.ndarray = VALUES) -> ListBlock:
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    return ListBlock(np.array(items), np.array([item for history in histories for item in history]), rows, values)


@pytest.mark.parametrize("spread", [1, 400])  # few values of an attribute and many are compared in other ways
def test_diversity_by_hand(spread):
    lists = block([[1, 2, 3], [4, 1, 5], [4, 1, 0]], [[], [], []], VALUES * spread)
    found = METRICS["diversity"].value(lists, (1, 2, 3, 9))
    nan = math.nan
    np.testing.assert_allclose(
        found,
        [
            [nan, 1 / 2, (1 / 2 + 1 + 2 / 3) / 3, (1 / 2 + 1 + 2 / 3) / 3],  # pairs 1-2, 1-3, 2-3
            [nan, nan, 1, 1],  # item 4 has no value
            [nan, nan, nan, nan],
        ],
    )


def test_calibration_by_hand():
    """The history of items 1 and 2 has 3/4 and 1/4 of values 1 and 2."""
    lists = block([[1, 3], [1, 2], [4, 0], [1, 2], [0, 0]], [[1, 2], [2, 1], [1], [4], [1]])
    found = METRICS["calibration"].value(lists, (1, 2))

    def kl(p: list[float], q: list[float]) -> float:
        return sum(x * math.log(x / (0.99 * y + 0.01 * x)) for x, y in zip(p, q, strict=True))

    nan = math.nan
    expected = [
        [kl([3 / 4, 1 / 4], [1, 0]), kl([3 / 4, 1 / 4], [1 / 2, 1 / 4])],
        [kl([3 / 4, 1 / 4], [1, 0]), 0],
        [math.log(100), math.log(100)],  # a list without any value
        [nan, nan],  # a history without any
        [nan, nan],  # an empty list
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_directions():
    """Lists that show each item alike, unknown ones too, against lists of the most popular item alone."""
    even, one = shown(2, 2, 2, 2, 2), shown(10, 0, 0, 0, 0)
    for kind in ("coverage", "novelty", "average_popularity", "gini", "head_share"):
        better, worse = METRICS[kind].value(even), METRICS[kind].value(one)
        assert (better < worse) == (not METRICS[kind].higher_is_better)
    fair, unfair = shown(3, 1, 0, 2, 0), shown(0, 6, 0, 2, 0)
    assert METRICS["owner_correlation"].value(fair) == 1 > METRICS["owner_correlation"].value(unfair)
    assert METRICS["owner_imbalance"].value(fair) == 0 < METRICS["owner_imbalance"].value(unfair)
    alike, other = block([[1, 1], [1, 5]], [[1], [1]]), METRICS["calibration"]
    assert METRICS["diversity"].value(alike, (2,)).tolist() == [[0], [1]]
    assert other.value(alike, (2,))[0] < other.value(alike, (2,))[1]
    assert (METRICS["diversity"].higher_is_better, other.higher_is_better) == (True, False)


def test_metrics_of_lists_are_named_by_their_attribute():
    names = metric_names((5,), ("top lists", "item attribute"), ("genres", "year"))
    assert {"coverage@5", "diversity:genres@5", "calibration:year@5", "hr@5"} <= set(names)
    assert not any(name.startswith("owner") for name in names)
    assert isinstance(parse_metric("diversity:genres@5")[0], ListMetric)
    assert lower_is_better("calibration:genres@5")
    assert not lower_is_better("novelty@5")
    for wrong in ("diversity@5", "diversity:@5", "novelty:genres@5", "diversity:genres"):
        with pytest.raises(ValueError, match="is no metric"):
            parse_metric(wrong)
    with pytest.raises(ValueError, match="did you mean 'diversity:ATTRIBUTE@k'"):
        parse_metric("diversty:genres@5")


def test_what_can_be_monitored():
    monitored_metric("recall@5", (5, 10), lists=False)
    monitored_metric("diversity:genres@10", (5, 10), lists=True)
    with pytest.raises(ValueError, match=r"hr@7 is not measured: evaluation.cutoffs has 5, 10"):
        monitored_metric("hr@7", (5, 10), lists=False)
    with pytest.raises(ValueError, match="beyond_accuracy=true"):
        monitored_metric("coverage@5", (5, 10), lists=False)


@pytest.mark.parametrize("kind", METRICS)
def test_every_metric_says_what_it_is(kind):
    """A line, a formula or sentence, and a source with its year."""
    definition = METRICS[kind].definition
    assert METRICS[kind].says
    assert len(definition.splitlines()[0]) < 120
    assert any(year in definition for year in map(str, range(1904, 2030))) or "arXiv" in definition
