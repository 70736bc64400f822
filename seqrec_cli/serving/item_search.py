"""The highest inner products among the items that are there, by FAISS: `flat` is exact, `ivf` looks into some lists.

FAISS changes in place, so it is the model's thread that brings it up to a state before it asks. What the states have
not in common (where a question is by an earlier one) is left out of the answer.

Legend: B rows, D width, K answers, R rows of the table.
"""

import importlib.util
from typing import Any, Literal

import numpy as np
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.item_state import State

Kind = Literal["flat", "ivf"]
POINTS = 39  # a cluster of k-means, below which FAISS warns
PROBED = 4  # of so many lists one is looked into


class Search:
    """An index of inner products, a bias being one more number of a vector."""

    def __init__(self, kind: Kind, state: State) -> None:
        """Raises SeqrecError where FAISS is not installed."""
        if importlib.util.find_spec("faiss") is None:
            raise SeqrecError(
                f"index={kind} needs what is not installed here: pip install 'seqrec[faiss]'; or index=none"
            )
        import faiss

        vectors_RY = _vectors(state, np.arange(len(state)))
        width, product = vectors_RY.shape[1], faiss.METRIC_INNER_PRODUCT
        if kind == "flat":
            self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(width))
        else:
            lists = max(1, min(int(4 * len(vectors_RY) ** 0.5), len(vectors_RY) // POINTS))
            self._coarse = faiss.IndexFlatIP(width)
            self._index = faiss.IndexIVFFlat(self._coarse, width, lists, product)
            self._index.train(np.ascontiguousarray(vectors_RY[1:]))
            self._index.nprobe = -(-lists // PROBED)
        self._held = np.zeros(0, bool)
        self._version = -1
        self.bring_to(state)

    def bring_to(self, state: State) -> None:
        """Add and remove what a later state has and has not; an earlier one changes nothing."""
        if state.version <= self._version:
            return
        there_R = np.ones(len(state), bool)
        there_R[state.dead.cpu().numpy()] = False
        held_R = np.zeros(len(state), bool)
        held_R[: len(self._held)] = self._held
        gone, new = np.flatnonzero(held_R & ~there_R), np.flatnonzero(there_R & ~held_R)
        if len(gone):
            self._index.remove_ids(gone.astype(np.int64))
        if len(new):
            self._index.add_with_ids(_vectors(state, new), new.astype(np.int64))
        self._held, self._version = there_R, state.version

    def best(self, queries_BD: torch.Tensor, count: int, state: State) -> tuple[np.ndarray, np.ndarray]:
        """(rows, scores), [B, K] each, the highest first; -1 and -inf where nothing more was found."""
        queries_BY = queries_BD.float().cpu().numpy()
        if state.bias_R is not None:
            queries_BY = np.concatenate([queries_BY, np.ones_like(queries_BY[:, :1])], axis=1)
        scores_BK, rows_BK = self._index.search(
            np.ascontiguousarray(queries_BY), min(count, max(self._index.ntotal, 1))
        )
        dead = rows_BK >= len(state)
        if state.version != self._version:
            dead |= np.isin(rows_BK, state.dead.cpu().numpy())
        rows_BK[dead | (rows_BK < 0)] = -1
        scores_BK[rows_BK < 0] = -np.inf
        return rows_BK, scores_BK


def _vectors(state: State, rows: np.ndarray) -> np.ndarray:
    """[R, Y] on the host."""
    which = torch.from_numpy(rows).to(state.table_RD.device)
    vectors = state.table_RD[which]
    if state.bias_R is not None:
        vectors = torch.cat([vectors, state.bias_R[which, None]], dim=1)
    return np.ascontiguousarray(vectors.cpu().numpy())
