"""What personalises an encoder: random vectors in place of a user's or an item's, and states that the user conditions.

Stochastic Shared Embeddings (Wu et al. 2019, arXiv 1905.10630, algorithm 1 with a complete graph: SSE-SE) replaces an
index, with a probability, by another one drawn at random from all alike, in training alone. SSE-PT (Wu et al.,
RecSys 2020, arXiv 1908.05435) does so with the user of a row, once for all its events, and with the items that are
read. Deviations from the latter's code: an event that is read as another item keeps its target, and is itself the
right target of the event before.

FiLM (Perez et al. 2018, arXiv 1709.07871, eq. 2): gamma * state + beta, here with gamma = 1 + W_g u and beta = W_b u,
without a bias, so that a user of a zero vector changes nothing.

Legend: B rows, L history events, N states, D width, d width of a user's vector, R rows of a table.
"""

from typing import Literal

import torch
from torch import Tensor, nn


def swapped(rows: Tensor, probability: float, size: int, *, drawn_R: Tensor | None = None) -> Tensor:
    """The indices with each, by this probability, replaced by one from 1 to `size` - 1, all alike likely.

    0 (padding, an unknown user) stays, and so does what would become a row that `drawn_R` leaves out.
    """
    others = torch.randint(1, size, rows.shape, device=rows.device)
    chosen = (torch.rand(rows.shape, device=rows.device) < probability) & (rows > 0)
    if drawn_R is not None:
        chosen = chosen & drawn_R[others]
    return torch.where(chosen, others, rows)


class UserOutput(nn.Module):
    """States as the user conditions them: `film` scales and shifts each number, `gate` scales it by 2 sigmoid(W u)."""

    def __init__(self, kind: Literal["film", "gate"], user_dim: int, dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.weights = nn.Linear(user_dim, 2 * dim if kind == "film" else dim, bias=False)

    def forward(self, states: Tensor, users: Tensor) -> Tensor:
        """States [..., D] and the users' vectors [..., d], or [B, d] of states [B, L, D] -> [..., D]."""
        read: Tensor = self.weights(users).to(states.dtype)
        if read.dim() < states.dim():
            read = read[:, None]
        if self.kind == "gate":
            return states * (2 * read.sigmoid())
        scale, shift = read.chunk(2, dim=-1)
        return states * (1 + scale) + shift


class StepHeads(nn.Module):
    """A query for each of the next events but the first, from the state that asks for the first: q + silu(W q).

    The form of Medusa's heads (Cai et al. 2024, arXiv 2401.10774, eq. 1, without their own output tables), learned
    together with the encoder as in multi-token prediction (Gloeckle et al. 2024, arXiv 2404.19737).
    """

    def __init__(self, steps: int, dim: int) -> None:
        super().__init__()
        self.weights = nn.ModuleList(nn.Linear(dim, dim) for _ in range(steps - 1))

    def forward(self, states_ND: Tensor, step: int) -> Tensor:
        """For the event `step` (2, 3, ...) after each state."""
        return states_ND + nn.functional.silu(self.weights[step - 2](states_ND))
