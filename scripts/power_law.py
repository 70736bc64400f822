"""Fit of a scaling law: L = E + sum over terms k of A_k x_k^-alpha_k, and how far it can be trusted.

After Hoffmann et al. 2022 (arXiv 2203.15556, section 3.3 and appendix D.3: "Chinchilla", approach 3): the sum of
Huber's loss (delta 1e-3) of log L is minimised from a grid of starting points by L-BFGS, with every amplitude as
exp(a) and the sum as a log-sum-exp. Deviations: exponents are held between 0 and 3; x is divided by its geometric
mean, so that A is the term's part of the loss in the middle of the runs. Errors are of runs drawn again with
replacement (bootstrap), and of runs predicted by the fit to the others. Whether a term is there at all is asked by
permuting its x among the runs: the share of permutations that fit as well, where there is no connection, is the
p-value.

Legend: R runs, K terms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize

DELTA = 1e-3  # of Huber's loss: relative errors beyond a thousandth count linearly
MOST_EXPONENT = 3.0
FLAT = 1e-3
EXPONENTS = (0.1, 0.5, 1.0)  # where exponents begin
PARTS = (-4.0, -1.0)  # and log amplitudes, below the log of the mean loss


@dataclass(frozen=True)
class Law:
    """`loss` for x [..., K] in the units of the runs."""

    floor: float  # E
    amplitudes_K: np.ndarray  # A, each term's part of the loss at `centre_K`
    exponents_K: np.ndarray
    centre_K: np.ndarray  # geometric means of the runs' x
    misfit: float  # the sum of Huber's losses, over delta squared

    def loss(self, x: np.ndarray) -> np.ndarray:
        """[..., K] -> [...]."""
        terms = self.amplitudes_K * (np.asarray(x) / self.centre_K) ** -self.exponents_K
        found: np.ndarray = self.floor + terms.sum(-1)
        return found

    def falls(self, x_RK: np.ndarray) -> np.ndarray:
        """By how much each term falls from the smallest to the largest x of the runs, [K]."""
        ends = np.stack([x_RK.min(0), x_RK.max(0)]) / self.centre_K
        low_K, high_K = self.amplitudes_K * ends**-self.exponents_K
        return low_K - high_K


def fit(x_RK: np.ndarray, loss_R: np.ndarray, *, near: Law | None = None) -> Law:
    """The law of these runs; `near` gives a start beside which no others are tried. Raises ValueError on fewer runs
    than parameters, and on numbers that are not positive."""
    x_RK, loss_R = np.asarray(x_RK, float), np.asarray(loss_R, float)
    R, K = x_RK.shape
    if R < 2 * K + 1:
        raise ValueError(f"{R} runs cannot tell {2 * K + 1} parameters of a law")
    if not (x_RK > 0).all() or not (loss_R > 0).all() or not np.isfinite(loss_R).all():
        raise ValueError("sizes and losses have to be positive numbers")
    centre_K = np.exp(np.log(x_RK).mean(0)) if near is None else near.centre_K
    logs_RK, log_loss_R = np.log(x_RK / centre_K), np.log(loss_R)

    def misfit(theta: np.ndarray) -> tuple[float, np.ndarray]:
        floor, logs_K, exponents_K = theta[0], theta[1 : K + 1], theta[K + 1 :]
        terms = np.concatenate([np.full((R, 1), floor), logs_K - exponents_K * logs_RK], axis=1)
        highest_R1 = terms.max(axis=1, keepdims=True)
        total_R = highest_R1[:, 0] + np.log(np.exp(terms - highest_R1).sum(axis=1))
        error_R = total_R - log_loss_R
        slope_R = np.clip(error_R, -DELTA, DELTA)
        value = (slope_R * (error_R - slope_R / 2)).sum() / DELTA**2
        shares = slope_R[:, None] / DELTA**2 * np.exp(terms - total_R[:, None])
        return float(value), np.concatenate([shares.sum(0), -(shares[:, 1:] * logs_RK).sum(0)])

    mean = float(np.log(loss_R.mean()))
    bounds = [(mean - 20, mean + 2)] * (K + 1) + [(0.0, MOST_EXPONENT)] * K
    found = (minimize(misfit, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in _starts(mean, K, near))
    best = min(found, key=lambda each: float(each.fun))
    theta = best.x
    floor, amplitudes_K, exponents_K = np.exp(theta[0]), np.exp(theta[1 : K + 1]), theta[K + 1 :].copy()
    flat_K = exponents_K < FLAT  # a term that does not change is a part of E
    floor, amplitudes_K = floor + amplitudes_K[flat_K].sum(), np.where(flat_K, 0.0, amplitudes_K)
    exponents_K[flat_K] = 0.0
    return Law(float(floor), amplitudes_K, exponents_K, centre_K, float(best.fun))


def _starts(mean: float, terms: int, near: Law | None) -> Iterator[np.ndarray]:
    if near is not None:
        yield np.concatenate([np.log(np.maximum([near.floor, *near.amplitudes_K], 1e-8)), near.exponents_K])
        yield np.concatenate([[mean - 0.3], np.full(terms, mean - 2.0), np.full(terms, 0.5)])
        return
    for floor, part, exponent in product((-1.0, -0.1), PARTS, product(EXPONENTS, repeat=terms)):
        yield np.concatenate([[mean + floor], np.full(terms, mean + part), exponent])


@dataclass(frozen=True)
class Trust:
    """How far a law is to be trusted."""

    floor: tuple[float, float]  # 95 % intervals of the bootstrap
    exponents: list[tuple[float, float]]
    falls: list[tuple[float, float]]
    p_values: list[float]  # of each term: share of permutations of its x that fit as well
    left_out: float  # mean absolute error of a run's loss, predicted from the other runs
    constant: float  # the same by the other runs' median


def trust(x_RK: np.ndarray, loss_R: np.ndarray, law: Law, *, draws: int, seed: int = 0) -> Trust:
    """Of a law that `fit` found in these runs."""
    x_RK, loss_R, rng = np.asarray(x_RK, float), np.asarray(loss_R, float), np.random.default_rng(seed)
    R, K = x_RK.shape
    laws: list[Law] = []
    while len(laws) < draws:
        drawn_R = rng.integers(0, R, R)
        if len(np.unique(drawn_R)) > 2 * K:
            laws.append(fit(x_RK[drawn_R], loss_R[drawn_R], near=law))
    p_values = []
    for k in range(K):
        as_well = 0
        for _ in range(draws):
            permuted_RK = x_RK.copy()
            permuted_RK[:, k] = rng.permutation(x_RK[:, k])
            as_well += fit(permuted_RK, loss_R, near=law).misfit <= law.misfit
        p_values.append((1 + as_well) / (1 + draws))
    errors, plain = [], []
    for r in range(R):
        others = np.arange(R) != r
        if R - 1 >= 2 * K + 1:
            errors.append(abs(fit(x_RK[others], loss_R[others], near=law).loss(x_RK[r]) - loss_R[r]))
            plain.append(abs(np.median(loss_R[others]) - loss_R[r]))
    return Trust(
        _interval([each.floor for each in laws]),
        [_interval([each.exponents_K[k] for each in laws]) for k in range(K)],
        [_interval([each.falls(x_RK)[k] for each in laws]) for k in range(K)],
        p_values,
        float(np.mean(errors)) if errors else float("nan"),
        float(np.mean(plain)) if plain else float("nan"),
    )


def _interval(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
