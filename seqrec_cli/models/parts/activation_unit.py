"""DIN's local activation unit: how much each event of a history matters to a candidate (Zhou et al. 2018, 1706.06978,
eq. 3 and figure 2), and the history so weighted.

An MLP reads [h; c; h - c; h * c]. Its first layer is exact in another form, W1 h + W2 c + W3 (h - c) + W4 (h * c) =
(W1 + W3 + W4 diag(c)) h + (W2 - W3) c: a matrix and a vector of the candidate's own, made once for each, and then
one product with all histories' events. No pair of event and candidate is written out in front of the first layer.

Legend: B rows, L events, C candidates, F features of an item, M first width of the MLP. Candidates are [B, C, ...],
or [C, ...] where all rows share them.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqrec_cli.models.parts.dice import Dice, PReLU, activate

UnitActivation = Literal["dice", "prelu", "sigmoid"]
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "dice": Dice,
    "prelu": PReLU,
    "sigmoid": lambda channels: nn.Sigmoid(),
}
# Numbers of all layers that rows handled together may have on a CPU. What fits its cache is three times as fast
# (forward and backward of the first layer, 64 rows of 65 events and 32 candidates, F 32, M 36: 63 ms whole, 19 ms by
# 8 rows), so much that backward makes them again, which bounds their memory too.
CACHED = 1 << 20


class Candidates(NamedTuple):
    """What the first layer knows of candidates: `kernels` [B, F, C, M] or [F, C, M], `shifts` [..., C, M]."""

    kernels: Tensor
    shifts: Tensor


class ActivationUnit(nn.Module):
    """Weighs events by candidates: raw weights as published (their sum is the interest's strength), or a softmax of
    them over the history, scaled by sqrt(F)."""

    def __init__(self, features: int, widths: tuple[int, ...], activation: UnitActivation, softmax: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4 * features, widths[0])  # reads [h; c; h - c; h * c]
        # Kept by columns: the kernels' gradients are sums along M.
        self.first.weight = nn.Parameter(self.first.weight.detach().T.contiguous().T)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activations = nn.ModuleList(ACTIVATIONS[activation](width) for width in widths)
        self.weight = nn.Linear(widths[-1], 1)
        self.softmax = softmax
        self.numbers = 2 * sum(widths)  # of one pair of event and candidate

    def prepare(self, candidates: Tensor) -> Candidates:
        """The candidates' part of the first layer: [..., C, F] -> their kernels and shifts."""
        weight_4FM = self.first.weight.to(candidates.dtype).T
        of_event, of_candidate, of_difference, of_product = weight_4FM.chunk(4)
        of_events_F1M, of_products_F1M = (of_event + of_difference)[:, None], of_product[:, None]
        kernels = torch.addcmul(of_events_F1M, of_products_F1M, candidates.transpose(-1, -2)[..., None])
        shifts = candidates @ (of_candidate - of_difference) + self.first.bias.to(candidates.dtype)
        return Candidates(kernels, shifts)

    def forward(self, events_BLF: Tensor, candidates: Tensor, sees_BLC: Tensor) -> Tensor:
        """Interests [B, C, F]: each candidate's weighted sum of the events it `sees` ([B, L, C], or [B, L, 1])."""
        B, L, _ = events_BLF.shape
        if torch.compiler.is_compiling() or events_BLF.device.type != "cpu" or not torch.is_grad_enabled():
            return self._read(events_BLF, sees_BLC, candidates)
        rows = max(CACHED // (L * candidates.shape[-2] * self.numbers), 1)
        if rows >= B:
            return self._read(events_BLF, sees_BLC, candidates)
        parts = [events_BLF.split(rows), sees_BLC.split(rows)]
        shared = candidates.dim() == 2
        by_part = [candidates] * len(parts[0]) if shared else candidates.split(rows)
        pieces = list(zip(*parts, by_part, strict=True))
        if self.training and any(isinstance(layer, Dice) for layer in self.activations):
            return torch.cat(self._read_together(pieces))
        return torch.cat([_again(self._read, *piece) for piece in pieces])

    def weights(self, events_BLF: Tensor, candidates: Tensor, sees_BLC: Tensor) -> Tensor:
        """The events' weights [B, L, C], zero where a candidate does not see them."""
        return self._weigh(events_BLF, sees_BLC, candidates)

    def _read(self, events_BLF: Tensor, sees_BLC: Tensor, candidates: Tensor) -> Tensor:
        return self._weigh(events_BLF, sees_BLC, candidates).transpose(1, 2) @ events_BLF

    def _read_together(self, pieces: list[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor]:
        """`_read` of a batch's pieces, layer by layer, for Dice's statistics are the whole batch's.

        What the layers make is kept: made again, its pass for the statistics would be too.
        """
        hidden = [self._first(events_BLF, self.prepare(candidates)) for events_BLF, _, candidates in pieces]
        for place, layer in enumerate(self.activations):
            if isinstance(layer, Dice):
                sums = [layer.sums(x, sees_BLC) for x, (_, sees_BLC, _) in zip(hidden, pieces, strict=True)]
                moments = layer.moments(torch.stack(sums).sum(0))
                hidden = [layer(x, None, moments) for x in hidden]
            else:
                hidden = [layer(x) for x in hidden]
            if place < len(self.layers):
                hidden = [self.layers[place](x) for x in hidden]
        return [
            self._normalise(self._raw(x), events_BLF, sees_BLC).transpose(1, 2) @ events_BLF
            for x, (events_BLF, sees_BLC, _) in zip(hidden, pieces, strict=True)
        ]

    def _weigh(self, events_BLF: Tensor, sees_BLC: Tensor, candidates: Tensor) -> Tensor:
        x = self._first(events_BLF, self.prepare(candidates))
        for place, layer in enumerate(self.activations):
            x = activate(layer, x, sees_BLC)
            if place < len(self.layers):
                x = self.layers[place](x)
        return self._normalise(self._raw(x), events_BLF, sees_BLC)

    def _raw(self, x: Tensor) -> Tensor:
        """The raw weights [B, L, C] of the last layer's output."""
        if torch.compiler.is_compiling():  # a sum becomes one pass with the activation before it, a product does not
            return (x.float() * self.weight.weight[0]).sum(-1) + self.weight.bias
        raw_BLC: Tensor = self.weight(x).squeeze(-1)
        return raw_BLC

    def _normalise(self, raw_BLC: Tensor, events_BLF: Tensor, sees_BLC: Tensor) -> Tensor:
        """The weights as they come, or their softmax over the events that are seen."""
        if not self.softmax:
            return raw_BLC.masked_fill(~sees_BLC, 0.0)
        raw_BLC = raw_BLC * events_BLF.shape[-1] ** -0.5
        low = torch.finfo(raw_BLC.dtype).min / 2  # finite: a candidate that sees nothing gets no NaN
        return raw_BLC.masked_fill(~sees_BLC, low).softmax(1).masked_fill(~sees_BLC, 0.0)

    def _first(self, events_BLF: Tensor, prepared: Candidates) -> Tensor:
        """The first layer's output [B, L, C, M]."""
        kernels, shifts = prepared
        if kernels.dim() == 3:
            x = torch.addmm(shifts.flatten(), events_BLF.flatten(0, 1), kernels.flatten(1))
            x = x.unflatten(0, events_BLF.shape[:2])
        else:
            x = torch.baddbmm(shifts.flatten(1)[:, None], events_BLF, kernels.flatten(2))
        return x.unflatten(-1, shifts.shape[-2:])


def _again(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """The function, computed once more in backward instead of keeping what it made."""
    result: Tensor = checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return result
