"""The arms of an online experiment: errors by hand, intervals that hold the truth, users dealt as planned."""

import math
from collections import Counter

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import LeftOut, OnlineLog, Plan
from seqrec_cli.evaluation.intervals import bootstrap, detectable
from seqrec_cli.evaluation.online import Found, arms_compared, sample_ratio_p
from seqrec_cli.evaluation.user_sums import UserSums

ACTIVE, LIKES, MORE = 8.0, (0.5, 1.5), 1.2  # exposures that come with a user's liking; of it; the better arm's factor


def logged(
    arm_U: np.ndarray,
    exposures_U: np.ndarray,
    clicks_U: np.ndarray,
    *,
    values_U: np.ndarray | None = None,
    shares: tuple[float, ...] = (0.5, 0.5),
    left_out: LeftOut | None = None,
    plans: int = 1,
) -> OnlineLog:
    arms = ("old", "new", "newest")[: len(shares)]
    users = Counter({("p", arm): int((arm_U == nth).sum()) for nth, arm in enumerate(arms)})
    return OnlineLog(
        arms=arms,
        plans={name: Plan(arms, shares, name) for name in "pq"[:plans]},
        first_plans=users,
        arm_U=arm_U,
        exposures_U=exposures_U.astype(np.float64),
        counts_U={"click": clicks_U.astype(np.float64)},
        values_U={} if values_U is None else {"click": values_U},
        left_out=left_out or LeftOut(),
        files=1,
        began=0.0,
        ended=1.0,
    )


def simulated(seed: int, *, users: int = 400, factor: float = 1.0, shares: tuple[float, ...] = (0.5, 0.5)) -> OnlineLog:
    """Users who like what is shown come more often, so that exposures of one user are alike."""
    rng = np.random.default_rng(seed)
    arm_U = rng.choice(len(shares), users, p=shares)
    liking_U = rng.beta(*LIKES, users) / 2
    exposures_U = 1 + rng.poisson(ACTIVE * liking_U)
    clicks_U = rng.binomial(exposures_U, liking_U * np.where(arm_U == 1, factor, 1.0))
    return logged(arm_U, exposures_U, clicks_U, shares=shares)


def truth(factor: float) -> dict[str, float]:
    """The differences of `simulated`, from the moments of the beta distribution."""
    a, b = LIKES
    mean, square = a / (a + b) / 2, a * (a + 1) / ((a + b) * (a + b + 1)) / 4
    per_user, exposures = mean + ACTIVE * square, 1 + ACTIVE * mean
    return {"click per user": (factor - 1) * per_user, "click per exposure": (factor - 1) * per_user / exposures}


def test_rates_and_errors_are_those_of_the_formula() -> None:
    arm_U = np.array([0, 1, 0, 1, 0, 1, 1])
    exposures_U, clicks_U = np.array([1, 2, 3, 4, 5, 6, 1]), np.array([1, 0, 2, 3, 1, 4, 1])
    found = arms_compared(logged(arm_U, exposures_U, clicks_U, values_U=clicks_U * 2.0))
    errors = []
    for arm in (0, 1):
        x_U, y_U = clicks_U[arm_U == arm].astype(float), exposures_U[arm_U == arm].astype(float)
        rate, covariance = x_U.sum() / y_U.sum(), np.cov(x_U, y_U)
        variance = covariance[0, 0] - 2 * rate * covariance[0, 1] + rate**2 * covariance[1, 1]
        errors.append(np.sqrt(variance / len(x_U)) / y_U.mean())
        told = found.metrics["click per exposure"][arm]
        assert told.mean == pytest.approx(rate)
        assert told.interval == pytest.approx((rate - 1.959964 * errors[arm], rate + 1.959964 * errors[arm]))
    new = found.metrics["click per exposure"][1]
    assert new.difference == pytest.approx(8 / 13 - 4 / 9)
    assert new.error == pytest.approx(np.hypot(*errors))
    assert new.difference_interval == pytest.approx(
        (new.difference - 1.959964 * new.error, new.difference + 1.959964 * new.error)
    )
    assert new.detectable == pytest.approx(detectable(new.error))
    per_user = found.metrics["click per user"]
    assert [arm.mean for arm in per_user] == pytest.approx([4 / 3, 2])
    assert per_user[1].error == pytest.approx(
        np.sqrt(np.var(clicks_U[arm_U == 0], ddof=1) / 3 + np.var(clicks_U[arm_U == 1], ddof=1) / 4)
    )
    assert [arm.mean for arm in found.metrics["click value per user"]] == pytest.approx([8 / 3, 4])
    assert [(arm.name, arm.users, arm.exposures, arm.planned) for arm in found.arms] == [
        ("old", 3, 9, 0.5),
        ("new", 4, 13, 0.5),
    ]


def test_the_error_is_that_of_resampled_users() -> None:
    log = simulated(3, users=2000, factor=MORE)
    arms = [log.arm_U == arm for arm in (0, 1)]
    clicks_U = log.counts_U["click"]
    spread = [
        bootstrap([UserSums(clicks_U[arm][None], log.exposures_U[arm][None])], resamples=2000, seed=arm.sum())[0].std()
        for arm in arms
    ]
    assert arms_compared(log).metrics["click per exposure"][1].error == pytest.approx(np.hypot(*spread), rel=0.06)


def counted(repetitions: int, factor: float, users: int) -> tuple[Counter[str], int]:
    """How many intervals hold the truth, and those of exposures taken as independent; and how often Holm finds one."""
    holds, found = Counter[str](), 0
    for seed in range(repetitions):
        log = simulated(seed, users=users, factor=factor)
        told = arms_compared(log)
        for metric, true in truth(factor).items():
            low, high = told.metrics[metric][1].difference_interval
            holds[metric] += low <= true <= high
        rates, errors = [], []
        for arm in (0, 1):
            exposures = log.exposures_U[log.arm_U == arm].sum()
            rates.append(log.counts_U["click"][log.arm_U == arm].sum() / exposures)
            errors.append(rates[arm] * (1 - rates[arm]) / exposures)
        naive = abs(rates[1] - rates[0] - truth(factor)["click per exposure"]) <= 1.96 * np.sqrt(sum(errors))
        holds["exposures as independent"] += naive
        found += bool(told.differing())
    return holds, found


def test_intervals_of_equal_arms_hold_zero_and_no_winner_is_found() -> None:
    """A/A. Of 600 intervals that are right in 95 of 100 cases, 570 hold, with a standard deviation of 5.3."""
    holds, found = counted(600, 1.0, 400)
    assert 552 <= holds["click per exposure"] <= 588
    assert 552 <= holds["click per user"] <= 588
    assert holds["exposures as independent"] < 552  # what would be wrong is seen to be wrong
    assert found <= 48  # a family's error, of 5 in 100 at most, and four standard deviations


def test_intervals_of_unequal_arms_hold_the_truth_and_the_better_one_is_found() -> None:
    holds, found = counted(300, MORE, 3000)
    assert 270 <= holds["click per exposure"] <= 299  # 285 and 3.8
    assert 270 <= holds["click per user"] <= 299
    assert found > 200


def test_the_chi_square_of_the_sample_ratio() -> None:
    """With one degree of freedom its tail is erfc(sqrt(x / 2)), with two exp(-x / 2)."""
    assert sample_ratio_p(np.array([480, 520]), np.array([500.0, 500.0])) == pytest.approx(math.erfc(math.sqrt(0.8)))
    assert sample_ratio_p(np.array([1, 9]), np.array([5.0, 5.0])) == pytest.approx(math.erfc(math.sqrt(3.2)))
    three = sample_ratio_p(np.array([300, 90, 110]), np.array([250.0, 150.0, 100.0]))
    assert three == pytest.approx(math.exp(-(10 + 24 + 1) / 2))
    assert sample_ratio_p(np.array([500, 500]), np.array([500.0, 500.0])) == 1


def doubted(found: Found) -> str:
    assert found.differing() == []
    assert any(arm.p_holm is not None and arm.p_holm < 0.05 for arms in found.metrics.values() for arm in arms)
    return "; ".join(found.doubts)


def test_no_winner_is_named_where_users_are_not_dealt_as_planned() -> None:
    log = simulated(1, users=4000, factor=2.0)
    assert {metric for metric, _ in arms_compared(log).differing()} == set(truth(2.0))
    lost = (log.arm_U == 0) | (np.arange(4000) % 8 > 0)  # an eighth of the new arm's users
    fewer = logged(log.arm_U[lost], log.exposures_U[lost], log.counts_U["click"][lost])
    assert "sample ratio mismatch" in doubted(arms_compared(fewer))
    planned = logged(log.arm_U[lost], log.exposures_U[lost], log.counts_U["click"][lost], shares=(8 / 15, 7 / 15))
    assert arms_compared(planned).doubts == []  # the ratio is the plan's, not one half
    arrays = log.arm_U, log.exposures_U, log.counts_U["click"]
    assert "holds 2 plans" in doubted(arms_compared(logged(*arrays, plans=2)))
    assert "3 users were seen in two arms" in doubted(arms_compared(logged(*arrays, left_out=LeftOut(crossed=3))))


def test_three_arms_are_each_compared_with_the_first() -> None:
    log = simulated(5, users=6000, factor=2.0, shares=(0.5, 0.3, 0.2))
    found = arms_compared(log)
    assert found.differing() == [("click per exposure", 1), ("click per user", 1)]
    assert [arm.planned for arm in found.arms] == [0.5, 0.3, 0.2]
    assert found.doubts == []
    ps = sorted(arm.p for arms in found.metrics.values() for arm in arms if arm.p is not None)
    holm = sorted(arm.p_holm for arms in found.metrics.values() for arm in arms if arm.p_holm is not None)
    assert holm[0] == pytest.approx(4 * ps[0])  # one family of all four


def test_what_cannot_be_compared_is_refused() -> None:
    ones = np.ones(3)
    with pytest.raises(SeqrecError, match="the log has one arm, old; give serve"):
        arms_compared(logged(np.zeros(3, int), ones, ones, shares=(1.0,)))
    with pytest.raises(SeqrecError, match="arm new: users with an exposure: 1; a difference needs 2"):
        arms_compared(logged(np.array([0, 0, 1]), ones, ones))


def test_users_of_two_arms_are_named_where_too_few_are_left() -> None:
    few = logged(np.array([0, 0, 1]), np.ones(3), np.zeros(3), left_out=LeftOut(crossed=72))
    with pytest.raises(SeqrecError, match=r"arm new: users .*: 1 \(72 users were seen in two arms, and are in none\);"):
        arms_compared(few)
