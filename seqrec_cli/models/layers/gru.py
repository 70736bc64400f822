"""A gated recurrent layer over many sequences at once, whose update gate is scaled from outside
(`kernels/gru_scan/reference.py`).

Legend: B rows, L steps, C candidates, F features, H hidden width, G = 3H.
"""

from torch import Tensor, nn

from seqrec_cli.kernels.gru_scan.op import gru_scan
from seqrec_cli.kernels.gru_scan.reference import SCALED


class Recurrence(nn.Module):
    """A GRU over inputs [B, L, F], with states of its own for every candidate."""

    def __init__(self, features: int, hidden: int, longest: int, *, gate: int = SCALED) -> None:
        super().__init__()
        self.project = nn.Linear(features, 3 * hidden)
        self.recurrent = nn.Linear(hidden, 3 * hidden, bias=False)
        self.longest, self.gate = longest, gate

    def last(self, projected_BLG: Tensor, scales_BLC: Tensor) -> Tensor:
        """The states [B, C, H] after all steps."""
        return self._run(projected_BLG, scales_BLC, only_last=True)

    def states(self, projected_BLG: Tensor, scales_BLC: Tensor) -> Tensor:
        """The states [B, L, C, H] after each step."""
        return self._run(projected_BLG, scales_BLC, only_last=False).permute(1, 0, 2, 3)

    def _run(self, projected_BLG: Tensor, scales_BLC: Tensor, only_last: bool) -> Tensor:
        inputs_LBG, scales_LBC = projected_BLG.transpose(0, 1), scales_BLC.transpose(0, 1)
        weight = self.recurrent.weight
        return gru_scan(inputs_LBG, scales_LBC, weight, gate=self.gate, only_last=only_last, longest=self.longest)
