"""DIN's local activation unit: how much each event of a history matters to a candidate (Zhou et al. 2018, 1706.06978,
eq. 3 and figure 2), and the history so weighted.

An MLP reads [h; c; h - c; h * c], its first layer in another form (`kernels/pair_linear`), or on a GPU all of it by one
kernel (`kernels/activation_unit`).

Legend: B rows, L events, C candidates, F features of an item, M first width of the MLP. Candidates are [B, C, ...],
or [C, ...] where all rows share them.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqrec_cli.config.rankers import UnitActivation
from seqrec_cli.kernels.activation_unit.op import activation_unit, usable
from seqrec_cli.kernels.activation_unit.reference import DICE, PRELU, SIGMOID
from seqrec_cli.kernels.pair_linear.op import pair_linear
from seqrec_cli.kernels.prelu_dice.reference import EPSILON
from seqrec_cli.models.layers.attention import masked_softmax
from seqrec_cli.models.layers.channelwise import Dice, PReLU, activate

ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "dice": Dice,
    "prelu": PReLU,
    "sigmoid": lambda channels: nn.Sigmoid(),
}
# Numbers of all layers that rows handled together may have on a CPU. What fits its cache is three times as fast
# (forward and backward of the first layer, 64 rows of 65 events and 32 candidates, F 32, M 36: 63 ms whole, 19 ms by
# 8 rows), so much that backward makes them again, which bounds their memory too.
CACHED = 1 << 20


class ActivationUnit(nn.Module):
    """Weighs events by candidates: raw weights as published (their sum is the interest's strength), or a softmax of
    them over the history, each times `scale`, which is 1 / sqrt(F) if nothing else is said."""

    def __init__(
        self,
        features: int,
        widths: tuple[int, ...],
        activation: UnitActivation,
        *,
        softmax: bool,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(4 * features, widths[0])  # reads [h; c; h - c; h * c]
        # Kept by columns: what multiplies events and products is then dense.
        self.first.weight = nn.Parameter(self.first.weight.detach().T.contiguous().T)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activations = nn.ModuleList(ACTIVATIONS[activation](width) for width in widths)
        self.weight = nn.Linear(widths[-1], 1)
        self.softmax, self.scale = softmax, features**-0.5 if scale is None else scale
        self.numbers = 2 * sum(widths)  # of one pair of event and candidate
        self.candidate_width = widths[0]  # of what is made of a candidate once

    def forward(self, events_BLF: Tensor, candidates: Tensor, sees_BLC: Tensor) -> Tensor:
        """Interests [B, C, F]: each candidate's weighted sum of the events it `sees` ([B, L, C], or [B, L, 1])."""
        if not self._in_pieces(events_BLF):
            return self._interests(events_BLF, candidates, sees_BLC)
        B, L, _ = events_BLF.shape
        rows = max(CACHED // (L * candidates.shape[-2] * self.numbers), 1)
        if rows >= B:
            return self._interests(events_BLF, candidates, sees_BLC)
        events = events_BLF.split(rows)
        candidates_of = [candidates] * len(events) if candidates.dim() == 2 else candidates.split(rows)
        pieces = zip(events, candidates_of, sees_BLC.split(rows), strict=True)
        return torch.cat([_recompute(self._interests, *piece) for piece in pieces])

    def _in_pieces(self, events_BLF: Tensor) -> bool:
        """Whether rows are worked on a few at a time: not where Dice's statistics are the whole batch's, nor with
        PReLU, whose kernel makes so few passes that it does without."""
        if torch.compiler.is_compiling() or events_BLF.device.type != "cpu" or not torch.is_grad_enabled():
            return False
        return not any(isinstance(layer, Dice | PReLU) for layer in self.activations)

    def _interests(self, events_BLF: Tensor, candidates: Tensor, sees_BLC: Tensor) -> Tensor:
        return self.weights(events_BLF, candidates, sees_BLC).transpose(1, 2) @ events_BLF

    def weights(self, events_BLF: Tensor, candidates: Tensor, sees_BLC: Tensor) -> Tensor:
        """The events' weights [B, L, C], zero where a candidate does not see them."""
        if (kind := self._kind()) is not None and usable(events_BLF, tuple(map(len, self._biases())), kind):
            return self._normalise(self._whole(events_BLF, candidates, kind) + self.weight.bias, sees_BLC)
        *inner, last = self.activations
        weight_M, bias = self.weight.weight[0], self.weight.bias
        x = self._first(events_BLF, candidates)
        for activation, layer in zip(inner, self.layers, strict=True):
            x = layer(activate(activation, x, sees_BLC))
        if isinstance(last, Dice | PReLU):
            raw_BLC = last.weighted(x, sees_BLC, weight_M) + bias
        else:
            raw_BLC = self.weight(last(x)).squeeze(-1)
        return self._normalise(raw_BLC, sees_BLC)

    def _normalise(self, raw_BLC: Tensor, sees_BLC: Tensor) -> Tensor:
        """The weights as they come, or their softmax over the events that are seen."""
        if not self.softmax:
            return raw_BLC.masked_fill(~sees_BLC, 0.0)
        return masked_softmax(raw_BLC * self.scale, sees_BLC, dim=1)

    def _first(self, events_BLF: Tensor, candidates: Tensor) -> Tensor:
        """The first layer's output [B, L, C, M]."""
        return pair_linear(events_BLF, candidates, *self._of_candidates(candidates))

    def _of_candidates(self, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each candidate's shifts [..., C, M], and the first layer's weights [F, M] of events and products."""
        w_event, w_candidate, w_difference, w_product = self.first.weight.T.chunk(4)
        shifts = nn.functional.linear(candidates, (w_candidate - w_difference).T, self.first.bias)
        return shifts, w_event + w_difference, w_product

    def _biases(self) -> tuple[Tensor, ...]:
        """Of the hidden layers [M], [K], ..."""
        return (self.first.bias, *(layer.bias for layer in self.layers))  # type: ignore[arg-type]

    def _kind(self) -> int | None:
        """The activation as `kernels/activation_unit` counts them; None for Dice in training, which the kernel has
        not."""
        kinds: dict[type[nn.Module], int] = {PReLU: PRELU, nn.Sigmoid: SIGMOID, Dice: DICE}
        kind = kinds[type(self.activations[0])]
        return None if kind == DICE and self.training else kind

    def _whole(self, events_BLF: Tensor, candidates: Tensor, kind: int) -> Tensor:
        """The raw weights [B, L, C] without the last bias, by one kernel."""
        shifts, w_event_FM, w_product_FM = self._of_candidates(candidates)
        if candidates.dim() == 2:
            candidates, shifts = (x.expand(len(events_BLF), *x.shape) for x in (candidates, shifts))
        first_3M, *others = (
            _numbers(layer, like) for layer, like in zip(self.activations, self._biases(), strict=True)
        )
        second = None
        if self.layers:
            (layer,) = self.layers
            assert isinstance(layer, nn.Linear)
            (second_3K,) = others
            second = layer.weight.T, layer.bias, second_3K
        of_pairs = candidates, shifts, w_event_FM, w_product_FM
        return activation_unit(events_BLF, *of_pairs, first_3M, second, self.weight.weight[0], kind)


def _numbers(layer: nn.Module, like_M: Tensor) -> Tensor:
    """An activation's slope, and scale and offset of its gate: [3, M], zeros for those that it has not."""
    if isinstance(layer, Dice):
        scale = (layer.running_var + EPSILON).rsqrt()
        return torch.stack([layer.slope, scale, -layer.running_mean * scale])
    if isinstance(layer, PReLU):
        return nn.functional.pad(layer.slope[None], (0, 0, 0, 2))
    return like_M.new_zeros((3, len(like_M)))


def _recompute(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """The function, computed once more in backward instead of keeping what it made."""
    result: Tensor = checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return result
