"""How many different items a batch holds, where the k-th most popular one is drawn in proportion to k ** -s."""

from functools import cache, lru_cache

import numpy as np

EXACT = 100_000  # ranks taken one by one; beyond, bins of like ranks
BINS = 4_000


@lru_cache
def _shares(items: int, s: float) -> tuple[np.ndarray, np.ndarray]:
    """The share of the draws of one item of each bin, and the number of its items."""
    head = np.arange(1, min(items, EXACT) + 1, dtype=np.float64)
    weights, counts = head**-s, np.ones_like(head)
    if items > EXACT:
        edges = np.unique(np.round(np.geomspace(EXACT + 1, items + 1, BINS)))
        sizes = np.diff(edges)
        weights = np.concatenate([weights, ((edges[:-1] + edges[1:] - 1) / 2) ** -s])
        counts = np.concatenate([counts, sizes])
    return weights / (weights @ counts), counts


@cache
def distinct_rows(items: int, s: float, draws: float) -> float:
    """The expected number of different items among so many draws: sum over items of 1 - (1 - p) ** draws."""
    shares, counts = _shares(items, s)
    return float(counts @ -np.expm1(draws * np.log1p(-np.minimum(shares, 1 - 1e-16))))
