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
from seqrec_cli.metrics.table import request_metric
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training.precision import Precision

CHANGE_MATTERS = 0.05  # of a metric: as much as many a published gain, if it is more than the users' own chance

Values = dict[str, np.ndarray]  # a metric's value of every request


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
    largest: float  # relative change of a metric, of those that change by more than their standard error

    @classmethod
    def of(cls, order: str, model: str, *, before: Values, after: list[Values]) -> "Change":
        logged = {name: float(values.mean()) for name, values in before.items()}
        means = {name: np.array([values[name].mean() for values in after]) for name in before}
        mean = {name: float(found.mean()) for name, found in means.items()}
        std = {name: float(found.std(ddof=len(after) > 1)) for name, found in means.items()}
        error = {name: float(values.std() / np.sqrt(len(values))) for name, values in before.items()}
        largest = max(
            (
                abs(mean[name] - logged[name]) / logged[name]
                for name in before
                if logged[name] and abs(mean[name] - logged[name]) > error[name]
            ),
            default=0.0,
        )
        return cls(order, model, logged, mean, std, largest)


def headline(model: Recommender, log: PackedLog, how: Measuring) -> Values:
    """The metrics of a model on validation, of each request."""
    with measuring(model, how.precision):
        ranks, _ = rank_held_out(
            model, log, "val", cfg=how.evaluation, max_length=how.max_length, device=how.precision.device
        )
    return {name: request_metric(name, ranks) for name in how.metrics}


def changes(
    subject: Subject, orders: Mapping[str, np.ndarray], *, given: tuple[str, Recommender] | None, how: Measuring
) -> list[Change]:
    """For every order (a name, and which events it joins): groups reversed and shuffled, everything moved; and shuffled
    with the targets kept. The given model sees the last alone: what it was trained on must not become a target."""
    log, found = subject.log, []
    before = {name: headline(counted(name, log, how.max_length), log, how) for name in COUNTED}
    own = None if given is None else headline(given[1], log, how)
    for name, joined_N in orders.items():
        rngs = [[how.seed, nth] for nth in range(how.repetitions)]
        variants = (
            (f"{name} reversed", joined_N, [None]),
            (f"{name} shuffled", joined_N, rngs),
            (f"{name} shuffled, targets kept", within_parts(subject, joined_N), rngs),
        )
        for label, joins_N, seeds in variants:
            after: dict[str, list[Values]] = {model: [] for model in before}
            of_given: list[Values] = []
            for seed in seeds:  # one reordered log at a time is in memory
                other = reordered(log, joins_N, None if seed is None else np.random.default_rng(seed))
                for model in before:
                    after[model].append(headline(counted(model, other, how.max_length), other, how))
                if given is not None and label.endswith("kept"):
                    of_given.append(headline(given[1], other, how))
            found += [Change.of(label, model, before=before[model], after=after[model]) for model in before]
            if given is not None and own is not None and of_given:
                found.append(Change.of(label, given[0], before=own, after=of_given))
    return found


def order_matters(found: list[Change], order: str, question: str) -> Finding:
    """The largest change that another order makes, and all changes."""
    mine = [change for change in found if change.order.startswith(order)]
    numbers: dict[str, Any] = {"changes": [asdict(change) for change in mine]}
    worst = max(mine, key=lambda change: change.largest)
    texts = []
    for change in sorted(mine, key=lambda change: -change.largest)[:3]:
        shown = next(iter(change.mean))
        texts.append(
            f"{change.order}: {change.model} {shown} {change.as_logged[shown]:.4f} to {change.mean[shown]:.4f}"
        )
    if worst.largest <= CHANGE_MATTERS:
        return Finding(f"{order}_effect", question, "ok", "; ".join(texts), "", numbers)
    advice = "differences smaller than this are the order's, not the model's"
    return Finding(f"{order}_effect", question, "look", "; ".join(texts), advice, numbers)
