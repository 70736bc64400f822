"""EASE: items as sums of the other items, by ridge regression in closed form (arXiv 1905.03375).

With X the users x items matrix of who saw what and P = (X'X + l2 I)^-1, the paper's weights (its equation 8) are
B = I - P / diag(P), whose diagonal is 0: no item explains itself. Deviations: a user's row of X B is asked with weights
that fade with age, not with ones, for the latest events say more of the next one; B is kept as its `embed_dim` largest
eigenvectors, so that the model is an encoder like others: a history's vector against item vectors.

Alone it is a weak next-item model. Beside models of order it is worth its seconds: it errs elsewhere.

Legend: B rows, L history events, D width, V items, U users of a piece, N events.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.model.ease import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender, SequenceEncoder, full_precision

PIECE = 1024  # users counted at once
BYTES_A_PAIR = (
    48  # of items at the height of `fit_closed_form`: the inverse in fp64, the eigenvectors in fp32, their work space
)


class Model(SequenceEncoder):
    """`input_VD` sums to a history's vector, `output_VD` is what it is multiplied with; their product is B, row 0
    of both is 0."""

    input_VD: Tensor
    output_VD: Tensor

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.l2, self.scale = cfg.l2, cfg.scale
        self.fading = math.log(2) / cfg.half_life
        for name in ("input_VD", "output_VD"):
            self.register_buffer(name, torch.zeros(catalog.num_items + 1, min(cfg.embed_dim, catalog.num_items)))

    def trainable_models(self) -> tuple[Recommender, ...]:
        return ()

    def closed_form_bytes(self) -> int:
        return BYTES_A_PAIR * self.num_items**2

    @torch.no_grad()
    def fit_closed_form(self, histories: Iterable[Tensor]) -> None:
        seen = [history.unique() for history in histories]
        device, columns = self.input_VD.device, self.num_items + 1
        shared_VV = torch.zeros(columns, columns, device=device)  # whole numbers: exact in fp32
        for first in range(0, len(seen), PIECE):
            piece = seen[first : first + PIECE]
            rows_N = torch.repeat_interleave(torch.arange(len(piece)), torch.tensor([len(items) for items in piece]))
            seen_UV = torch.zeros(len(piece), columns, device=device)
            seen_UV[rows_N.to(device), torch.cat(piece).to(device)] = 1
            shared_VV.addmm_(seen_UV.T, seen_UV)
        ridge_VV = shared_VV[1:, 1:].double()
        ridge_VV.diagonal().add_(self.l2)
        inverse_VV = torch.cholesky_inverse(torch.linalg.cholesky(ridge_VV))
        # B = R S R^-1 with R = diag(P)^1/2 and S = I - R^-1 P R^-1, which is symmetric.
        root_V = inverse_VV.diagonal().sqrt()
        symmetric_VV = (-inverse_VV / root_V[:, None] / root_V).float()
        symmetric_VV.fill_diagonal_(0)
        values_V, vectors_VV = torch.linalg.eigh(symmetric_VV)
        kept_D = values_V.abs().argsort(descending=True)[: self.input_VD.shape[1]]
        kept_VD, root_V = vectors_VV[:, kept_D], root_V.float()
        self.input_VD[1:] = kept_VD * values_V[kept_D] * root_V[:, None]
        self.output_VD[1:] = kept_VD / root_V[:, None]

    def encode(self, batch: Batch) -> Tensor:
        """States [B, L, D]: the events so far, each fading from its own position on."""
        positions_L = torch.arange(batch.items_BL.shape[1], device=batch.items_BL.device)
        ages_LL = positions_L[:, None] - positions_L
        weights_LL = torch.where(ages_LL >= 0, torch.exp(-self.fading * ages_LL), 0.0)
        with full_precision(weights_LL.device):
            return self.scale * torch.einsum("lk,bkd->bld", weights_LL, F.embedding(batch.items_BL, self.input_VD))

    def last(self, batch: Batch) -> Tensor:
        positions_L = torch.arange(batch.items_BL.shape[1], device=batch.items_BL.device)
        ages_BL = (batch.lengths_B[:, None] - 1 - positions_L).clamp(min=0)  # padding has a zero vector
        weights_BL = self.scale * torch.exp(-self.fading * ages_BL)
        with full_precision(weights_BL.device):
            return torch.einsum("bl,bld->bd", weights_BL, F.embedding(batch.items_BL, self.input_VD))

    def item_table(self) -> Tensor:
        return self.output_VD
