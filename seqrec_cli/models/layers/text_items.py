"""Item vectors made of text vectors that do not learn: UniSRec's adaptor in the place of, or beside, a table of ids.

Hou et al., KDD 2022 (arXiv 2206.05941), section 2.1.2, with x an item's text vector and K experts:

    x_k = (x - b_k) W_k                         parametric whitening
    g = softmax(x W_g + delta)                  delta = normal noise * (softplus(x W_n) + 0.01), in training
    v = sum over k of g_k x_k                   the item's vector, in the history and in the scores

`ids` adds the vector of an id of its own (the paper's transductive setting, v + e); one that training never saw is
left out. As in the authors' code the gates begin at zero, all experts alike, dropout acts on x, and the noise is
never below 0.01. Deviations: x is centred, at one scale and of length about 1 (`vector_features`), which b and W
could do as well; one dropout mask serves all experts; experts begin as embeddings do (`init_std`). The paper learns
the adaptor on logs of other shops first; here it is trained with the encoder on the log at hand, and items without
training events are no negatives of it (`training_bias`).

Legend: V items, R rows, W numbers a text vector, K experts, D width.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.embedding import WHOLE_CATALOG, padded_table

LEAST_NOISE = 0.01
UNSEEN = -1e4  # added to a score: its exponential is 0 in any number format


class Adaptor(nn.Module):
    """Text vectors [..., W] to item vectors [..., D]: a mixture of whitening experts."""

    def __init__(self, width: int, dim: int, *, experts: int, drop: float) -> None:
        super().__init__()
        self.dim, self.drop = dim, Dropout(drop)
        self.experts = nn.Embedding(width, experts * dim)  # initialised and updated as embeddings are, without decay
        self.centres_KW = nn.Parameter(torch.zeros(experts, width))
        self.gate_WK = nn.Parameter(torch.zeros(width, experts))
        self.noise_WK = nn.Parameter(torch.zeros(width, experts))

    def forward(self, texts_RW: Tensor) -> Tensor:
        """[R, W] -> [R, D], in fp32."""
        experts, dim = len(self.centres_KW), self.dim
        with full_precision(texts_RW.device):
            gates_RK = torch.softmax(self._logits(texts_RW), dim=-1)
            weight_WKD = self.experts.weight.view(-1, experts, dim)
            centres_KD = torch.einsum("kw,wkd->kd", self.centres_KW, weight_WKD)
            whitened_RKD = (self.drop(texts_RW) @ self.experts.weight).view(-1, experts, dim) - centres_KD
            return torch.einsum("rk,rkd->rd", gates_RK, whitened_RKD)

    def _logits(self, texts_RW: Tensor) -> Tensor:
        logits_RK = texts_RW @ self.gate_WK
        if not self.training:
            return logits_RK
        deviations_RK = F.softplus(texts_RW @ self.noise_WK) + LEAST_NOISE
        return logits_RK + torch.randn_like(logits_RK) * deviations_RK


class TextItems(nn.Module):
    """In the place of a table of item vectors: `weight` is the whole table, a call looks items up.

    An item without a text vector has that of its id alone, or a zero vector. Row 0 is zero.
    """

    numbers_RK: Tensor  # what the models read of text vectors, [V + 1, W]; the last number is 0 where there is none
    trained_V1: Tensor  # 1 for items with training events

    def __init__(self, texts_VW: np.ndarray, dim: int, *, ids: bool, experts: int, drop: float) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = len(texts_VW), dim
        self.adaptor = Adaptor(texts_VW.shape[1], dim, experts=experts, drop=drop)
        self.own = padded_table(len(texts_VW), dim) if ids else None
        self.register_buffer("numbers_RK", torch.from_numpy(np.array(texts_VW, dtype=np.float32)))
        self.register_buffer("trained_V1", torch.ones(len(texts_VW), 1))
        self.some_unseen = False
        self._kept: tuple[tuple[Any, ...], Tensor] | None = None

    def see(self, counts_V: Tensor) -> None:
        """Learn which items have training events, from int64 [V + 1]."""
        self.trained_V1.copy_((counts_V > 0)[:, None])
        self.some_unseen = not counts_V.is_meta and not bool((counts_V[1:] > 0).all())

    def training_bias(self) -> Tensor | None:
        """What keeps items without training events out of the softmax that teaches, [V + 1]: as negatives in all of it
        they would teach the adaptor that texts such as theirs are never wanted. None where there are no such items."""
        return (1 - self.trained_V1[:, 0]) * UNSEEN if self.some_unseen else None

    @property
    def weight(self) -> Tensor:
        """The vectors of all items, [V + 1, D]: made anew in training, kept while nothing learns."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._whole()
        state = tuple((tensor.data_ptr(), _version(tensor)) for tensor in (*self.parameters(), *self.buffers()))
        if self._kept is None or self._kept[0] != state:
            self._kept = state, self._whole()
        return self._kept[1]

    def forward(self, items: Tensor) -> Tensor:
        """[...] -> [..., D]."""
        if (not self.training and not torch.is_grad_enabled()) or self.num_embeddings <= WHOLE_CATALOG:
            return F.embedding(items, self.weight)
        distinct_R, index = torch.unique(items, return_inverse=True)
        return F.embedding(index, self._rows(distinct_R))

    def of_texts(self, numbers_RW: Tensor) -> Tensor:
        """The vectors [R, D] of items that were added, from what the model reads of their texts."""
        return self._known(self.adaptor(numbers_RW), numbers_RW)

    def train(self, mode: bool = True) -> "TextItems":
        self._kept = None  # an optimizer's kernel may write weights without torch's count of it
        super().train(mode)
        return self

    def _whole(self) -> Tensor:
        vectors_VD = self.of_texts(self.numbers_RK)
        return vectors_VD if self.own is None else vectors_VD + self.own.weight * self.trained_V1

    def _rows(self, rows_R: Tensor) -> Tensor:
        vectors_RD = self.of_texts(self.numbers_RK[rows_R])
        return vectors_RD if self.own is None else vectors_RD + self.own(rows_R) * self.trained_V1[rows_R]

    def _known(self, vectors_RD: Tensor, numbers_RW: Tensor) -> Tensor:
        return vectors_RD * (numbers_RW[:, -1:] > 0)


def as_tables(model: nn.Module) -> None:
    """Put the vectors as they are in the place of what makes them, for programs that only score."""
    for part in list(model.modules()):
        for name, items in list(part.named_children()):
            if isinstance(items, TextItems):
                with torch.no_grad():
                    table_VD = items.eval().weight.clone()
                setattr(part, name, nn.Embedding.from_pretrained(table_VD, freeze=True, padding_idx=0))


def _version(tensor: Tensor) -> int:
    """How often torch wrote into it; of a tensor of inference mode this is not counted."""
    return -1 if tensor.is_inference() else tensor._version
