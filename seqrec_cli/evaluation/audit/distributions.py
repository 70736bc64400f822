"""How long histories are, how unequal items are, and whether what is popular in training stays so.

Legend: U users, V items, T targets.
"""

from typing import Any

import numpy as np

from seqrec_cli.evaluation.audit.finding import Finding, percent
from seqrec_cli.evaluation.audit.subject import Subject
from seqrec_cli.metrics.owners import mean_ranks
from seqrec_cli.metrics.popularity import gini_index

QUANTILES = {"least": 0.0, "q10": 0.1, "median": 0.5, "q90": 0.9, "most": 1.0}
TOP = 0.01  # the head: this share of the trained items
SHIFTS = 0.5  # a rank correlation lower than this is a change of what is popular
HEAD_DECIDES = 0.3  # share of the targets in the head, from which popularity alone is a rival


def distributions(subject: Subject) -> list[Finding]:
    """The findings of this file."""
    return [lengths(subject), popularity(subject.counts_V[1:]), after_the_cut(subject)]


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Least, 10 %, median, 90 %, most."""
    if not len(values):
        return dict.fromkeys(QUANTILES, 0.0)
    return dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values())).tolist(), strict=True))


def _in_words(found: dict[str, float]) -> str:
    return "least {least:,.0f}, 10 % {q10:,.0f}, median {median:,.0f}, 90 % {q90:,.0f}, most {most:,.0f}".format(
        **found
    )


def lengths(subject: Subject) -> Finding:
    """Events a user, and before the targets."""
    offsets_U1 = np.asarray(subject.log.offsets_U1)
    targets = subject.targets
    before_R = targets.ends_R - offsets_U1[targets.rows_R]
    numbers: dict[str, Any] = {"events_a_user": quantiles(np.diff(offsets_U1))}
    numbers |= {"history_of_a_request": quantiles(before_R), "gini": gini_index(np.diff(offsets_U1)) or 0.0}
    asked = len(np.unique(targets.rows_R))
    numbers |= {"users": subject.log.num_users, "users_asked": asked}
    text = (
        f"events a user: {_in_words(numbers['events_a_user'])}; {asked:,} of {subject.log.num_users:,} users are asked"
    )
    few = asked < subject.log.num_users / 2
    advice = "less than half of the users are in the numbers: say which" if few else ""
    return Finding("lengths", "history length", "look" if few else "ok", text, advice, numbers)


def popularity(counts_V: np.ndarray) -> Finding:
    """How unequally training events are spread over items."""
    numbers: dict[str, Any] = {"events_an_item": quantiles(counts_V), "gini": gini_index(counts_V) or 0.0}
    numbers |= {"zipf_exponent": zipf_exponent(counts_V), "never_trained": int((counts_V == 0).sum())}
    exponent = numbers["zipf_exponent"]
    text = f"training events an item: {_in_words(numbers['events_an_item'])}; Gini {numbers['gini']:.2f}"
    text += "" if exponent is None else f", Zipf exponent {exponent:.2f}"
    return Finding("popularity", "item popularity", "ok", text, "", numbers)


def zipf_exponent(counts_V: np.ndarray) -> float | None:
    """s of count ~ rank ^ -s: minus the slope of a line through log count over log rank, by least squares at ranks that
    are evenly spaced on the logarithmic axis (else the many rare items would alone decide). None for a few items."""
    sorted_V = np.sort(counts_V[counts_V > 0])[::-1].astype(np.float64)
    if len(sorted_V) < 10:
        return None
    ranks = np.unique(np.geomspace(1, len(sorted_V), 50).round().astype(np.int64))
    slope, _ = np.polyfit(np.log(ranks), np.log(sorted_V[ranks - 1]), 1)
    return float(-slope)


def after_the_cut(subject: Subject) -> Finding:
    """Popularity in training against popularity among the targets, and the head's share of both."""
    counts_V = subject.counts_V[1:]
    asked_V = np.bincount(subject.target_items_T, minlength=len(counts_V) + 1)[1:]
    either_V = (counts_V > 0) | (asked_V > 0)
    correlation = rank_correlation(counts_V[either_V], asked_V[either_V])
    trained = int((counts_V > 0).sum())
    head_V = np.argsort(-counts_V, kind="stable")[: max(1, round(TOP * trained))]
    of_targets = float(asked_V[head_V].sum() / max(asked_V.sum(), 1))
    of_training = float(counts_V[head_V].sum() / max(counts_V.sum(), 1))
    numbers = {
        "rank_correlation": correlation,
        "head_items": len(head_V),
        "head_share_of_targets": of_targets,
        "head_share_of_training": of_training,
    }
    question = "popularity after the cut"
    if correlation is None:
        return Finding("shift", question, "unknown", "too few items to rank", "", numbers)
    text = (
        f"rank correlation of training and {subject.split} popularity {correlation:.2f}; the top 1 % of items "
        f"({len(head_V):,}) has {percent(of_targets)} of targets, {percent(of_training)} of training"
    )
    if of_targets > HEAD_DECIDES:
        return Finding("shift", question, "look", text, "most popular is a strong rival: show it", numbers)
    if of_training > 0 and of_targets < SHIFTS * of_training:
        advice = "what was popular no longer is: counts of recent events may do better"
        return Finding("shift", question, "look", text, advice, numbers)
    return Finding("shift", question, "ok", text, "", numbers)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's, ties at their mean rank; None where one of them is constant."""
    of_first, of_second = mean_ranks(np.asarray(first)), mean_ranks(np.asarray(second))
    if len(of_first) < 3 or of_first.std() == 0 or of_second.std() == 0:
        return None
    return float(np.corrcoef(of_first, of_second)[0, 1])
