"""A rollout beside the plain top n of its first step, and beside the true history.

For every step: whether its item is the event that came then (`hit`), whether it is any of the n held-out events
(`in_set`; over all steps together: the overlap), and whether the true event is among the ten best of the step's scores
(`found`). The plain list answers with the first step's scores throughout: its nth item stands for step n. `given_truth`
are the scores after the true events before the step (teacher forcing): what the model loses to that is what its own
answers cost it.

Along the steps: how popular the items are (the share of items that have fewer training events, ties by half), how many
different ones all users together get, and how alike a user's items are by each attribute.

Legend: R requests, B rows of a block, n steps, V items, P pairs of steps.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import training_counts, view_of
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.rollouts.continuations import Continuations, Growing
from seqrec_cli.evaluation.rollouts.decoding import Decoding, OnScores, Stepper, decode, follow
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training.precision import Precision

BYTES_A_SCORE = 40  # scores, their sort in fp64, chances and the seen marks


@dataclass
class Rollouts:
    """Items [R, n] of the rollout and of the plain list, and whether each step's true event was among the best k.

    A target 0 cannot be found (it repeats its history where seen items are removed) and is in no mean.
    """

    asked: Continuations
    items_Rn: np.ndarray
    plain_Rn: np.ndarray
    found_Rn: dict[str, np.ndarray] = field(default_factory=dict)  # rollout, plain, given_truth


@dataclass(frozen=True)
class Given:
    """What a rollout needs to know beside the model."""

    log: PackedLog
    asked: Continuations
    how: Decoding
    cutoff: int
    max_length: int
    memory_mb: int
    seed: int
    truth: bool  # follow the true events too


def roll_out(model: Recommender, given: Given, precision: Precision) -> Rollouts:
    """Every request's n steps. The model's mode is left as it was."""
    asked, shape = given.asked, given.asked.targets_Rn.shape
    kinds = ("rollout", "plain", *(("given_truth",) if given.truth else ()))
    found = Rollouts(asked, np.zeros(shape, np.int64), np.zeros(shape, np.int64), {k: np.zeros(shape) for k in kinds})
    uniform_Rn = torch.from_numpy(np.random.default_rng(given.seed).random(shape))
    width = given.how.width if given.how.by == "beam" else 1
    block = max(1, given.memory_mb * 2**20 // (BYTES_A_SCORE * (given.log.num_items + 1) * width))
    lengths_R = np.minimum(asked.ends_R - np.asarray(given.log.offsets_U1)[asked.rows_R], given.max_length)
    order_R = np.argsort(-lengths_R, kind="stable")  # rows of like length share a block
    with measuring(model, precision):
        for first in range(0, len(order_R), block):
            here_B = order_R[first : first + block]
            _roll_block(model, given, found, here_B=here_B, uniform_Rn=uniform_Rn, device=precision.device)
    return found


def _roll_block(
    model: Recommender,
    given: Given,
    found: Rollouts,
    *,
    here_B: np.ndarray,
    uniform_Rn: Tensor,
    device: torch.device,
) -> None:
    """The rows `here_B` of `found`."""
    asked, steps = given.asked.at(here_B), given.asked.targets_Rn.shape[1]
    targets_Bn = torch.from_numpy(asked.targets_Rn).to(device)
    seen_BV = seen_marks(given.log, asked, device) if view_of(given.log).seen == "remove" else None

    def fresh() -> Stepper:
        histories = Growing.of(given.log, asked, max_length=given.max_length, steps=steps, device=device)
        return Stepper(model, histories, seen_BV, max_length=given.max_length)

    def noting(kind: str, every_step_from_the_first: bool = False) -> OnScores:
        def note(nth: int, scores_BV: Tensor) -> None:
            if nth == 0 and every_step_from_the_first:
                best_Bn = scores_BV.topk(min(steps, scores_BV.shape[1]), dim=1).indices
                found.plain_Rn[here_B, : best_Bn.shape[1]] = best_Bn.cpu().numpy()
                for step in range(steps):
                    ranked = _among_best(scores_BV, targets_Bn[:, step], given.cutoff)
                    found.found_Rn["plain"][here_B, step] = ranked
            found.found_Rn[kind][here_B, nth] = _among_best(scores_BV, targets_Bn[:, nth], given.cutoff)

        return note

    note = noting("rollout", every_step_from_the_first=True)
    items_Bn = decode(fresh(), given.how, steps=steps, uniform_Bn=uniform_Rn[here_B].to(device), on_scores=note)
    if given.how.by == "beam":
        follow(fresh(), items_Bn, note)
    if given.truth:
        follow(fresh(), targets_Bn, noting("given_truth"))
    found.items_Rn[here_B] = items_Bn.cpu().numpy()


def seen_marks(log: PackedLog, asked: Continuations, device: torch.device) -> Tensor:
    """True at items of each whole history, bool [B, V + 1]."""
    starts_B = np.asarray(log.offsets_U1)[asked.rows_R]
    lengths_B = asked.ends_R - starts_B
    marks_BV = torch.zeros(len(starts_B), log.num_items + 1, dtype=torch.bool)
    rows = torch.from_numpy(np.repeat(np.arange(len(starts_B)), lengths_B))
    marks_BV[rows, torch.from_numpy(np.asarray(log.items_N[ragged_ranges(starts_B, lengths_B)], np.int64))] = True
    return marks_BV.to(device)


def _among_best(scores_BV: Tensor, targets_B: Tensor, cutoff: int) -> np.ndarray:
    """Whether the target's rank, ties at their mean, is at most the cutoff."""
    own_B1 = scores_BV.gather(1, targets_B[:, None])
    higher_B = (scores_BV > own_B1).sum(dim=1)
    equal_B = (scores_BV == own_B1).sum(dim=1)
    found: np.ndarray = ((1 + higher_B + (equal_B - 1) / 2 <= cutoff) & (own_B1[:, 0] > -torch.inf)).cpu().numpy()
    return found


def summary(found: Rollouts, log: PackedLog, cutoff: int) -> dict[str, object]:
    """Means over requests, a list of n where they are by step."""
    targets_Rn, items_Rn, plain_Rn = found.asked.targets_Rn, found.items_Rn, found.plain_Rn
    asked_Rn = targets_Rn > 0
    sets = {"rollout": items_Rn, "plain": plain_Rn}
    in_set = {
        name: ((lists_Rn[:, :, None] == targets_Rn[:, None, :]) & (lists_Rn[:, :, None] > 0)).any(axis=2)
        for name, lists_Rn in sets.items()
    }
    wanted_R = np.maximum(asked_Rn.sum(axis=1), 1)
    overlap_R = {name: _distinct_hits(sets[name], targets_Rn) / wanted_R for name in sets}
    difference_R = overlap_R["rollout"] - overlap_R["plain"]
    percentiles_V = popularity_percentiles(training_counts(log))
    by_step: dict[str, dict[str, list[float]]] = {
        "hit": {name: _means((lists_Rn == targets_Rn) & asked_Rn, asked_Rn) for name, lists_Rn in sets.items()},
        "in_set": {name: in_set[name].mean(axis=0).tolist() for name in sets},
        f"found@{cutoff}": {name: _means(values, asked_Rn) for name, values in found.found_Rn.items()},
        "popularity": {name: percentiles_V[lists_Rn].mean(axis=0).tolist() for name, lists_Rn in sets.items()},
        "different_items": {
            name: [len(np.unique(column)) / len(column) for column in lists_Rn.T] for name, lists_Rn in sets.items()
        },
    }
    raw_Rn = np.asarray(log.items_N[found.asked.ends_R[:, None] + np.arange(targets_Rn.shape[1])], np.int64)
    by_step["popularity"]["truth"] = percentiles_V[raw_Rn].mean(axis=0).tolist()
    by_step["different_items"]["truth"] = [len(np.unique(column)) / len(column) for column in raw_Rn.T]
    alike = {
        attribute.name: {
            name: _alike(log.catalog.item_values[attribute.name], lists_Rn)
            for name, lists_Rn in (*sets.items(), ("truth", raw_Rn))
        }
        for attribute in log.catalog.item_attributes
    }
    return {
        "requests": len(targets_Rn),
        "targets": int(asked_Rn.sum()),
        "overlap": {name: float(values_R.mean()) for name, values_R in overlap_R.items()},
        "overlap_difference": float(difference_R.mean()),
        "overlap_difference_error": float(difference_R.std(ddof=1) / np.sqrt(len(difference_R)))
        if len(difference_R) > 1
        else 0.0,
        "by_step": by_step,
        "pairs_alike": alike,
    }


def _means(values_Rn: np.ndarray, asked_Rn: np.ndarray) -> list[float]:
    """Means over the requests that have a target at the step."""
    means: list[float] = ((values_Rn * asked_Rn).sum(axis=0) / np.maximum(asked_Rn.sum(axis=0), 1)).tolist()
    return means


def _distinct_hits(lists_Rn: np.ndarray, targets_Rn: np.ndarray) -> np.ndarray:
    """How many of a request's targets are in its list, each step's target for itself."""
    hits: np.ndarray = ((targets_Rn[:, :, None] == lists_Rn[:, None, :]).any(axis=2) & (targets_Rn > 0)).sum(axis=1)
    return hits


def popularity_percentiles(counts_V: np.ndarray) -> np.ndarray:
    """The share of items with fewer training events, ties by half; of padding 0."""
    real_V = counts_V[1:]
    sorted_V = np.sort(real_V)
    below_V = np.searchsorted(sorted_V, real_V, side="left")
    not_above_V = np.searchsorted(sorted_V, real_V, side="right")
    return np.concatenate([[0.0], (below_V + not_above_V) / 2 / max(len(real_V), 1)])


def _alike(values_VW: np.ndarray, lists_Rn: np.ndarray) -> list[float]:
    """For each step from the second, the share of its pairs with earlier items that share a value of the attribute."""
    values_RnW = values_VW[lists_Rn]
    found = []
    for step in range(1, lists_Rn.shape[1]):
        now_R1W1 = values_RnW[:, step, None, :, None]
        earlier_RP1W = values_RnW[:, :step, None, :]
        found.append(float(((now_R1W1 == earlier_RP1W) & (now_R1W1 > 0)).any(axis=(2, 3)).mean()))
    return found
