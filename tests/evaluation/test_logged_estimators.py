"""Estimates of an order's value, by hand and beside a known truth; and the labels of the unbiased loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scripts.logged_policy import compare
from seqrec_cli.config.registry import config_class
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.evaluation.logged.estimators import Shown, as_plain, estimates, expected_worth, places_of, worths
from seqrec_cli.evaluation.logged.labels import corrected
from seqrec_cli.objectives.contract import Objective, build_objective
from tests.shipped import shipped

NAMES = ("click", "unbiased_click")
WEIGHED = {"positive_weight": 3.0, "negatives": 1}
# Two users; the second has two requests.
SHOWN = Shown(
    users_N=np.array([1, 1, 1, 2, 2, 2, 2]),
    requests_N=np.array([0, 0, 0, 1, 1, 2, 2]),
    clicks_N=np.array([0, 0, 1, 1, 0, 0, 1]),
    looked_N=np.array([1, 0.5, 0.25, 1, 0.5, 1, 0.5]),
    scores_N=np.array([1.0, 2.0, 3.0, 5.0, 4.0, 0.0, 0.0]),
)
RELEVANCE_N = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_places_and_worths() -> None:
    assert places_of(SHOWN.requests_N).tolist() == [1, 2, 3, 1, 2, 1, 2]
    found = {name: worth(np.array([1.0, 2.0, 3.0])).tolist() for name, worth in worths((1, 2)).items()}
    assert found == {
        "mrr": [1, 1 / 2, 1 / 3],
        "dcg": pytest.approx([1, 1 / np.log2(3), 1 / 2]),
        "top@1": [1, 0, 0],
        "top@2": [1, 1, 0],
    }


def test_equal_scores_share_the_worth_of_their_places() -> None:
    worth_N = expected_worth(SHOWN.requests_N, SHOWN.scores_N, worths((1,))["mrr"])
    assert worth_N.tolist() == pytest.approx([1 / 3, 1 / 2, 1, 1, 1 / 2, 3 / 4, 3 / 4])


def test_estimates_by_hand() -> None:
    found = estimates(SHOWN, worths((1,))["mrr"])
    assert set(found) == {"naive", "ips", "snips"}  # without an outcome model
    assert found["naive"][:2] == pytest.approx(((1 / 3 + 1 + 1 / 2) / 3, (1 + 1 + 3 / 4) / 3))
    assert found["ips"][:2] == pytest.approx(((4 / 3 + 1 + 2 / 2) / 3, (4 + 1 + 6 / 4) / 3))
    assert found["snips"][:2] == pytest.approx(((4 / 3 + 1 + 2 / 2) / 7, (4 + 1 + 6 / 4) / 7))
    assert SHOWN.effective_clicks == pytest.approx(7**2 / (16 + 1 + 4))
    for each in found.values():
        assert each.low < each.order - each.shown < each.high


def test_an_outcome_model_stands_in_for_what_the_bound_cuts_off() -> None:
    now_N = np.array([1, 1 / 2, 1 / 3, 1, 1 / 2, 1, 1 / 2])
    for clip, weights_N in ((np.inf, 1 / SHOWN.looked_N), (2.0, np.minimum(1 / SHOWN.looked_N, 2))):
        found = estimates(replace(SHOWN, relevance_N=RELEVANCE_N, clip=clip), worths((1,))["mrr"])
        dr_N = RELEVANCE_N + (SHOWN.clicks_N - SHOWN.looked_N * RELEVANCE_N) * weights_N
        assert found["direct"].shown == pytest.approx((RELEVANCE_N * now_N).sum() / 3)
        assert found["dr"].shown == pytest.approx((dr_N * now_N).sum() / 3)
        assert (found["dr"].shown == pytest.approx(found["ips"].shown)) == (clip == np.inf)


def test_exposures_are_the_policys_and_looks_the_place_s() -> None:
    exposure_N = np.full(7, 0.5)
    shown = replace(SHOWN, relevance_N=RELEVANCE_N, exposure_N=exposure_N)
    assert shown.relevances()["ips"].tolist() == (2 * SHOWN.clicks_N).tolist()
    dr_N = RELEVANCE_N + 2 * (SHOWN.clicks_N - SHOWN.looked_N * RELEVANCE_N)
    assert shown.relevances()["dr"] == pytest.approx(dr_N)


def test_where_the_truth_is_known_ips_and_dr_find_it() -> None:
    found = compare(logs=12, requests=1500)
    truth = found["truth"]["mean"]
    assert abs(found["naive"]["bias"]) > 0.5 * truth
    assert abs(found["direct"]["bias"]) > 0.3 * truth  # its model is wrong by a factor of two
    for name in ("ips", "dr"):
        assert abs(found[name]["bias"]) < 0.05 * truth
        assert found[name]["coverage"] >= 0.75  # 12 logs of 95 %
    assert found["naive"]["coverage"] == found["direct"]["coverage"] == 0


def test_they_are_written_as_they_are() -> None:
    plain = as_plain({"mrr": estimates(SHOWN, worths((1,))["mrr"])})
    assert plain["mrr"]["ips"]["shown"] == pytest.approx((4 / 3 + 1 + 1) / 3)


def built(name: str, **changes: float) -> Objective:
    plain = shipped("objective", name) | WEIGHED | changes
    return build_objective(config_class("objective", name).from_plain(plain))  # type: ignore[arg-type]


def test_no_half_of_the_loss_has_a_negative_factor() -> None:
    logits_BC, labels_BC = torch.linspace(-3, 3, 4)[None], torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    for smoothing in (0.2, 0.0):
        plain, unbiased = (built(name, smoothing=smoothing) for name in NAMES)
        expected_BC = plain.losses_of_candidates(logits_BC, labels_BC)
        assert torch.allclose(unbiased.losses_of_candidates(logits_BC, labels_BC), expected_BC)
    outside_BC = torch.tensor([[4.0, -0.5, 0.0, 1.0]])
    found = unbiased.losses_of_candidates(torch.zeros(1, 4), outside_BC) / np.log(2)
    assert found.tolist()[0] == pytest.approx([3 * 4, 1.5, 1, 3])
    assert plain.losses_of_candidates(torch.full((1, 1), 50.0), torch.full((1, 1), 4.0)).item() < 0  # no lower bound
    assert unbiased.losses_of_candidates(torch.full((1, 1), 50.0), torch.full((1, 1), 4.0)).item() >= 0


def test_corrected_labels() -> None:
    rows = LabelledRows(np.arange(2), np.arange(2), np.array([[3, 4, 5], [6, 7, 0]]), np.array([[0, 1, 0], [1, 0, 0]]))
    looked_C, relevance_RC = np.array([1, 0.5, 0.2]), np.full((2, 3), 0.5)
    ips = corrected(rows, looked_C, clip=4.0)
    assert ips.labels_RC.tolist() == [[0, 2, 0], [1, 0, 0]]
    dr = corrected(rows, looked_C, clip=4.0, relevance_RC=relevance_RC)
    assert dr.labels_RC == pytest.approx(np.array([[0, 2, 0.5 - 0.1 * 4], [1, 0, 0]]), abs=1e-6)  # 0 is no item
    assert dr.labels_RC.dtype == np.float32
    assert rows.labels_RC.tolist() == [[0, 1, 0], [1, 0, 0]]
