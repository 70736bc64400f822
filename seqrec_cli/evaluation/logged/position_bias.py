"""How often each place of a shown list is looked at: propensities of the position-based model, from the log alone.

A click needs a look and a liking, P(click | item i at place k) = p_k r_i (Richardson et al., WWW 2007). Rates of clicks
by place mix both, for what is shown first is shown there because it is liked. Harvested are items that stood at two
places: their liking cancels (Agarwal et al., WSDM 2019, arXiv 1812.05161, the AllPairs estimator, eq. 7).
It is assumed that an item is liked alike at both places; in the paper the pair of a query and a document is.

Legend: R requests, C candidates, N shown items with their places, I items of a block, K places.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.view import LabelledRows

BLOCK = 1 << 18  # items counted at once
STEPS = 300  # of L-BFGS, at most


def propensities(rows: LabelledRows, given: Sequence[float] | None) -> np.ndarray:
    """Of each place of the longest list, float64 [K], the first place 1: as given (the last number serves all later
    places), or harvested. The columns of the rows are places."""
    places = rows.items_RC.shape[1]
    if given is None:
        return harvested(rows)
    found_K = np.asarray(given, np.float64)[:places]
    return np.pad(found_K, (0, places - len(found_K)), mode="edge") / found_K[0]


def harvested(rows: LabelledRows) -> np.ndarray:
    """By AllPairs, float64 [K], the first place 1; a place that shares no item with any other has the p of the place
    before it. Raises SeqrecError where no item was shown at two places, or the first place shares none."""
    if rows.items_RC.shape[1] == 1:
        return np.ones(1)
    clicks_KK, shown_KK = _swaps(rows)
    linked_K = _linked(shown_KK, clicks_KK)
    if not linked_K[1:].any():
        raise SeqrecError(
            "propensities cannot be estimated: no item that was clicked at the first place of a list was shown at "
            "another place too; give them, as propensities=[1, 0.6, 0.4]"
        )
    found_K = np.full(len(linked_K), np.nan)
    found_K[linked_K] = _all_pairs(clicks_KK[np.ix_(linked_K, linked_K)], shown_KK[np.ix_(linked_K, linked_K)])
    known_K = np.maximum.accumulate(np.where(linked_K, np.arange(len(linked_K)), 0))
    return found_K[known_K]


def click_rates(rows: LabelledRows) -> np.ndarray:
    """Clicks by place over lists that reach it, float64 [K], the first place 1: what a naive reader takes for p."""
    shown_K = (np.asarray(rows.items_RC) > 0).sum(axis=0)
    clicks_K = ((np.asarray(rows.labels_RC) > 0) & (np.asarray(rows.items_RC) > 0)).sum(axis=0)
    rates_K = clicks_K / np.maximum(shown_K, 1)
    return rates_K / rates_K[0] if rates_K[0] > 0 else rates_K


def _swaps(rows: LabelledRows) -> tuple[np.ndarray, np.ndarray]:
    """Of items shown at places k and l, float64 [K, K] each: the sum of their rates of clicks at k, and how many."""
    places = rows.items_RC.shape[1]
    clicks_KK, shown_KK = np.zeros((2, places, places))
    for shown_IK, clicked_IK in _by_item(rows):
        here_IK = (shown_IK > 0).astype(np.float64)
        clicks_KK += (clicked_IK / np.maximum(shown_IK, 1)).T @ here_IK
        shown_KK += here_IK.T @ here_IK
    np.fill_diagonal(clicks_KK, 0)
    np.fill_diagonal(shown_KK, 0)
    return clicks_KK, shown_KK


def _by_item(rows: LabelledRows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How often each item was shown and clicked at each place, float64 [I, K] each, a block of items at a time."""
    items_RC, places = np.asarray(rows.items_RC), rows.items_RC.shape[1]
    found = items_RC > 0
    items_N, places_N = items_RC[found].astype(np.int64), np.nonzero(found)[1]
    clicked_N = np.asarray(rows.labels_RC)[found] > 0
    order_N = np.argsort(items_N, kind="stable")
    items_N, places_N, clicked_N = items_N[order_N], places_N[order_N], clicked_N[order_N]
    nth_N = np.cumsum(np.diff(items_N, prepend=items_N[:1]) != 0)
    block = max(1, BLOCK // places)
    for first in range(0, int(nth_N[-1]) + 1 if len(nth_N) else 0, block):
        part = slice(*np.searchsorted(nth_N, (first, first + block)))
        cells_N = (nth_N[part] - first) * places + places_N[part]
        size = (int(nth_N[part][-1]) - first + 1) * places
        shown = np.bincount(cells_N, minlength=size).reshape(-1, places).astype(np.float64)
        yield shown, np.bincount(cells_N, clicked_N[part], size).reshape(-1, places)


def _linked(shown_KK: np.ndarray, clicks_KK: np.ndarray) -> np.ndarray:
    """Places that are compared with the first, directly or through others, bool [K]. A comparison needs a click."""
    joined_KK = (shown_KK > 0) & (clicks_KK + clicks_KK.T > 0)
    linked_K = np.zeros(len(shown_KK), bool)
    linked_K[0] = True
    while True:
        more_K = linked_K | joined_KK[linked_K].any(axis=0)
        if (more_K == linked_K).all():
            return linked_K
        linked_K = more_K


def _all_pairs(clicks_KK: np.ndarray, shown_KK: np.ndarray) -> np.ndarray:
    """The likeliest p, where a click of an item of the pair (k, l) at place k has the chance p_k r_kl, r_kl = r_lk."""
    clicks, shown = torch.from_numpy(clicks_KK), torch.from_numpy(shown_KK)
    log_p_K = torch.zeros(len(clicks), dtype=torch.float64, requires_grad=True)
    liking_KK = torch.zeros_like(clicks).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [log_p_K, liking_KK], max_iter=STEPS, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        log_r_KK = F.logsigmoid((liking_KK + liking_KK.T) / 2)
        log_chance_KK = F.logsigmoid(log_p_K)[:, None] + log_r_KK
        log_none_KK = torch.log(-torch.expm1(log_chance_KK.clamp(max=-1e-12)))
        loss = -(clicks * log_chance_KK + (shown - clicks) * log_none_KK).sum() / shown.sum()
        loss = loss + 1e-6 * (
            liking_KK.square().mean() + log_p_K.square().mean()
        )  # a place without a click stays finite
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    found_K = F.logsigmoid(log_p_K.detach())
    return (found_K - found_K[0]).exp().numpy()
