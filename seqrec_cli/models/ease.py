"""EASE: items as sums of the other items, by ridge regression in closed form (arXiv 1905.03375).

With X the users x items matrix of who saw what and P = (X'X + l2 I)^-1, the paper's weights (its equation 8) are
B = I - P / diag(P), whose diagonal is 0: no item explains itself. Deviations: a user's row of X B is asked with weights
that fade with age, not with ones, for the latest events say more of the next one; B is kept as its `embed_dim` largest
eigenvectors, so that the model is an encoder like others: a history's vector against item vectors.

Up to `exact_items` items P is computed as it is written, from a table of all pairs of items. Beyond, no such table is
made: with the largest eigenpairs (lambda, q) of X'X, found by products with the sparse X,

  P = (I - sum_k lambda_k / (lambda_k + l2) q_k q_k' - rest) / l2

and what the others add to P's diagonal is taken from what they lack of the counts, the diagonal of X'X. Then B's
off-diagonal part has these eigenvectors as factors, and the part with its diagonal removed is decomposed again by
products with those factors. Memory then grows with items times `embed_dim`, and with the events.

Alone it is a weak next-item model. Beside models of order it is worth its seconds: it errs elsewhere.

Legend: B rows, L history events, S of a stretch of them, D width, K vectors carried, V items, U users (of a piece), N
events.
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.model.ease import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.devices import widest_float
from seqrec_cli.models.contract import Recommender, SequenceEncoder, full_precision
from seqrec_cli.models.eigen import ROUNDS, largest_eigenpairs, random_start
from seqrec_cli.models.neighbours import joined
from seqrec_cli.saying import Say, silent

PIECE = 1024  # users counted at once
STRETCH = 64  # events summed by one product: those before them are one vector, so that the work grows with the length
REFINED = 3  # products that remove the diagonal: the start is nearly right
# Bytes of a pair of items at the height of fitting: the inverse in fp64, the eigenvectors in fp32, their work space.
BYTES_A_PAIR = 48
BYTES_A_NUMBER = 48  # of items times width beyond `exact_items`: bases before and after a product and a QR, factors
EIGEN_WORK = 14  # times the cube of the items: a Cholesky inverse, all eigenvectors
# Of width times events, and of width squared times items: products, QR at a quarter of their speed, as measured.
WORK_A_ROUND = 15
BYTES_AN_EVENT = 80  # the sparse matrix, its transpose, and the events they are made of


class Model(SequenceEncoder):
    """`input_VD` sums to a history's vector, `output_VD` is what it is multiplied with; their product is B, row 0
    of both is 0."""

    embeds_events = True
    input_VD: Tensor
    output_VD: Tensor

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.l2, self.scale, self.exact_items = cfg.l2, cfg.scale, cfg.exact_items
        self.fading = math.log(2) / cfg.half_life
        for name in ("input_VD", "output_VD"):
            self.register_buffer(name, torch.zeros(catalog.num_items + 1, min(cfg.embed_dim, catalog.num_items)))

    def trainable_models(self) -> tuple[Recommender, ...]:
        return ()

    def closed_form_bytes(self, events: int) -> int:
        if self.num_items <= self.exact_items:
            return BYTES_A_PAIR * self.num_items**2
        return BYTES_A_NUMBER * self.num_items * self.input_VD.shape[1] + BYTES_AN_EVENT * events

    def closed_form_cheaper(self) -> str:
        if self.num_items <= self.exact_items:
            lower = f"model.exact_items below {self.num_items:,}"
        else:
            lower = f"model.embed_dim (now {self.input_VD.shape[1]:,})"
        return f", lower {lower}, or take model=itemknn"

    def closed_form_flops(self, events: int) -> float:
        items, width = float(self.num_items), self.input_VD.shape[1]
        if self.num_items <= self.exact_items:
            return EIGEN_WORK * items**3
        return (ROUNDS + REFINED + 2) * WORK_A_ROUND * width * (events + items * width)

    @torch.no_grad()
    def fit_closed_form(self, histories: Iterable[Tensor], tell: Say = silent) -> None:
        seen = [history.unique() for history in histories]
        if self.num_items <= self.exact_items:
            values_D, kept_VD, root_V = self._of_all_pairs(seen)
        else:
            values_D, kept_VD, root_V = self._of_products(seen, tell)
        device = self.input_VD.device
        self.input_VD[1:] = (kept_VD * values_D * root_V[:, None]).to(device)
        self.output_VD[1:] = (kept_VD / root_V[:, None]).to(device)

    def _of_all_pairs(self, seen: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues and -vectors of R^-1 B R, and R's diagonal, where R = diag(P)^1/2."""
        device, columns = self.input_VD.device, self.num_items + 1
        if widest_float(device) != torch.float64:  # which the inverse needs
            device = torch.device("cpu")
        shared_VV = torch.zeros(columns, columns, device=device)  # whole numbers: exact in fp32
        for first in range(0, len(seen), PIECE):
            piece = seen[first : first + PIECE]
            rows_N = torch.repeat_interleave(torch.arange(len(piece)), torch.tensor([len(items) for items in piece]))
            seen_UV = torch.zeros(len(piece), columns, device=device)
            seen_UV[rows_N.to(device), torch.cat(list(piece)).to(device)] = 1
            shared_VV.addmm_(seen_UV.T, seen_UV)
        ridge_VV = shared_VV[1:, 1:].double()
        ridge_VV.diagonal().add_(self.l2)
        inverse_VV = torch.cholesky_inverse(torch.linalg.cholesky(ridge_VV))
        # B = R S R^-1 with S = I - R^-1 P R^-1, which is symmetric.
        root_V = inverse_VV.diagonal().sqrt()
        symmetric_VV = (-inverse_VV / root_V[:, None] / root_V).float()
        symmetric_VV.fill_diagonal_(0)
        values_V, vectors_VV = torch.linalg.eigh(symmetric_VV)
        kept_D = values_V.abs().argsort(descending=True)[: self.input_VD.shape[1]]
        return values_V[kept_D], vectors_VV[:, kept_D], root_V.float()

    def _of_products(self, seen: Sequence[Tensor], tell: Say) -> tuple[Tensor, Tensor, Tensor]:
        """The same, of P by its largest eigenvectors."""
        items_N, users_N = joined(seen)
        places = torch.stack([users_N, items_N - 1])
        seen_UV = torch.sparse_coo_tensor(places, torch.ones(len(items_N)), (len(seen), self.num_items)).coalesce()
        by_item_VU, width = seen_UV.t().coalesce(), self.input_VD.shape[1]

        def shared(vectors_VK: Tensor) -> Tensor:
            return torch.sparse.mm(by_item_VU, torch.sparse.mm(seen_UV, vectors_VK))

        start_VK = random_start(self.num_items, width)
        told = f"ease: pairs of {self.num_items:,} items: "
        values_D, vectors_VD = largest_eigenpairs(
            shared, start_VK, width, rounds=ROUNDS, tell=lambda line: tell(told + line)
        )
        values_D.clamp_(min=0)
        explained_D = values_D / (values_D + self.l2)
        squares_VD = vectors_VD**2
        # The eigenvectors left out hold the rest of every item's unit length and of its count.
        left_V = (1 - squares_VD.sum(1)).clamp(min=0)
        counts_V = torch.bincount(items_N - 1, minlength=self.num_items).float()
        mean_V = (counts_V - squares_VD @ values_D).clamp(min=0) / left_V.clamp(min=1e-6)
        diagonal_V = 1 - squares_VD @ explained_D - left_V * mean_V / (mean_V + self.l2)
        root_V = (diagonal_V.clamp(min=1e-6) / self.l2).sqrt()
        factors_VD = vectors_VD * (explained_D / self.l2).sqrt() / root_V[:, None]
        own_V1 = (factors_VD**2).sum(1, keepdim=True)
        del squares_VD

        def without_diagonal(vectors_VK: Tensor) -> Tensor:
            return factors_VD @ (factors_VD.T @ vectors_VK) - own_V1 * vectors_VK

        told = "ease: without the items' own weights: "
        values_D, kept_VD = largest_eigenpairs(
            without_diagonal, vectors_VD, width, rounds=REFINED, tell=lambda line: tell(told + line)
        )
        return values_D, kept_VD, root_V

    def encode(self, batch: Batch) -> Tensor:
        """States [B, L, D]: the events so far, each fading from its own position on."""
        events_BLD = batch.present(F.embedding(batch.items_BL, self.input_VD))
        positions_S = torch.arange(min(STRETCH, events_BLD.shape[1]), device=batch.items_BL.device)
        ages_SS = positions_S[:, None] - positions_S
        weights_SS = torch.where(ages_SS >= 0, torch.exp(-self.fading * ages_SS), 0.0)
        fading_S1 = torch.exp(-self.fading * (positions_S + 1))[:, None]
        states, before_B1D = [], torch.zeros_like(events_BLD[:, :1])
        with full_precision(weights_SS.device):
            for stretch_BSD in events_BLD.split(STRETCH, dim=1):
                S = stretch_BSD.shape[1]
                own_BSD = torch.einsum("sk,bkd->bsd", weights_SS[:S, :S], stretch_BSD)
                states.append(own_BSD + fading_S1[:S] * before_B1D)
                before_B1D = states[-1][:, -1:]
            return self.scale * torch.cat(states, dim=1)

    def last(self, batch: Batch) -> Tensor:
        positions_L = torch.arange(batch.items_BL.shape[1], device=batch.items_BL.device)
        ages_BL = (batch.lengths_B[:, None] - 1 - positions_L).clamp(min=0)  # padding has a zero vector
        weights_BL = self.scale * torch.exp(-self.fading * ages_BL)
        with full_precision(weights_BL.device):
            return torch.einsum("bl,bld->bd", weights_BL, batch.present(F.embedding(batch.items_BL, self.input_VD)))

    def item_table(self) -> Tensor:
        return self.output_VD
