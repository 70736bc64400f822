"""The arms of an online experiment: rates of feedback, what their differences are worth, and whether users were dealt
as planned.

The user is what is dealt, so the user is what varies: a user's exposures and clicks are alike. A rate is a ratio of
sums over users, R = sum(x) / sum(y), feedback over exposures, and its error that of the delta method over users: Deng,
Knoblich and Lu, "Applying the Delta Method in Metric Analytics" (KDD 2018), section 3,

    Var(R) = (Var(x) - 2 R Cov(x, y) + R^2 Var(y)) / (U mean(y)^2),

which is the variance of the users' influences of `user_sums.UserSums`, over U. Arms are independent: the variance of a
difference is the sum of both, its interval and p-value are normal ones. For rates per user y is 1, and this is the
ordinary error of a difference of means with unequal variances.

The sample ratio: Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments" (KDD 2019).
Pearson's chi-square of the users in each arm against the plan; below .001 something else than the arm decides who is
counted (a crash, a filter, a redirect), and no difference can be believed.

Legend: A arms, U users.
"""

from dataclasses import dataclass
from math import hypot, nan

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import OnlineLog
from seqrec_cli.evaluation.intervals import CONFIDENCE, detectable, normal_interval, normal_p, user_interval
from seqrec_cli.evaluation.paired import Compared, corrected
from seqrec_cli.evaluation.user_sums import UserSums, standard_error

MISMATCH = 0.001  # p-values of the sample ratio below it are no chance
FEWEST = 2  # users of an arm, for it to have a variance


@dataclass(frozen=True)
class Arm:
    """How many were seen in an arm."""

    name: str
    users: int
    exposures: int
    planned: float  # its share of all users, by the plans


@dataclass(frozen=True)
class Found:
    """What a log says."""

    arms: list[Arm]
    metrics: dict[str, list[Compared]]  # by name: every arm, the first one first
    ratio_p: float  # of the sample ratio
    doubts: list[str]  # why no difference is to be believed, if any

    def differing(self) -> list[tuple[str, int]]:
        """(metric, number of an arm) where it differs from the first by more than chance, by Holm; none in doubt."""
        return [
            (metric, number)
            for metric, arms in self.metrics.items()
            for number, arm in enumerate(arms)
            if not self.doubts and arm.p_holm is not None and arm.p_holm < 1 - CONFIDENCE
        ]


def arms_compared(log: OnlineLog) -> Found:
    """Rates of every event, of each arm and against the first. Raises SeqrecError for an arm of less than two users."""
    if len(log.arms) == 1:
        raise SeqrecError(f"the log has one arm, {log.arms[0]}; give serve 'runs=[A,B]' to have two to compare")
    users_A = np.bincount(log.arm_U, minlength=len(log.arms))
    for name, users in zip(log.arms, users_A.tolist(), strict=True):
        if users < FEWEST:
            crossed = log.left_out.crossed
            also = f" ({crossed:,} users were seen in two arms, and are in none)" if crossed else ""
            raise SeqrecError(
                f"arm {name}: users with an exposure: {users}{also}; a difference needs {FEWEST} in each arm"
            )
    exposures_A = np.bincount(log.arm_U, log.exposures_U, len(log.arms))
    expected_A, rows = log.expected_A, zip(log.arms, users_A, exposures_A, strict=True)
    shares_A = expected_A / expected_A.sum()
    arms = [
        Arm(name, int(users), int(exposures), float(share))
        for (name, users, exposures), share in zip(rows, shares_A, strict=True)
    ]
    (metrics,) = corrected([{name: _against_the_first(sums) for name, sums in _rates(log).items()}])
    ratio_p = sample_ratio_p(log.dealt_A, expected_A)
    doubts = []
    if ratio_p < MISMATCH:
        doubts.append(f"users are not dealt as planned (sample ratio mismatch, p = {ratio_p:.2g})")
    if len(log.plans) > 1:
        doubts.append(f"the log holds {len(log.plans)} plans (salt, shares or runs were changed on the way)")
    if log.left_out.crossed and len(log.plans) == 1:
        doubts.append(f"{log.left_out.crossed:,} users were seen in two arms of one plan")
    return Found(arms, metrics, ratio_p, doubts)


def sample_ratio_p(users_A: np.ndarray, expected_A: np.ndarray) -> float:
    """Pearson's chi-square of users in each arm against what the plan expects."""
    import torch  # has the incomplete gamma function, and takes long to import

    chi_square = float(((users_A - expected_A) ** 2 / expected_A).sum())
    halves = torch.tensor([(len(users_A) - 1) / 2, chi_square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(halves[0], halves[1]))


def _rates(log: OnlineLog) -> dict[str, list[UserSums]]:
    """By metric, of every arm: each event per exposure and per user, and what it was worth per user."""
    found = dict[str, list[UserSums]]()
    ones_U = np.ones(len(log.arm_U))
    for event, counts_U in log.counts_U.items():
        found[f"{event} per exposure"] = _by_arm(log, counts_U, log.exposures_U)
        found[f"{event} per user"] = _by_arm(log, counts_U, ones_U)
        if event in log.values_U:
            found[f"{event} value per user"] = _by_arm(log, log.values_U[event], ones_U)
    return found


def _by_arm(log: OnlineLog, top_U: np.ndarray, bottom_U: np.ndarray) -> list[UserSums]:
    of_arms = [log.arm_U == arm for arm in range(len(log.arms))]
    return [UserSums(top_U[of_arm][None], bottom_U[of_arm][None]) for of_arm in of_arms]


def _against_the_first(sums: list[UserSums]) -> list[Compared]:
    first = sums[0]
    found = [Compared(first.value, user_interval(first))]
    for other in sums[1:]:
        error = hypot(standard_error(first.influences_U), standard_error(other.influences_U))
        difference = other.value - first.value
        found.append(
            Compared(
                other.value,
                user_interval(other),
                difference,
                error,
                normal_interval(difference, error),
                normal_p(difference, error),
                None,
                detectable(error) if error > 0 else nan,
            )
        )
    return found
