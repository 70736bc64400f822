"""Scheduled sampling: training reads some of its model's own answers in place of the events, as a rollout does.

Bengio et al. 2015 (arXiv 1506.03099, section 2.4): each event is read as it came with a chance e(i) that falls while
training goes on, else as a draw from the model's distribution after the events before it. In a causal encoder all
positions are computed at once, so there are two passes (Mihaylova & Martins 2019, arXiv 1906.07651, section 3): the
first reads the true events, and its draws at position j - 1 take the place of event j in the second, which learns; no
gradient flows through the first. The targets stay the true ones. Decay, with i the epochs so far and their parts (the
paper counts batches, which would tie it to their size):

    linear: max(least, 1 - i / k)   exponential: exp(-i / k), the paper's k^i   inverse_sigmoid: k / (k + exp(i / k))

A draw is of the whole corpus at temperature 1, items seen before included; the first event of a row is always read as
it came. Times and context stay those of the true event.

Legend: B rows, L history events, P redrawn events, D width, V items.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.config.objective import WindowConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.models.contract import Recommender, SequenceEncoder, corpus_scores, full_precision
from seqrec_cli.objectives.contract import Objective

FP32_BYTES = 4
COPIES = 3  # of a block of scores: it, its chances and their sums
BLOCK_MB = 128


def true_share(schedule: str, epochs: float, *, decay: float, least: float) -> float:
    """The chance that an event is read as it came."""
    if schedule == "linear":
        share = 1 - epochs / decay
    elif schedule == "exponential":
        share = math.exp(-epochs / decay)
    else:
        share = decay / (decay + math.exp(min(epochs / decay, 500.0)))  # beyond that it is 0 anyway
    return max(least, share)


class ScheduledSampling(Objective):
    """Another objective, whose batches are read as the schedule says.

    Before it is told how far training is, the share is the least: what a step costs at most is what is measured.
    """

    def __init__(self, cfg: WindowConfig, learned: Objective) -> None:
        self.cfg, self.learned, self.epochs = cfg, learned, math.inf
        for name in Objective.__annotations__:  # which rows it learns from
            setattr(self, name, getattr(learned, name))

    def prepare(self, counts_V: Tensor) -> None:
        self.learned.prepare(counts_V)

    def read_log(self, log: PackedLog, device: torch.device) -> None:
        self.learned.read_log(log, device)

    def at_epoch(self, epochs: float) -> None:
        self.epochs = epochs

    def after_step(self, model: Recommender, batch: Batch) -> None:
        self.learned.after_step(model, batch)

    def state(self) -> dict[str, Any] | None:
        return self.learned.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.learned.restore(state)

    def measured(self) -> Objective:
        return self.learned.measured()

    def drawn(self, batch: Batch) -> Batch:
        """Also which events are redrawn, and by which chance."""
        share = true_share(
            self.cfg.scheduled_sampling,
            self.epochs,
            decay=self.cfg.scheduled_epochs,
            least=self.cfg.scheduled_least,
        )
        batch = self.learned.drawn(batch)
        if share >= 1:
            return batch
        shape, device = batch.items_BL.shape, batch.items_BL.device
        redrawn_BL = torch.rand(shape, device=device) >= share
        redrawn_BL[:, 0] = False
        chances_BL = torch.rand(shape, device=device)
        return replace(batch, redrawn_BL=chances_BL.masked_fill(~(redrawn_BL & batch.mask_BL), -1.0))

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        return self.learned.target_loss(model, with_own_answers(model, batch))

    def scratch_bytes(self, num_items: int, targets: int, *, dtype: torch.dtype, device: torch.device) -> int:
        own = COPIES * FP32_BYTES * (num_items + 1) * min(targets, block_rows(num_items))
        return max(own, self.learned.scratch_bytes(num_items, targets, dtype=dtype, device=device))


def block_rows(num_items: int) -> int:
    """Positions whose scores are drawn from at once."""
    return max(1, BLOCK_MB * 2**20 // (COPIES * FP32_BYTES * (num_items + 1)))


@torch.no_grad()
def with_own_answers(model: Recommender, batch: Batch) -> Batch:
    """The batch with draws of the model in the place of the events that are to be redrawn. A GPU is waited for."""
    if batch.redrawn_BL is None:
        return batch
    assert isinstance(model, SequenceEncoder)
    chances = batch.redrawn_BL.flatten()
    places_P = (chances >= 0).nonzero().squeeze(1)
    batch = replace(batch, redrawn_BL=None)
    if not len(places_P):
        return batch
    states_PD = model.encode(batch).flatten(0, 1).index_select(0, places_P - 1)  # no place is a row's first
    items = batch.items_BL.flatten().clone()
    table_VD, bias_V = model.item_table(), model.item_bias()
    for part in torch.arange(len(places_P), device=places_P.device).split(block_rows(model.num_items)):
        with full_precision(places_P.device):
            scores_pV = corpus_scores(states_PD[part], table_VD, bias_V)
        items[places_P[part]] = drawn_items(scores_pV, chances[places_P[part]])
    return replace(batch, items_BL=items.view_as(batch.items_BL))


def drawn_items(scores_BV: Tensor, chances_B: Tensor) -> Tensor:
    """An item a row from the softmax of its scores but the padding's, by inversion of the summed chances at a uniform
    number."""
    sums_BV = scores_BV[:, 1:].float().softmax(dim=1).cumsum(dim=1)
    wanted_B1 = chances_B.to(sums_BV.dtype)[:, None] * sums_BV[:, -1:]
    places_B1 = torch.searchsorted(sums_BV, wanted_B1, right=True)
    return places_B1[:, 0].clamp(max=sums_BV.shape[1] - 1) + 1
