"""From next-event scores to n events: the best of each step, a draw of each step, or the best sequence a beam finds.

A step's distribution is the softmax of the model's scores over its candidates (of a click ranker: of its logits, which
were not trained to be one). Every step conditions on the ones before it, as language models do.

- greedy: the highest score of each step;
- sample: a draw at a temperature from the smallest set of items whose chances add up to `top_p` (nucleus sampling,
  Holtzman et al. 2020, arXiv 1904.09751). One uniform number a request and step is drawn before anything else, so that
  the result depends on the seed alone and not on how requests are batched;
- beam: the `width` likeliest sequences are kept at each step (of equal length, so log chances are compared as they
  are); the likeliest at the end is the answer. A width of 1 is greedy.

Legend: B rows, W beams a row, V items (scores have V + 1 columns), n steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.devices import widest_float
from seqrec_cli.evaluation.rollouts.continuations import Growing
from seqrec_cli.models.contract import Recommender

By = Literal["greedy", "sample", "beam"]
OnScores = Callable[[int, Tensor], None]  # step, and scores [B, V + 1] with -inf where there is no candidate


@dataclass(frozen=True)
class Decoding:
    """How items are chosen."""

    by: By
    temperature: float
    top_p: float
    width: int


class Stepper:
    """Scores of the next event for histories that grow; what may not come is -inf.

    `seen_BV` marks what has left the candidates; None where seen items stay.
    """

    def __init__(self, model: Recommender, histories: Growing, seen_BV: Tensor | None, *, max_length: int) -> None:
        self._model, self._histories, self._max_length = model, histories, max_length
        self._seen_BV = None if seen_BV is None else seen_BV.clone()

    def scores(self) -> Tensor:
        """[B, V + 1] in fp32. Raises SeqrecError where the model gives no numbers, or nothing is left."""
        scores_BV = self._model.score_corpus(self._histories.batch(self._max_length)).float().clone()
        scores_BV[:, 0] = -torch.inf
        if not scores_BV.amax() < torch.inf:
            raise SeqrecError("the model gives scores that are NaN or infinite; its training has diverged")
        if self._seen_BV is not None:
            scores_BV.masked_fill_(self._seen_BV, -torch.inf)
        if bool((scores_BV.amax(dim=1) == -torch.inf).any()):
            raise SeqrecError("a user has seen every item, so nothing is left to come next; ask for fewer steps")
        return scores_BV

    def append(self, items_B: Tensor) -> None:
        """The items happened."""
        self._histories.append(items_B)
        if self._seen_BV is not None:
            self._seen_BV = self._seen_BV.scatter(1, items_B[:, None], True)

    def pick(self, rows: Tensor) -> None:
        """Go on with these rows."""
        self._histories = self._histories.picked(rows)
        if self._seen_BV is not None:
            self._seen_BV = self._seen_BV.index_select(0, rows)


def decode(
    step: Stepper, how: Decoding, *, steps: int, uniform_Bn: Tensor, on_scores: OnScores | None = None
) -> Tensor:
    """The chosen items [B, n]. `on_scores` sees each step's scores (not of a beam: its path is known at the end)."""
    if how.by == "beam":
        return _beam(step, how.width, steps)
    chosen = []
    for nth in range(steps):
        scores_BV = step.scores()
        if on_scores is not None:
            on_scores(nth, scores_BV)
        items_B = scores_BV.argmax(dim=1) if how.by == "greedy" else draw(scores_BV, how, uniform_Bn[:, nth])
        step.append(items_B)
        chosen.append(items_B)
    return torch.stack(chosen, dim=1)


def follow(step: Stepper, items_Bn: Tensor, on_scores: OnScores) -> None:
    """The scores of each step when these items happen; an item 0 is told as the best one left, as nothing happened."""
    for nth in range(items_Bn.shape[1]):
        scores_BV = step.scores()
        on_scores(nth, scores_BV)
        step.append(torch.where(items_Bn[:, nth] > 0, items_Bn[:, nth], scores_BV.argmax(dim=1)))


def draw(scores_BV: Tensor, how: Decoding, uniform_B: Tensor) -> Tensor:
    """One item a row, by inversion of the nucleus's cumulated chances at a uniform number."""
    wide_BV = scores_BV.to(widest_float(scores_BV.device)) / how.temperature
    chances_BV, items_BV = wide_BV.softmax(dim=1).sort(dim=1, descending=True)
    sums_BV = chances_BV.cumsum(dim=1)
    kept_BV = sums_BV - chances_BV < how.top_p  # the smallest set whose sum reaches top_p: what stands before is less
    mass_B1 = (chances_BV * kept_BV).sum(dim=1, keepdim=True)
    wanted_B1 = uniform_B.to(sums_BV.dtype)[:, None] * mass_B1
    places_B1 = torch.searchsorted(sums_BV, wanted_B1, right=True)
    last_B1 = kept_BV.sum(dim=1, keepdim=True) - 1  # rounding must not lead out of the nucleus
    return items_BV.gather(1, torch.minimum(places_B1, last_B1))[:, 0]


def highest(scores_BV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest scores of each row and their columns, the highest first; of one, as greedy takes it."""
    if count > 1:
        return tuple(scores_BV.topk(count, dim=1))  # type: ignore[return-value]
    best_B1 = scores_BV.argmax(dim=1, keepdim=True)
    return scores_BV.gather(1, best_B1), best_B1


def _logs(step: Stepper) -> Tensor:
    scores_BV = step.scores()
    return torch.log_softmax(scores_BV.to(widest_float(scores_BV.device)), dim=1)


def _beam(step: Stepper, width: int, steps: int) -> Tensor:
    """The likeliest of the sequences kept, [B, n]."""
    logs_BV = _logs(step)
    rows, beams = len(logs_BV), min(width, logs_BV.shape[1])
    totals_BW, items_BW = highest(logs_BV, beams)
    first_B1 = torch.arange(rows, device=logs_BV.device)[:, None]
    step.pick(first_B1.expand(-1, beams).flatten())
    step.append(items_BW.flatten().clamp(min=1))
    paths_BWn = items_BW[:, :, None]
    for _ in range(1, steps):
        logs_XV = _logs(step)
        best_XW, items_XW = highest(logs_XV, beams)  # of each beam no more than all beams can be taken
        sums_BX = (totals_BW[:, :, None] + best_XW.view(rows, beams, beams)).flatten(1)
        totals_BW, places_BW = highest(sums_BX, beams)
        from_BW = places_BW // beams
        items_BW = items_XW.view(rows, beams * beams).gather(1, places_BW)
        step.pick((first_B1 * beams + from_BW).flatten())
        step.append(items_BW.flatten().clamp(min=1))
        kept_BWn = paths_BWn.gather(1, from_BW[:, :, None].expand(-1, -1, paths_BWn.shape[2]))
        paths_BWn = torch.cat([kept_BWn, items_BW[:, :, None]], dim=2)
    best_B11 = totals_BW.argmax(dim=1)[:, None, None].expand(-1, 1, paths_BWn.shape[2])
    return paths_BWn.gather(1, best_B11)[:, 0]
