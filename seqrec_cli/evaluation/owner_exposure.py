"""Lists that show owners in proportion to what they interact, at the least cost in score: a price for every owner.

An owner's exposure is the share of e_o = sum over lists and places r of 1 / log2(1 + r), over the places that hold
an owner's item (Singh & Joachims, "Fairness of Exposure in Rankings", KDD 2018, arXiv 1802.07281). Lists are chosen for

    max  mean over lists of sum_r w_r s(item at r)  -  c sum_o |e_o - t_o|,    w_r = 1 / log2(1 + r), sum_r w_r = 1

with the model's scores s and the owners' targets t. Its dual has a price p_o for each owner, -c <= p_o <= c, that is
added to the scores of the owner's items: given prices each list is its own best items, so serving needs no more than
one number an item. Prices fall where an owner has too much and rise where too little, by subgradient steps scaled as
AdaGrad scales them; those whose lists had the highest value of the above are kept. Prices of this kind, learned while
serving, are those of P-MMF (Xu et al., WWW 2023, arXiv 2303.06660), there for max-min fairness.

c = strength x the mean over lists of the standard deviation of a list's candidates' scores, so that strengths mean the
same for models whose scores have other scales. Strength 0 has no prices, and lists stay as they are.

Legend: R requests, B of a block, K places of a list, O owners, V items (V + 1 columns, 0 is padding).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.owners import Owners
from seqrec_cli.evaluation.top_lists import top_items
from seqrec_cli.models.contract import Recommender
from seqrec_cli.processes import Processes

BYTES = 4
BLOCK = 2**24  # scores that prices are added to at once
FIRST_STEP = 0.3  # of the standard deviation of scores


def discounts(places: int) -> np.ndarray:
    """w_r of places 1 to K, of one in all."""
    values_K = 1 / np.log2(1 + np.arange(1, places + 1))
    return values_K / values_K.sum()


class Shown:
    """A collector of lists: how much every item is shown, places discounted."""

    def __init__(self, num_items: int, places: int) -> None:
        self.longest, self.by_item_V1 = places, np.zeros(num_items + 1)

    def add(self, scores_BV: Tensor, seen_E: Tensor, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """Count the lists of a block (see `top_lists.Collector`)."""
        candidates_BV = without(scores_BV, seen_E)
        self.add_lists(top_items(candidates_BV, self.longest).cpu().numpy(), rows_B=rows_B, ends_B=ends_B)

    def add_lists(self, items_BK: np.ndarray, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """Count lists that are made already."""
        weights_BK = np.broadcast_to(discounts(self.longest)[: items_BK.shape[1]], items_BK.shape)
        self.by_item_V1 += np.bincount(items_BK.ravel(), weights_BK.ravel(), minlength=len(self.by_item_V1))
        self.by_item_V1[0] = 0

    def merge(self, processes: Processes) -> None:
        """Add up what all have counted."""
        processes.sum_array(self.by_item_V1)


class Kept:
    """A collector of scores, float32 [R, V + 1]; -inf for what is no candidate."""

    longest = 1

    def __init__(self, most_bytes: int) -> None:
        self._blocks: list[Tensor] = []
        self._left = most_bytes

    def add(self, scores_BV: Tensor, seen_E: Tensor, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """Keep a block. Raises SeqrecError where they become too many."""
        self._left -= BYTES * scores_BV.numel()
        if self._left < 0:
            raise SeqrecError(
                "exposure: the scores that prices are learned from take more than evaluation.memory_mb allows; give "
                "users=N, fewer histories to learn prices from"
            )
        self._blocks.append(without(scores_BV, seen_E).float())

    def add_lists(self, items_BK: np.ndarray, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """Lists have no scores to learn from."""
        raise NotImplementedError

    def merge(self, processes: Processes) -> None:
        """Prices are learned in one process."""

    @property
    def scores_RV(self) -> Tensor:
        return torch.cat(self._blocks)


def without(scores_BV: Tensor, seen_E: Tensor) -> Tensor:
    """A copy, -inf for padding and what is seen."""
    candidates_BV = scores_BV.clone()
    candidates_BV.view(-1)[seen_E] = -torch.inf
    candidates_BV[:, 0] = -torch.inf
    return candidates_BV


@dataclass
class Prices:
    """Learns prices from the scores of many requests."""

    scores_RV: Tensor  # -inf for what is no candidate
    owners: Owners
    places: int

    def __post_init__(self) -> None:
        device = self.scores_RV.device
        real_RV = self.scores_RV > -torch.inf
        counts_R = real_RV.sum(1).clamp(min=1)
        mean_R1 = (self.scores_RV.where(real_RV, 0).sum(1) / counts_R)[:, None]
        variance_R = ((self.scores_RV - mean_R1).where(real_RV, 0) ** 2).sum(1) / counts_R
        self.unit = float(variance_R.sqrt().mean())
        self.owner_V = torch.from_numpy(self.owners.of_items_V1).to(device)
        self.weight_K = torch.from_numpy(discounts(self.places)).to(device, torch.float32)
        self.price_O = np.zeros(len(self.owners.target_O))

    def learn(self, strength: float, rounds: int) -> np.ndarray:
        """Prices float64 [O] of one strength, from those of the last one that was asked for on."""
        bound, target_O = strength * self.unit, self.owners.target_O
        price_O = self.price_O.clip(-bound, bound)
        if bound == 0:
            return price_O
        squares_O, best = np.zeros_like(price_O), (-np.inf, price_O)
        for _ in range(rounds):
            relevance, shares_O = self.lists(price_O)
            too_much_O = shares_O - target_O
            value = relevance - bound * float(np.abs(too_much_O).sum())
            best = max(best, (value, price_O), key=lambda pair: pair[0])
            squares_O += too_much_O**2
            step_O = too_much_O / np.sqrt(squares_O).clip(min=np.finfo(np.float64).tiny)
            price_O = (price_O - FIRST_STEP * self.unit * step_O).clip(-bound, bound)
        self.price_O = best[1]
        return best[1]

    def lists(self, price_O: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean relevance of the lists under these prices, and each owner's share of their exposure."""
        added_V = torch.from_numpy(np.concatenate([[0.0], price_O])).to(self.scores_RV)[self.owner_V]
        relevance, shown_V = 0.0, np.zeros(len(added_V))
        for scores_BV in self.scores_RV.split(max(1, BLOCK // len(added_V))):
            items_BK = top_items(scores_BV + added_V, self.places)
            weight_BK = self.weight_K[: items_BK.shape[1]] * (items_BK > 0)
            relevance += float((weight_BK * scores_BV.gather(1, items_BK).where(items_BK > 0, 0)).sum())
            weights_M = weight_BK.flatten().cpu().numpy().astype(np.float64)
            shown_V += np.bincount(items_BK.flatten().cpu().numpy(), weights_M, minlength=len(shown_V))
        return relevance / len(self.scores_RV), self.owners.shares(shown_V)


def distance(shares_O: np.ndarray, target_O: np.ndarray) -> float:
    """Total variation: the part of the exposure that would have to change owners, from 0 to 1."""
    return float(np.abs(shares_O - target_O).sum() / 2)


def gini(shares_O: np.ndarray) -> float:
    """How unevenly owners are shown: 0 all alike, towards 1 one alone.

    >>> gini(np.array([0.5, 0.5])), gini(np.array([0.0, 1.0]))
    (0.0, 0.5)
    """
    ascending_O, count = np.sort(shares_O), len(shares_O)
    total = ascending_O.sum()
    if not total:
        return 0.0
    return float(((2 * np.arange(1, count + 1) - count - 1) * ascending_O).sum() / (count * total))


class Priced(Recommender):
    """A model whose items' scores have something added. For measuring."""

    def __init__(self, model: Recommender, added_V1: Tensor) -> None:
        super(Recommender, self).__init__()
        self.num_items, self.num_users = model.num_items, model.num_users
        self.model, self.added_V1, self.shortlist = model, added_V1, model.shortlist

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        return self.model.score(batch, items_BC) + self.added_V1[items_BC]

    def score_corpus(self, batch: Batch) -> Tensor:
        return self.model.score_corpus(batch) + self.added_V1

    def score_corpus_without(self, batch: Batch, hidden_M: Tensor, top: int | None = None) -> Tensor:
        return self.model.score_corpus_without(batch, hidden_M, top) + self.added_V1
