"""Averages of the weights along the way: smoother than any one step's, and often better on unseen data."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError


class _Average:
    """Weights of a model's parameters beside its own. Buffers (running statistics) stay the model's."""

    setting: str  # the setting that asks for this average

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def values(self) -> list[Tensor]:
        """The average, a tensor a parameter."""
        raise NotImplementedError

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the model holds the averages."""
        own = [p.detach().clone() for p in self.parameters]
        self._fill(self.values())
        try:
            yield
        finally:
            self._fill(own)

    def check(self, state: list[Tensor] | None) -> list[Tensor]:
        """A checkpoint's tensors, if they are of this model."""
        if state is None or [a.shape for a in state] != [p.shape for p in self.parameters]:
            raise SeqrecError(f"the checkpoint holds no average of these weights; resume with the run's {self.setting}")
        return state

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


class MovingAverage(_Average):
    """An exponential moving average of a model's parameters (Polyak & Juditsky 1992, with forgetting).

    The decay of step t is min(decay, (1 + t) / (10 + t)), so that the random first weights are soon forgotten.
    """

    setting = "trainer.ema"

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, ..."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    def values(self) -> list[Tensor]:
        return self.averages

    def state(self) -> list[Tensor]:
        """For a checkpoint."""
        return self.averages

    def restore(self, state: list[Tensor] | None) -> None:
        """Go on from a checkpoint's `state`."""
        for average, stored in zip(self.averages, self.check(state), strict=True):
            average.copy_(stored)


class EpochAverage(_Average):
    """The mean of the weights at the ends of the last epochs (stochastic weight averaging, Izmailov et al. 2018,
    arXiv 1803.05407).

    Early stopping may make any epoch the last, so each of the latest is kept, in the host's memory. Running statistics
    are the last epoch's, where the paper counts them anew.
    """

    setting = "trainer.swa_epochs"

    def __init__(self, model: nn.Module, epochs: int) -> None:
        super().__init__(model)
        self.epochs = epochs
        self.kept: dict[int, list[Tensor]] = {}  # by epoch
        self.validated_at: int | None = None  # the step after which the mean was measured

    def keep(self, epoch: int) -> None:
        """Take in the weights at an epoch's end; an unfinished epoch's give way to the same one's end."""
        self.kept[epoch] = [p.detach().to("cpu", copy=True) for p in self.parameters]
        for oldest in sorted(self.kept)[: -self.epochs]:
            del self.kept[oldest]

    def values(self) -> list[Tensor]:
        return [torch.stack(each).mean(0) for each in zip(*self.kept.values(), strict=True)]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"kept": self.kept, "validated_at": self.validated_at}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from a checkpoint's `state`. A run that kept nothing begins to keep from here on."""
        if state is not None:
            self.kept = {epoch: self.check(weights) for epoch, weights in state["kept"].items()}
            self.validated_at = state["validated_at"]
