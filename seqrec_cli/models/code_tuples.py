"""A tuple of codes for every item, no two alike: the codes of its vector, and one more among those who share them.

As in TIGER (arXiv 2305.05065, section 3.1) items with the same codes are told apart by a last one. Where more share
them than a level has codes, the others take the nearest centroid of the last level that has room. Items added later
join the tuples that there are.

Legend: V items (row 0 is padding), N items that get a tuple, S levels of the quantiser, K = S + 1 codes of a tuple, C
codes of a level, W width of vectors, Z width of what is quantised, D vectors kept.
"""

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models.quantiser import Quantiser, squared_distances

NONE = -1  # a code of an item without a tuple
WIDEST = 256  # of an attribute's columns: of more values each is a random direction, the same every time
NEAR = 5  # events before and after a new item that say what it is like


def by_number(num_items: int, codes: int, levels: int) -> np.ndarray:
    """Tuples [V + 1, K] that count: an item's number in digits, the last code the fastest. Raises SeqrecError where
    there are more items than tuples."""
    refuse_few_tuples(num_items, codes, levels)
    numbers = np.arange(-1, num_items, dtype=np.int64)
    digits = [(numbers // codes**place) % codes for place in range(levels, -1, -1)]
    found = np.stack(digits, axis=1).astype(np.int32)
    found[0] = NONE
    return found


def at_random(num_items: int, codes: int, levels: int, *, seed: int) -> np.ndarray:
    """Tuples [V + 1, K] that say nothing of an item, as evenly dealt out as there can be."""
    refuse_few_tuples(num_items, codes, levels)
    draw = np.random.default_rng(seed)
    found = np.full((num_items + 1, levels + 1), NONE, np.int32)
    for level in range(levels):
        found[1:, level] = draw.permutation(np.arange(num_items) % codes)
    return anywhere(with_last_codes(found, np.arange(1, num_items + 1), codes), codes)


def anywhere(tuples_VK: np.ndarray, codes: int) -> np.ndarray:
    """The tuples, where those whose last code alone is missing, since all of the same other codes are taken, get the
    first ones that are free."""
    found, taken = tuples_VK.copy(), _taken(tuples_VK)
    crowded = np.flatnonzero((found[:, 0] != NONE) & (found[:, -1] == NONE)).tolist()
    if not crowded:
        return found
    for others in itertools.product(range(codes), repeat=found.shape[1] - 1):
        row = np.array(others, np.int32)
        used = taken.get(row.tobytes(), set())
        for last in range(codes):
            if last not in used:
                found[crowded.pop(0)] = [*others, last]
                if not crowded:
                    return found
    return found  # `refuse_few_tuples` came before: there is one for each


def _taken(tuples_VK: np.ndarray) -> dict[bytes, set[int]]:
    """Of each row of other codes, the last codes that items have."""
    taken: dict[bytes, set[int]] = {}
    for row in tuples_VK[tuples_VK[:, -1] != NONE]:
        taken.setdefault(row[:-1].tobytes(), set()).add(int(row[-1]))
    return taken


def _first_free(used: set[int], codes: int) -> int:
    """The least code that is not used, NONE where all are. Items that have gone leave gaps."""
    return next((code for code in range(codes) if code not in used), NONE) if len(used) < codes else NONE


def refuse_few_tuples(num_items: int, codes: int, levels: int) -> None:
    """Raises SeqrecError where there are more items than tuples."""
    if num_items > codes ** (levels + 1):
        raise SeqrecError(
            f"model.codes={codes}: with model.levels={levels} there are {codes ** (levels + 1):,} tuples of codes for "
            f"{num_items:,} items; raise one of the two"
        )


def with_last_codes(tuples_VK: np.ndarray, items_N: np.ndarray, codes: int) -> np.ndarray:
    """The tuples, those of `items_N` with the first last code that nobody of the same other codes has; NONE where
    there is none."""
    found = tuples_VK.copy()
    found[items_N, -1] = NONE
    taken = _taken(found)
    for item in items_N.tolist():
        used = taken.setdefault(found[item, :-1].tobytes(), set())
        found[item, -1] = _first_free(used, codes)
        used.add(int(found[item, -1]))
        used.discard(NONE)
    return found


def add_tuples(tuples_VK: np.ndarray, items_N: np.ndarray, z_NZ: Tensor, *, quantiser: Quantiser) -> np.ndarray:
    """The tuples with those of `items_N`, whose quantised vectors are given; other items keep theirs.

    Raises SeqrecError where more items are alike than tuples can tell apart.
    """
    codes = quantiser.centroids_SCZ.shape[1]
    found = tuples_VK.copy()
    found[items_N, :-1] = quantiser.codes(z_NZ).cpu().numpy()
    found = with_last_codes(found, items_N, codes)
    crowded = np.flatnonzero(found[items_N, -1] == NONE)
    if not len(crowded):
        return found
    before = torch.from_numpy(found[items_N[crowded], :-2].astype(np.int64))
    residual_NZ = z_NZ[torch.from_numpy(crowded)].clone()
    for centroids_CZ, codes_N in zip(quantiser.centroids_SCZ, before.unbind(1), strict=False):
        residual_NZ -= centroids_CZ[codes_N]
    order_NC = squared_distances(residual_NZ, quantiser.centroids_SCZ[-1]).argsort(dim=1, stable=True).cpu().numpy()
    taken = _taken(found)
    for item, order_C in zip(items_N[crowded].tolist(), order_NC, strict=True):
        for code in order_C.tolist():
            found[item, -2] = code
            used = taken.setdefault(found[item, :-1].tobytes(), set())
            if len(used) < codes:
                found[item, -1] = _first_free(used, codes)
                used.add(int(found[item, -1]))
                break
        else:
            raise SeqrecError(
                f"model.codes={codes}: more than {codes**2:,} items have the same codes but the last two and no tuple "
                "is left for the others; raise model.codes or model.levels"
            )
    return found


def neighbours_mean(
    histories: Iterable[Tensor], items_N: np.ndarray, *, tuples_VK: np.ndarray, quantiser: Quantiser
) -> tuple[np.ndarray, Tensor]:
    """Of items without vectors, those that stand in a history near an item with a tuple, and the means [N, Z] of what
    these neighbours' codes stand for."""
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    new, known_V = set(items_N.tolist()), torch.from_numpy(tuples_VK[:, 0] != NONE)
    codes_VS = torch.from_numpy(tuples_VK[:, :-1].astype(np.int64))
    for items_n in histories:
        for place in [n for n, item in enumerate(items_n.tolist()) if item in new]:
            near = items_n[max(place - NEAR, 0) : place + NEAR + 1]
            near = near[known_V[near]]
            if len(near):
                item = int(items_n[place])
                sums[item] = sums.get(item, 0) + quantiser.decoded(codes_VS[near]).sum(0)
                counts[item] = counts.get(item, 0) + len(near)
    found = np.array(sorted(sums), np.int64)
    if not len(found):
        return found, torch.zeros(0, quantiser.centroids_SCZ.shape[2])
    return found, torch.stack([sums[item] / counts[item] for item in found.tolist()])
