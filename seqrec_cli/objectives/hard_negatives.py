"""The hardest of a pool: negatives that the model, as it is, scores highest.

Dynamic negative sampling (Zhang, Chen, Wang & Yu, "Optimizing Top-N Collaborative Filtering via Dynamic Negative Item
Sampling", SIGIR 2013): of some items drawn uniformly among those that the user has not seen, the one with the highest
score is the negative. Here the K highest of a pool of K x `pool` are, as in DNS(M, N) (Shi et al., "On the Theories
Behind Hard Negative Sampling for Recommendation", WWW 2023, arXiv 2302.03472), all of them and not one of them.

No gradient flows through the choice. There is no correction, nor in the papers: such negatives are meant to stand for
the top of the corpus and not for all of it, so they are not to be had with log-q. Each position has its own, even where
a history's positions share a pool. Where scores are equal, any are taken.

Legend: B rows, L positions of a row, N positions with a target, n those of a chunk, P items of a pool (0: none),
K negatives, D width, V items.
"""

import torch
from torch import Tensor

from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.objectives.losses import product_dtype
from seqrec_cli.objectives.sampled_losses import chunk_scores, chunks, scored_whole


@torch.no_grad()
def hardest_of_own(encoder: SequenceEncoder, queries_ND: Tensor, pool_NP: Tensor, *, keep: int) -> Tensor:
    """Of each position's own pool the `keep` items that score highest, [N, K]."""
    dtype, bias_V = product_dtype(queries_ND.device), encoder.item_bias()
    whole = scored_whole(encoder.num_items, pool_NP.shape[1])
    keys_VD = encoder.item_table().to(dtype) if whole else None
    width = encoder.num_items if whole else pool_NP.shape[1] * queries_ND.shape[1]
    found = []
    with torch.autocast(queries_ND.device.type, enabled=False):
        for _, n in chunks(1, len(queries_ND), width, scores=chunk_scores(queries_ND.device)):
            products_nD, pool_nP = queries_ND[n].to(dtype), pool_NP[n]
            if keys_VD is not None:
                scores_nP = (products_nD @ keys_VD.T).gather(1, pool_nP)
            else:
                scores_nP = (encoder.item_vectors(pool_nP).to(dtype) @ products_nD[:, :, None])[..., 0]
            found.append(_highest(scores_nP, pool_nP, bias_V, keep=keep))
    return torch.cat(found) if found else pool_NP[:, :keep]


@torch.no_grad()
def hardest_of_shared(encoder: SequenceEncoder, queries_BLD: Tensor, pool_BP: Tensor, *, keep: int) -> Tensor:
    """The same, [B, L, K], where the positions of a row have one pool: one product a row."""
    dtype, bias_V = product_dtype(queries_BLD.device), encoder.item_bias()
    with torch.autocast(queries_BLD.device.type, enabled=False):
        scores_BLP = queries_BLD.to(dtype) @ encoder.item_vectors(pool_BP).to(dtype).mT
        return _highest(scores_BLP, pool_BP[:, None].expand_as(scores_BLP), bias_V, keep=keep)


def _highest(scores: Tensor, pool: Tensor, bias_V: Tensor | None, *, keep: int) -> Tensor:
    """Items of a pool [..., P] by their scores, the highest `keep`; where there is no item (0), it is the lowest."""
    scores = scores.float() if bias_V is None else scores.float() + bias_V.float()[pool]
    return pool.gather(-1, scores.masked_fill(pool == 0, -torch.inf).topk(keep, dim=-1, sorted=False).indices)
