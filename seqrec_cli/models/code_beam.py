"""Beam search for the best items: level by level the best beginnings of tuples that some allowed item goes on from.

Legend: B rows, W beginnings followed a row, V items, P nodes of a level, C codes, M hidden items of all rows, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from seqrec_cli.models.layers.code_tree import NO_ITEM, CodeTree

# Log probabilities [B, W, C] of the code behind beginnings, from their codes [B, W, l] and their nodes [B, W].
Step = Callable[[Tensor, Tensor], Tensor]


def beam_search(tree: CodeTree, step: Step, hidden_M: Tensor, *, rows: int, columns: int, beam: int) -> Tensor:
    """Scores [B, V + 1] of the items that the search ends at, and NO_ITEM of all others.

    `hidden_M` are positions, in the flattened [B, V + 1], of items that are not asked for: no beginning is followed
    that leads to them alone. With a beam as wide as the widest level this is the exact ranking of the others.
    """
    device = hidden_M.device
    allowed_BP = torch.zeros(rows, tree.sizes[-1] + 1, dtype=torch.int64, device=device)
    allowed_BP[:, :-1] = 1
    allowed_BP[hidden_M // columns, tree.leaf_V[hidden_M % columns]] = 0
    allowed = [allowed_BP[:, :-1]]
    for level in range(tree.K - 1, 0, -1):
        counts_BP = allowed_BP.new_zeros(rows, tree.sizes[level])
        allowed.insert(0, counts_BP.index_add_(1, tree.at("parent", level), allowed[0]).clamp(max=1))
    nodes_BW = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    codes_BWl, total_BW = nodes_BW.new_zeros(rows, 1, 0), torch.zeros(rows, 1, device=device)
    for level in range(tree.K):
        logs_BWC = step(codes_BWl, nodes_BW)
        keys_P = tree.at("key", level)
        keys_BX = (nodes_BW[..., None] * tree.C + torch.arange(tree.C, device=device)).flatten(1)
        next_BX = torch.searchsorted(keys_P, keys_BX).clamp(max=len(keys_P) - 1)
        there_BX = (keys_P[next_BX] == keys_BX) & (allowed[level].gather(1, next_BX) > 0)
        scores_BX = (total_BW[..., None] + logs_BWC).flatten(1).masked_fill(~there_BX, -torch.inf)
        # Of a wide beam no more than there are beginnings: the others would be followed to no item.
        total_BW, best_BW = scores_BX.topk(min(beam, scores_BX.shape[1], len(keys_P)), dim=1)
        nodes_BW = next_BX.gather(1, best_BW)
        before_BWl = codes_BWl.gather(1, (best_BW // tree.C)[..., None].expand(-1, -1, level))
        codes_BWl = torch.cat([before_BWl, (best_BW % tree.C)[..., None]], dim=2)
    items_BW = torch.where(total_BW > -torch.inf, tree.item_P[nodes_BW], 0)
    found_BV = torch.full((rows, columns), NO_ITEM, device=device)
    found_BV.scatter_(1, items_BW, total_BW)
    found_BV[:, 0] = NO_ITEM
    return found_BV
