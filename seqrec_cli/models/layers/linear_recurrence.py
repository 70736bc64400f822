"""Linear recurrent units: a recurrence with a diagonal of complex decays (`kernels/linear_scan`) between two
projections.

Legend: L steps, B rows, N complex numbers of a state.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.linear_scan.op import linear_scan


class LinearRecurrence(nn.Module):
    """A linear recurrent unit between two projections, [L, B, D] -> [L, B, D] (Orvieto et al. 2023, arXiv 2303.06349).

    lambda = exp(-exp(nu) + i exp(theta)) lies inside the unit circle, at first evenly on the ring from `ring[0]` to
    `ring[1]`; inputs are scaled by exp(gamma), at first sqrt(1 - |lambda|^2), so that states keep their variance.
    """

    def __init__(self, dim: int, states: int, ring: tuple[float, float], *, longest: int) -> None:
        super().__init__()
        self.longest = longest
        # A complex matrix applied to real numbers is a real one with two rows a state, real and imaginary in turn; the
        # real part of another, applied to states, is a real one with two columns a state.
        self.project, self.out = nn.Linear(dim, 2 * states), nn.Linear(2 * states, dim)
        inner, outer = ring
        squares_N = torch.rand(states) * (outer**2 - inner**2) + inner**2
        self.nu_N = nn.Parameter((-0.5 * squares_N.log()).log())
        self.theta_N = nn.Parameter((torch.rand(states) * 2 * torch.pi).log())
        self.gamma_N = nn.Parameter(0.5 * (1 - squares_N).log())

    def states(self, x_LBD: Tensor) -> Tensor:
        """States after every step in fp32, [L, B, 2N] with real and imaginary parts in turn."""
        with torch.autocast(x_LBD.device.type, enabled=False):
            radius_N, angle_N = (-self.nu_N.exp()).exp(), self.theta_N.exp()
            decay_N2 = torch.stack([radius_N * angle_N.cos(), radius_N * angle_N.sin()], dim=-1)
            scale_N = self.gamma_N.exp().repeat_interleave(2)  # of the projection's rows: cheaper than of its outputs
            weight, bias = self.project.weight * scale_N[:, None], self.project.bias * scale_N
        x_LBN2 = nn.functional.linear(x_LBD, weight, bias).float().unflatten(-1, (-1, 2))
        return linear_scan(x_LBN2, decay_N2, self.longest).flatten(-2)
