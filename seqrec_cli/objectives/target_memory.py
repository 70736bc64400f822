"""Targets of recent batches and their vectors, as negatives of the next ones.

Cross-batch negative sampling (Wang, Zhu & He, "Cross-Batch Negative Sampling for Training Two-Tower Recommenders",
SIGIR 2021, arXiv 2110.15154): item vectors change slowly, so those of earlier batches still do as negatives. A first-in
first-out memory keeps M of them; they get no gradient, and are not encoded again. Negatives come from the batch's own
targets and from the memory alike, each less the log of how often it is expected (the paper's eq. 3 and 6): over an
epoch's batches an item is in either as often as it is a target.

Differences: the paper takes the whole memory, here `negatives` are drawn from it and the batch, uniformly; vectors are
kept as they are after the step, not before it; the memory is in use from the second step on, not after a warm-up.

Legend: G groups that share negatives, K negatives, M places, N targets of a batch, D width of a scored vector.
"""

from typing import Any

import torch
from torch import Tensor

from seqrec_cli.objectives.samplers import InBatchSampler


class TargetMemory(InBatchSampler):
    """A sampler of the batch's targets and of those that it remembers; where it stands is known on the host."""

    def __init__(self, counts_V: Tensor, places: int) -> None:
        super().__init__(counts_V)
        self.places, self.written = places, 0
        self.items_M = torch.zeros(places, dtype=torch.int64, device=counts_V.device)
        self.vectors_MD: Tensor | None = None

    @property
    def filled(self) -> int:
        """Places that hold a target."""
        return min(self.places, self.written)

    def draw_places(self, groups: int, negatives: int, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Items [G, K], and the place in the memory of each, -1 for a target of this batch."""
        filled, memory_M = self.filled, self.items_M.to(targets_N.device)
        nth_GK = torch.randint(0, filled + len(targets_N), (groups, negatives), device=targets_N.device)
        items_GK = torch.cat([memory_M[:filled], targets_N])[nth_GK]
        return items_GK, nth_GK.where(nth_GK < filled, -1)

    def draw(self, groups: int, negatives: int, targets_N: Tensor) -> Tensor:
        return self.draw_places(groups, negatives, targets_N)[0]

    def recalled(self, vectors_GKD: Tensor, places_GK: Tensor) -> Tensor:
        """The vectors as they were kept, and as they are where a place is -1."""
        if self.vectors_MD is None:
            return vectors_GKD
        kept_GKD = self.vectors_MD[places_GK.clamp(min=0)].to(vectors_GKD.dtype)
        return torch.where(places_GK[..., None] < 0, vectors_GKD, kept_GKD)

    def remember(self, items_N: Tensor, vectors_ND: Tensor) -> None:
        """Put a batch's targets in the place of the oldest."""
        items_N, vectors_ND = items_N[-self.places :], vectors_ND[-self.places :].detach().float()
        if self.vectors_MD is None:
            self.vectors_MD = vectors_ND.new_zeros(self.places, vectors_ND.shape[1])
        places_N = (torch.arange(len(items_N), device=items_N.device) + self.written) % self.places
        self.items_M.index_copy_(0, places_N, items_N)
        self.vectors_MD.index_copy_(0, places_N, vectors_ND)
        self.written += len(items_N)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to draw the same."""
        return {"items": self.items_M, "vectors": self.vectors_MD, "written": self.written}

    def restore(self, state: dict[str, Any]) -> None:
        device, vectors_MD = self.items_M.device, state["vectors"]
        self.items_M, self.written = state["items"].to(device), state["written"]
        self.vectors_MD = None if vectors_MD is None else vectors_MD.to(device)
