"""Lists whose items differ: re-ranking by maximal marginal relevance.

Carbonell & Goldstein, The use of MMR, diversity-based reranking for reordering documents and producing summaries,
SIGIR 1998: of a pool R the next item is

    argmax_{i in R \\ S}  lambda Sim1(i, query) - (1 - lambda) max_{j in S} Sim2(i, j)

with S the items chosen so far; the first one is the most relevant. Sim2 is the cosine of two items' vectors (of an
encoder), or the Jaccard index of their attributes' values. Deviation: a model's scores have no range of their own, so
Sim1 is a row's score scaled to 0 ... 1 over its pool.

Legend: R rows, B rows of a block, N items of a pool, K items of a list, D width, V items, W values an item.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.serving.recommending import Recommending

VECTORS = "vectors"
NUMBERS = 1 << 23  # of the largest array of a block
BEYOND = -4.0  # the value of a place past a pool's end; real items' lie within -1 and 1


class Likeness(Protocol):
    """How like items are."""

    width: int  # numbers a pair of items takes to compare
    device: torch.device

    def to_one(self, items_BN: Tensor, one_B: Tensor) -> Tensor:
        """[B, N]: of each item of a row to one item of that row, at most 1."""
        ...


class Cosine:
    """By an encoder's item vectors."""

    def __init__(self, recommending: Recommending) -> None:
        """Raises SeqrecError for a model without such vectors."""
        if not isinstance(recommending.model, SequenceEncoder):
            raise SeqrecError(
                f"mmr_by={VECTORS}: model={recommending.name} makes no item vectors; name an attribute of the items"
            )
        with torch.inference_mode():
            self._units_VD = F.normalize(recommending.model.item_table().float(), dim=1)
        self.width, self.device = self._units_VD.shape[1], self._units_VD.device

    def to_one(self, items_BN: Tensor, one_B: Tensor) -> Tensor:
        return torch.bmm(self._units_VD[items_BN], self._units_VD[one_B][..., None])[..., 0]


class Jaccard:
    """By the values of attributes, all in one set: |A & B| / |A | B|; 0 for two items without any."""

    def __init__(self, recommending: Recommending, names: Sequence[str]) -> None:
        catalog, parts, before = recommending.log.catalog, [], 0
        for attribute in catalog.item_attributes:
            if attribute.name in names:
                values_V1W = np.asarray(catalog.item_values[attribute.name], np.int64)
                parts.append(np.where(values_V1W > 0, values_V1W + before, 0))
                before += attribute.size
        values = torch.from_numpy(np.concatenate(parts, axis=1)).to(recommending.precision.device)
        self._values_VW, self._counts_V = values, (values > 0).sum(1)
        self.width, self.device = values.shape[1] ** 2, values.device

    def to_one(self, items_BN: Tensor, one_B: Tensor) -> Tensor:
        theirs_BNW, its_BW = self._values_VW[items_BN], self._values_VW[one_B]
        equal_BNWW = (theirs_BNW[..., None] == its_BW[:, None, None]) & (theirs_BNW[..., None] > 0)
        common_BN = equal_BNWW.sum((2, 3))
        union_BN = self._counts_V[items_BN] + self._counts_V[one_B][:, None] - common_BN
        return common_BN / union_BN.clamp(min=1)


def likeness(recommending: Recommending, by: str | None) -> Likeness:
    """By what items are compared: `vectors`, an attribute, or None: an encoder's vectors, else all attributes.

    Raises SeqrecError where the model, or the data, have no such thing.
    """
    names = [attribute.name for attribute in recommending.log.catalog.item_attributes]
    if by == VECTORS or (by is None and isinstance(recommending.model, SequenceEncoder)):
        return Cosine(recommending)
    if by is not None and by not in names:
        have = ", ".join([VECTORS, *names])
        raise SeqrecError(f"mmr_by={by}: items have no such attribute{nearest(by, names)} (have: {have})")
    if not names:
        raise SeqrecError(
            f"mmr: model={recommending.name} makes no item vectors, and the data have no attributes of items; "
            "leave mmr out"
        )
    return Jaccard(recommending, names if by is None else [by])


@torch.inference_mode()
def most_relevant_and_new(
    items_RN: np.ndarray, scores_RN: np.ndarray, top: int, *, weight: float, like: Likeness
) -> np.ndarray:
    """The places in its pool of each row's `top` items, in the order in which they are chosen, int64 [R, K].

    A pool stands with the best first, and 0 where it has no more items; these are chosen last. `weight` is lambda: 1
    leaves the order as it is. Equal values: the better score first.
    """
    rows, size = items_RN.shape
    order_RK = np.zeros((rows, min(top, size)), np.int64)
    step = max(NUMBERS // max(size * like.width, 1), 1)
    for first in range(0, rows, step):
        part = slice(first, first + step)
        items_BN, scores_BN = (torch.from_numpy(each[part]).to(like.device) for each in (items_RN, scores_RN))
        order_RK[part] = _chosen(items_BN, scores_BN, order_RK.shape[1], weight=weight, like=like).cpu().numpy()
    return order_RK


def _chosen(items_BN: Tensor, scores_BN: Tensor, top: int, *, weight: float, like: Likeness) -> Tensor:
    real_BN = items_BN > 0
    low_B1 = scores_BN.masked_fill(~real_BN, torch.inf).amin(1, keepdim=True)
    high_B1 = scores_BN.masked_fill(~real_BN, -torch.inf).amax(1, keepdim=True)
    relevance_BN = (scores_BN - low_B1) / (high_B1 - low_B1).clamp(min=torch.finfo(torch.float32).tiny)
    rows_B = torch.arange(len(items_BN), device=like.device)
    nearest_BN = torch.full_like(relevance_BN, -torch.inf)  # to what is chosen
    left_BN = torch.ones_like(real_BN)
    chosen = []
    for nth in range(top):
        value_BN = weight * relevance_BN - (1 - weight) * nearest_BN if nth else relevance_BN
        value_BN = value_BN.where(real_BN, BEYOND).masked_fill(~left_BN, -torch.inf)
        place_B = value_BN.argmax(1)
        left_BN[rows_B, place_B] = False
        nearest_BN = torch.maximum(nearest_BN, like.to_one(items_BN, items_BN[rows_B, place_B]))
        chosen.append(place_B)
    return torch.stack(chosen, 1)
