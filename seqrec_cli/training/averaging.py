"""Averages of the weights along the way: smoother than any one step's, and often better on unseen data."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError


class MovingAverage:
    """An exponential moving average of a model's parameters (Polyak & Juditsky 1992, with forgetting).

    The decay of step t is min(decay, (1 + t) / (10 + t)), so that the random first weights are soon forgotten.
    Buffers (running statistics) are averages already and stay the model's own.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, ..."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """A region in which the model holds the averages."""
        own = [p.detach().clone() for p in self.parameters]
        self._fill(self.averages)
        try:
            yield
        finally:
            self._fill(own)

    def state(self) -> list[Tensor]:
        """For a checkpoint."""
        return self.averages

    def restore(self, state: list[Tensor] | None) -> None:
        """Go on from a checkpoint's `state`."""
        if state is None or [a.shape for a in state] != [a.shape for a in self.averages]:
            raise SeqrecError("the checkpoint holds no average of these weights; resume with the run's trainer.ema")
        for average, stored in zip(self.averages, state, strict=True):
            average.copy_(stored)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
