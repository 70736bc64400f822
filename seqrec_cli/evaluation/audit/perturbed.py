"""What another order of the same events does to the headline metrics.

Most popular and last-item Markov are counted anew on the reordered training events; a given model stays as it was
trained. Measured on validation: a look at the data opens no test set.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.audit.finding import Finding
from seqrec_cli.evaluation.audit.order import reordered, within_parts
from seqrec_cli.evaluation.audit.subject import Subject
from seqrec_cli.evaluation.baselines import COUNTED, counted
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.ranks import rank_held_out
from seqrec_cli.metrics.table import user_metric
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training.precision import Precision

CHANGE_MATTERS = 0.05  # of a metric: as much as many a published gain


@dataclass(frozen=True)
class Measuring:
    """How a model is measured: the headline metrics, and on what."""

    evaluation: EvaluationConfig
    precision: Precision
    max_length: int
    metrics: tuple[str, ...]
    repetitions: int  # of each shuffle
    seed: int


@dataclass(frozen=True)
class Change:
    """A model's metrics as logged, and their mean and spread over shuffles."""

    order: str
    model: str
    as_logged: dict[str, float]
    mean: dict[str, float]
    std: dict[str, float]
    largest: float  # relative change of a metric

    @classmethod
    def of(cls, order: str, model: str, before: dict[str, float], after: list[dict[str, float]]) -> "Change":
        mean = {name: float(np.mean([found[name] for found in after])) for name in before}
        std = {name: float(np.std([found[name] for found in after], ddof=len(after) > 1)) for name in before}
        largest = max((abs(mean[name] / before[name] - 1) for name in before if before[name]), default=0.0)
        return cls(order, model, before, mean, std, largest)


def headline(model: Recommender, log: PackedLog, how: Measuring) -> dict[str, float]:
    """The metrics of a model on validation."""
    with measuring(model, how.precision):
        ranks, _ = rank_held_out(model, log, "val", how.evaluation, how.max_length, how.precision.device)
    return {name: float(user_metric(name, ranks.ranks_R, ranks.candidates_R).mean()) for name in how.metrics}


def changes(
    subject: Subject, orders: Mapping[str, np.ndarray], given: tuple[str, Recommender] | None, how: Measuring
) -> list[Change]:
    """For every order (a name, and which events it joins): reversed and shuffled groups, everything moved, and shuffled
    ones with the targets kept. The given model sees the last alone: what it was trained on must not become a target."""
    log, found = subject.log, []
    before = {name: headline(counted(name, log, how.max_length), log, how) for name in COUNTED}
    own = {} if given is None else {given[0]: headline(given[1], log, how)}
    for name, joined_N in orders.items():
        kept_N = within_parts(subject, joined_N)
        logs = {f"{name} reversed": [reordered(log, joined_N, None)]}
        for label, joins_N in ((f"{name} shuffled", joined_N), (f"{name} shuffled, targets kept", kept_N)):
            rngs = [np.random.default_rng([how.seed, nth]) for nth in range(how.repetitions)]
            logs[label] = [reordered(log, joins_N, rng) for rng in rngs]
        for label, others in logs.items():
            for model, first in before.items():
                after = [headline(counted(model, other, how.max_length), other, how) for other in others]
                found.append(Change.of(label, model, first, after))
            if given is not None and label.endswith("targets kept"):
                after = [headline(given[1], other, how) for other in others]
                found.append(Change.of(label, given[0], own[given[0]], after))
    return found


def order_matters(found: list[Change], order: str, question: str) -> Finding:
    """The largest change that another order makes, and all changes."""
    mine = [change for change in found if change.order.startswith(order)]
    numbers: dict[str, Any] = {"changes": [asdict(change) for change in mine]}
    worst = max(mine, key=lambda change: change.largest)
    texts = []
    for change in sorted(mine, key=lambda change: -change.largest)[:3]:
        shown = next(iter(change.mean))
        texts.append(f"{change.order}: {change.model} {shown} {change.as_logged[shown]:.4f} to {change.mean[shown]:.4f}")
    if worst.largest <= CHANGE_MATTERS:
        return Finding(f"{order}_effect", question, "ok", "; ".join(texts), "", numbers)
    advice = "differences smaller than this are the order's, not the model's"
    return Finding(f"{order}_effect", question, "look", "; ".join(texts), advice, numbers)
