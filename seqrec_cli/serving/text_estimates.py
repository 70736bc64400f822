"""Vectors of items that training never saw, made of their text vectors by the model's own adaptor (`model.items`).

Such a model scores any item by its text, so nothing has to be estimated: an added item has the vector that it would
have had in training, but for that of an id. What is told of its worth is in the sample: the trained items' vectors by
their texts alone, which the adaptor learned from. `scripts/cold_items.py` measures items that are held out.

Legend: V items, N trained items with a text, Y = D or D + 1 (with the bias), R requests.
"""

from collections.abc import Callable

import numpy as np
import torch

from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.serving.item_estimates import Quality, TextFeatures

Adapted = Callable[[np.ndarray], np.ndarray]  # numbers of texts [R, W] to item vectors [R, D]


class AdaptedTexts:
    """Has what an `Estimator` has."""

    def __init__(self, adapted: Adapted, vectors_VW: np.ndarray, table_VY: np.ndarray, *, items_N: np.ndarray) -> None:
        self._adapted, self._features, self.items_N = adapted, TextFeatures(vectors_VW), items_N
        own_NY, by_text_ND = table_VY[items_N], self._adapted(self._features.matrix()[items_N])
        self._width = by_text_ND.shape[1]
        self._bias_1 = own_NY[:, self._width :].mean(0)  # of an item without one of its own
        trained_ND = own_NY[:, : self._width]
        of_mean = ((trained_ND - trained_ND.mean(0)) ** 2).sum()
        self.r2 = float(1 - ((trained_ND - by_text_ND) ** 2).sum() / max(of_mean, 1e-12))

    @classmethod
    def of(
        cls, model: Recommender, vectors_VW: np.ndarray, table_VY: np.ndarray, *, known_V: np.ndarray
    ) -> "AdaptedTexts | None":
        """None for a model that makes no vectors of texts. `known_V`: items with a text that were trained."""
        adapted = model.vectors_of_texts() if isinstance(model, ItemEncoder) else None
        if adapted is None or not known_V.any():
            return None
        device = next(model.parameters()).device

        @torch.inference_mode()
        def vectors(numbers_RW: np.ndarray) -> np.ndarray:
            found_RD: np.ndarray = adapted(torch.from_numpy(numbers_RW).to(device)).float().cpu().numpy()
            return found_RD

        return cls(vectors, vectors_VW, table_VY, items_N=np.flatnonzero(known_V))

    def estimate(self, told: list[float]) -> np.ndarray:
        """[Y]. Raises SeqrecError where the vector is not as wide as the data's."""
        return np.concatenate([self._adapted(self._features.of(told)[None])[0], self._bias_1])

    def quality(
        self,
        queries_RY: np.ndarray,
        targets_R: np.ndarray,
        seen: tuple[np.ndarray, np.ndarray],
        *,
        table_VY: np.ndarray,
    ) -> Quality:
        """How much of the trained vectors their texts alone explain; no recall, for the items have learned."""
        return Quality(len(self.items_N), self.r2)
