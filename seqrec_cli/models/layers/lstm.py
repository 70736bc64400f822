"""A bidirectional LSTM over a few steps (Hochreiter & Schmidhuber 1997; both directions: Graves & Schmidhuber 2005).

For short sequences of fixed length, such as sessions: both directions take a step together, and the loop is part of
exported and compiled programs, which torch's own LSTM cannot be.

Legend: B rows, K steps, F features, H hidden width of a direction.
"""

import torch
from torch import Tensor, nn


class BiLstm(nn.Module):
    """[B, K, F] -> [B, K, 2H]: the states of both directions side by side, zero at padding."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.project = nn.ModuleList(nn.Linear(features, 4 * hidden) for _ in range(2))  # forward, backward
        self.recurrent = nn.ModuleList(nn.Linear(hidden, 4 * hidden, bias=False) for _ in range(2))

    def forward(self, x_BKF: Tensor, real_BK: Tensor) -> Tensor:
        """`real_BK` is False at padding, which may stand anywhere: it changes no state."""
        forward_BKG, backward_BKG = (layer(x_BKF) for layer in self.project)
        inputs_2BKG = torch.stack([forward_BKG, backward_BKG.flip(1)]).float()
        real_2BK1 = torch.stack([real_BK, real_BK.flip(1)])[..., None]
        weights_2HG = torch.stack([layer.weight for layer in self.recurrent]).transpose(1, 2)  # type: ignore[misc]
        state = cell = inputs_2BKG.new_zeros((2, x_BKF.shape[0], self.hidden))
        states = []
        for inputs_2BG, real_2B1 in zip(inputs_2BKG.unbind(2), real_2BK1.unbind(2), strict=True):
            gates = torch.baddbmm(inputs_2BG, state, weights_2HG)
            keep, write, read, new = gates.chunk(4, dim=-1)
            cell = torch.where(real_2B1, keep.sigmoid() * cell + write.sigmoid() * new.tanh(), cell)
            state = torch.where(real_2B1, read.sigmoid() * cell.tanh(), state)
            states.append(state.masked_fill(~real_2B1, 0.0))
        states_2BKH = torch.stack(states, dim=2)
        return torch.cat([states_2BKH[0], states_2BKH[1].flip(1)], dim=-1)
