"""The three ways of telling how much each past event mattered for a score, and which of them suits a model.

Legend: L events that the model read, C items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.histories import Histories
from seqrec_cli.models.contract import full_precision
from seqrec_cli.serving.attribution.gradients import Path, integrated_gradients
from seqrec_cli.serving.attribution.removal import leave_one_out
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.scores import refuse_no_numbers

Method = Literal["auto", "attention", "leave_one_out", "integrated_gradients"]
Scale = Literal["raw", "normalised"]
WITHOUT_ATTENTION = "method=leave_one_out asks any model"
ROWS = 256  # scored at once


@dataclass(frozen=True)
class How:
    """How events are weighed. `path` is of integrated gradients alone."""

    method: Method
    path: Path
    rows_at_once: int = ROWS


@dataclass(frozen=True)
class Attribution:
    """What each event weighed in each item's score.

    Normalised weights are shares of this one history: they say which of its events were looked at, and compare with no
    other history's. Raw ones are signed; of `leave_one_out` and `integrated_gradients` they are in the score's own
    unit, and those of `integrated_gradients` add up to the score less its baseline.
    """

    method: Method
    scale: Scale
    weights_LC: np.ndarray
    scores_C: np.ndarray
    baselines_C: np.ndarray | None = None  # the scores with the events' item vectors at 0: integrated gradients
    gaps_C: np.ndarray | None = None  # how far their sum misses, as a share of all that is attributed
    points: int | None = None


def attribute(recommending: Recommending, asked: Histories, items_C: Sequence[int], *, how: How) -> Attribution:
    """The weights of one history's events, which the model reads, for these items (indices from 1).

    Raises SeqrecError for a method that the model does not bear.
    """
    batch = read_of(recommending, asked)
    items = torch.tensor(list(items_C), device=batch.items_BL.device)
    method, weights_LC = how.method, None
    if method in ("auto", "attention"):
        weights_LC = _attention(recommending, batch, items)
        if weights_LC is None and method == "attention":
            raise SeqrecError(
                f"model={recommending.name} has no attention over a history's events to show (din, dien, dsin and bst "
                f"have); {WITHOUT_ATTENTION}"
            )
        method = "leave_one_out" if weights_LC is None else "attention"
    if weights_LC is not None:
        shares = recommending.model.attention_is_shares
        scores_C = _scores(recommending, batch, items)
        return Attribution(method, "normalised" if shares else "raw", _numpy(weights_LC), _numpy(scores_C))
    if method == "leave_one_out":
        weights_LC, scores_C = leave_one_out(recommending.model, batch, items, rows_at_once=how.rows_at_once)
        refuse_no_numbers(scores_C[None], first=0)
        return Attribution(method, "raw", _numpy(weights_LC), _numpy(scores_C))
    if not recommending.model.embeds_events:
        raise SeqrecError(
            f"model={recommending.name} does not read its events as vectors, so there is no gradient to integrate; "
            f"{WITHOUT_ATTENTION}"
        )
    found = integrated_gradients(recommending.model, batch, items, path=how.path, rows_at_once=how.rows_at_once)
    refuse_no_numbers(found.scores_C[None], first=0)
    weights, scores, baselines, gaps = (_numpy(each) for each in found[:4])
    return Attribution(method, "raw", weights, scores, baselines, gaps, found.points)


def read_of(recommending: Recommending, asked: Histories) -> Batch:
    """The latest events of one history that the model reads, a batch of one row on its device."""
    return asked.batch(np.zeros(1, np.int64), events_read(recommending)).to(recommending.precision.device)


def events_read(recommending: Recommending) -> int:
    """The latest events of a history that the model reads, at most."""
    return max(recommending.max_length - recommending.model.places_of_no_event, 1)


@torch.inference_mode()
def _attention(recommending: Recommending, batch: Batch, items_C: Tensor) -> Tensor | None:
    with full_precision(items_C.device):
        weights_BLC = recommending.model.attention(batch, items_C[None])
    return None if weights_BLC is None else weights_BLC[0]


@torch.inference_mode()
def _scores(recommending: Recommending, batch: Batch, items_C: Tensor) -> Tensor:
    with full_precision(items_C.device):
        scores_BC = recommending.model.score(batch, items_C[None])
    refuse_no_numbers(scores_BC, first=0)
    return scores_BC[0]


def _numpy(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.float().cpu().numpy()
    return found
