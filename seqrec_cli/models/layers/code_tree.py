"""The tree of all tuples of codes: what a node is, and a transformer run over each beginning of a tuple once.

A node of level l is a beginning of l codes that some item has; level 0 is the root, level K has a leaf an item. The
token of a node reads its ancestors' tokens and its own, so that a state of a beginning that many items share is made
once for all of them. A node is `run` if its own or a later code can be more than one: else the probabilities behind it
are all 1.

Legend: B rows, H heads, d a head's width, D width, V items, K codes of a tuple, C codes of a level, P nodes of a level,
R run nodes of a level, A is B or 1 (the same for all rows).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_cli.kernels.split_heads.op import join_heads, split_heads
from seqrec_cli.models.layers.transformer import TransformerBlock

NO_ITEM = -1.0e4  # the log probability of what has no tuple: far below any other


class CodeTree(nn.Module):
    """Indices of the tree, a set for each level; none is stored with the model, whose tuples say all of it."""

    leaf_V: Tensor  # each item's leaf; the number of leaves where it has none
    item_P: Tensor  # each leaf's item
    runs_K: Tensor  # nodes that are run, of each level
    run_VK: Tensor  # the run node that each code of an item is behind; of its level, R where that one is not run

    def __init__(self, tuples_VK: np.ndarray, codes: int, *, every: bool) -> None:
        """Of tuples that differ, -1 in those of no item; `every`: run all nodes, also those with one way on."""
        super().__init__()
        items, self.K, self.C = np.flatnonzero(tuples_VK[:, 0] >= 0), tuples_VK.shape[1], codes
        of_items, parents, lasts = [np.zeros(len(items), np.int64)], [], []
        for level in range(self.K):
            keys, at = np.unique(of_items[-1] * codes + tuples_VK[items, level], return_inverse=True)
            parents.append(keys // codes)
            lasts.append(keys % codes)
            of_items.append(at.reshape(-1))
        self.sizes = [1, *map(len, parents)]
        wide = [np.bincount(parent, minlength=size) > 1 for parent, size in zip(parents, self.sizes, strict=False)]
        run = [np.ones(size, bool) if every else each for size, each in zip(self.sizes, wide, strict=False)]
        for level in range(self.K - 1, 0, -1):
            run[level - 1][parents[level - 1][run[level]]] = True
        run[0][:] = True
        self.runs = [int(each.sum()) for each in run]
        at_run = [np.where(each, np.cumsum(each) - 1, each.sum()) for each in run]
        for level in range(self.K):
            parent, last, place = parents[level], lasts[level], at_run[level]
            mask_RC = np.zeros((self.runs[level] + 1, codes), bool)
            mask_RC[place[parent], last] = True
            mask_RC[-1] = True  # of nodes that are not run: anything but no way on, which would be no number
            self._keep(f"mask_{level}", mask_RC)
            self._keep(f"key_{level}", parent * codes + last)
            self._keep(f"parent_{level}", parent)
            behind = np.where(run[level][parent], place[parent] * codes + last, self.runs[level] * codes)
            self._keep(f"behind_{level}", behind)
            if level:
                nodes = np.flatnonzero(run[level])
                self._keep(f"up_{level}", at_run[level - 1][parents[level - 1][nodes]])
                self._keep(f"code_{level}", 1 + (level - 1) * codes + lasts[level - 1][nodes])
        leaf_V = np.full(len(tuples_VK), self.sizes[-1])
        leaf_V[items] = of_items[-1]
        item_P = np.zeros(self.sizes[-1], np.int64)
        item_P[of_items[-1]] = items
        run_VK = np.zeros(tuples_VK.shape, np.int64) + self.runs
        run_VK[items] = np.stack([at[nodes] for at, nodes in zip(at_run, of_items, strict=False)], axis=1)
        arrays = {"leaf_V": leaf_V, "item_P": item_P, "run_VK": run_VK, "runs_K": np.array(self.runs)}
        for name, array in arrays.items():
            self._keep(name, array)

    def _keep(self, name: str, array: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)), persistent=False)

    def at(self, name: str, level: int) -> Tensor:
        """The indices of that name at a level: `mask` [R + 1, C] of codes that go on from a run node, `key` [P] of the
        next level's nodes (parent x C + code, ascending), `parent` [P], `behind` [P] (where in the run nodes' [R x C]
        probabilities, R x C for certain), `up` [R] (the run parent) and `code` [R] (the row of its last code)."""
        found: Tensor = getattr(self, f"{name}_{level}")
        return found

    def item_scores(self, logs: Sequence[Tensor]) -> Tensor:
        """Each item's log probability [B, V + 1], from those [B, R, C] of the codes behind the run nodes of each
        level."""
        total_BP = logs[0].new_zeros(logs[0].shape[0], 1)
        for level, logs_BRC in enumerate(logs):
            each_B = nn.functional.pad(logs_BRC.flatten(1), (0, 1))
            steps_BP = each_B.index_select(1, self.at("behind", level))
            total_BP = total_BP.index_select(1, self.at("parent", level)) + steps_BP
        return nn.functional.pad(total_BP, (0, 1), value=NO_ITEM).index_select(1, self.leaf_V)


def forward_tree(block: TransformerBlock, tokens: Sequence[Tensor], tree: CodeTree, *, rows: int) -> list[Tensor]:
    """A causal block's outputs [B, R, D] at the run nodes of every level, from its inputs [A, R, D]."""
    outputs: list[Tensor] = []
    keys: list[Tensor] = []
    values: list[Tensor] = []
    attention = block.attention
    for level, x_ARD in enumerate(tokens):
        inner = block.attention_input(x_ARD)
        q, k, v = split_heads((attention.query, attention.key_value), inner, attention.heads, 3)
        if level:
            up_R = tree.at("up", level)
            keys = [each.index_select(2, up_R) for each in keys]
            values = [each.index_select(2, up_R) for each in values]
        keys, values = [*keys, k], [*values, v]
        logits = [(q * each).sum(-1).float() * q.shape[-1] ** -0.5 for each in keys]
        weights = torch.stack(torch.broadcast_tensors(*logits)).softmax(0).to(v.dtype)
        attended = torch.stack([weight[..., None] * each for weight, each in zip(weights, values, strict=True)]).sum(0)
        attended = attended.expand(rows, *attended.shape[1:])
        wide_BRD = x_ARD.expand(rows, *x_ARD.shape[1:])
        outputs.append(block.forward_attended(wide_BRD, join_heads(attended)))
    return outputs
