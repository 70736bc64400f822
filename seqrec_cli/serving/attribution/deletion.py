"""The deletion test: does a score change more without the events that are named than without others?

For one history: the k events with the largest |weight| are left out together, and the absolute change of the score is
set beside that without k others drawn at random (the mean over several draws, none of them named) and without the k
with the smallest |weight|. (ERASER's comprehensiveness, DeYoung et al. 2020, arXiv 1911.03429, section 4.2, with
k events for its share of tokens and beside random ones.) Weights that do not beat random ones say nothing of the model.

Legend: L events, D draws, R rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqrec_cli.data.histories import Histories
from seqrec_cli.serving.attribution.methods import How, attribute, events_read, read_of
from seqrec_cli.serving.attribution.removal import scores_without
from seqrec_cli.serving.recommending import Recommending


@dataclass(frozen=True)
class Deletion:
    """The absolute change of a score without k events of each kind."""

    removed: int
    named: float
    random: float
    least: float


@dataclass(frozen=True)
class Faithfulness:
    """Of many histories: mean changes, the mean of `named` less `random` with its 95 % interval (normal), and the
    shares of histories where leaving the named events out changed more. `too_short` ones have fewer than 2k events.
    """

    removed: int
    histories: int
    too_short: int
    named: float
    random: float
    least: float
    above_random: float
    interval: tuple[float, float] | None  # None of a single history
    beats_random: float
    beats_least: float


def delete_events(
    recommending: Recommending,
    asked: Histories,
    item: int,
    *,
    weights_L: np.ndarray,
    removed: int,
    draws: int,
    rng: np.random.Generator,
) -> Deletion | None:
    """The test of one history and item; None where it has fewer than twice as many events as are removed."""
    length = len(weights_L)
    if length < 2 * removed:
        return None
    order_L = np.argsort(-np.abs(weights_L), kind="stable")
    others = order_L[removed:]
    left_out = [
        order_L[:removed],
        order_L[-removed:],
        *(rng.choice(others, removed, replace=False) for _ in range(draws)),
    ]
    kept_RL = np.ones((1 + len(left_out), length), bool)
    for row, events in enumerate(left_out, 1):
        kept_RL[row, events] = False
    batch = read_of(recommending, asked)
    device = batch.items_BL.device
    scores_R = scores_without(
        recommending.model,
        batch,
        torch.tensor([item], device=device),
        kept_RL=torch.from_numpy(kept_RL).to(device),
        rows_at_once=len(kept_RL),
    )[:, 0]
    changes = (scores_R[1:] - scores_R[0]).abs().cpu().double().numpy()
    return Deletion(removed, float(changes[0]), float(changes[2:].mean()), float(changes[1]))


def faithfulness(
    recommending: Recommending, histories: Histories, *, how: How, removed: int, draws: int, seed: int
) -> Faithfulness | None:
    """The test of every one of these histories, for the item that is recommended first after it; None of none that is
    long enough."""
    found: list[Deletion] = []
    for row in range(len(histories)):
        asked, rng = histories.only(row), np.random.default_rng([seed, row])
        length = min(int(asked.ends_R[0] - asked.starts_R[0]), events_read(recommending))
        if length < 2 * removed:
            continue
        _, items_K, _ = recommending.best(asked, 1, repeats=None, rows_at_once=1)
        if not len(items_K):
            continue
        item = int(items_K[0])
        weights_L = attribute(recommending, asked, [item], how=how).weights_LC[:, 0]
        one = delete_events(recommending, asked, item, weights_L=weights_L, removed=removed, draws=draws, rng=rng)
        found += [] if one is None else [one]
    return summary(found, too_short=len(histories) - len(found)) if found else None


def summary(found: Sequence[Deletion], *, too_short: int) -> Faithfulness:
    """Means over histories."""
    named, random, least = (np.array([getattr(one, kind) for one in found]) for kind in ("named", "random", "least"))
    more = named - random
    middle = float(more.mean())
    half = 1.96 * float(more.std(ddof=1)) / len(more) ** 0.5 if len(more) > 1 else None
    return Faithfulness(
        removed=found[0].removed,
        histories=len(found),
        too_short=too_short,
        named=float(named.mean()),
        random=float(random.mean()),
        least=float(least.mean()),
        above_random=middle,
        interval=None if half is None else (middle - half, middle + half),
        beats_random=float((named > random).mean()),
        beats_least=float((named > least).mean()),
    )
