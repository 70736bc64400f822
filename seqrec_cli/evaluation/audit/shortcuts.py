"""Whether a log can be solved by shortcuts, without the long history that a sequence model is for.

The three structures are those of Han et al. 2026, "An Embarrassingly Simple Graph Heuristic Reveals Shortcut-Solvable
Benchmarks for Sequential Recommendation" (arXiv 2605.07125): transitions that branch little, transitions between items
of like features, and little dependence on long histories. Branching is, as in their code, the number of distinct
transitions of training an item; the rest is measured here by means that need no text embeddings and no training:

- branching also as perplexity: of how many equally likely items the last one leaves the choice (`counted.py`);
- smoothness: the share of neighbours that share an attribute's value, beside that of two events of one user, and of two
  events of anybody;
- long history: how much of what the counts know of the next item, in log likelihood over popularity, is lost to who
  looks at the last item alone.

Legend: N training events, P pairs, W values of an attribute a row, T targets.
"""

import math

import numpy as np

from seqrec_cli.evaluation.audit.counted import Likelihoods, Pairs, likelihoods, transitions
from seqrec_cli.evaluation.audit.finding import Finding, percent
from seqrec_cli.evaluation.audit.subject import Subject

MOST_PAIRS = 200_000  # of neighbours whose attributes are compared: a share of them is known to .1 %
NARROWS = 4.0  # times fewer choices after the last item: from there the last item is a shortcut
SMOOTH = 2.0  # times as often as by chance
LONG_MATTERS = 0.25  # of the gain over popularity
LEAST_KNOWN = 0.02  # nats over popularity: of less no share can be told


def shortcuts(subject: Subject, *, requests: int, seed: int) -> list[Finding]:
    """The findings of this file."""
    trained = transitions(subject)
    enough = len(trained.pairs.keys_E) > 0 and len(subject.targets.rows_R) > 1
    found = likelihoods(subject, trained, requests=requests, seed=seed) if enough else None
    return [
        branching(subject, trained.pairs, found),
        *smoothness(subject, trained.items_N, trained.rows_N, seed=seed),
        long_history(found),
    ]


def branching(subject: Subject, pairs: Pairs, found: Likelihoods | None) -> Finding:
    """How many items follow an item."""
    question = "branching of transitions"
    if found is None:
        return Finding("branching", question, "unknown", "too few transitions or requests")
    targets = subject.targets
    first_T = targets.positions_T[targets.offsets_R1[:-1]]
    starts_R = np.asarray(subject.log.offsets_U1)[targets.rows_R]
    last_R = np.where(targets.ends_R > starts_R, subject.log.items_N[np.maximum(targets.ends_R - 1, 0)], 0)
    index_R = pairs.index(last_R.astype(np.int64), np.asarray(subject.log.items_N[first_T], np.int64))
    edges = len(pairs.keys_E)
    successors_V = np.bincount(pairs.keys_E // pairs.base, minlength=pairs.base)
    popular, last = math.exp(-found.popular), math.exp(-found.last)
    numbers = {
        "distinct_transitions": edges,
        "transitions_an_item": edges / max(subject.log.num_items, 1),
        "successors_of_the_last_item": float(successors_V[last_R].mean()),
        "targets_among_successors": float((index_R >= 0).mean()),
        "perplexity_of_popularity": popular,
        "perplexity_after_the_last_item": last,
    }
    text = (
        f"{edges / max(subject.log.num_items, 1):,.1f} distinct successors an item; after the last item the choice is "
        f"one of {last:,.0f} equally likely items, by popularity of {popular:,.0f}; "
        f"{percent(numbers['targets_among_successors'])} of targets once followed their last item (it has "
        f"{numbers['successors_of_the_last_item']:,.0f} successors)"
    )
    if popular / last >= NARROWS:
        return Finding("branching", question, "look", text, "show last-item Markov beside every model", numbers)
    return Finding("branching", question, "ok", text, "", numbers)


def smoothness(subject: Subject, items_N: np.ndarray, rows_N: np.ndarray, *, seed: int) -> list[Finding]:
    """For each item attribute, how often neighbours share a value of it."""
    values = subject.log.catalog.item_values
    neighbours = np.flatnonzero(rows_N[1:] == rows_N[:-1])
    if not values or not len(neighbours):
        return [Finding("smoothness", "like neighbours", "unknown", "the items have no attributes")]
    rng = np.random.default_rng([seed, 2])
    picked_P = np.sort(rng.permutation(len(neighbours))[:MOST_PAIRS])
    picked_P = neighbours[picked_P]
    firsts_P = items_N[picked_P]
    starts_U, counts_U = np.unique(rows_N, return_index=True)[1], np.bincount(rows_N)
    counts_P = counts_U[rows_N[picked_P]]
    starts_P = starts_U[np.searchsorted(np.unique(rows_N), rows_N[picked_P])]
    others_P = starts_P + (picked_P - starts_P + rng.integers(1, counts_P)) % counts_P  # another event of the user
    found = []
    for attribute in subject.log.catalog.item_attributes:
        values_VW = values[attribute.name]
        next_to = _share_a_value(values_VW, firsts_P, items_N[picked_P + 1])
        of_user = _share_a_value(values_VW, firsts_P, items_N[others_P])
        of_anybody = _share_a_value(values_VW, firsts_P, rng.permutation(items_N)[: len(firsts_P)])
        numbers = {"neighbours": next_to, "same_user": of_user, "anybody": of_anybody}
        text = (
            f"{percent(next_to)} of neighbours share a value, {percent(of_user)} of two events of a user, "
            f"{percent(of_anybody)} of any two"
        )
        smooth = next_to >= SMOOTH * of_anybody and next_to > of_anybody
        advice = "likeness to the last item is a rival: show a model that knows it alone" if smooth else ""
        name = f"smoothness_{attribute.name}"
        found.append(
            Finding(name, f"like neighbours: {attribute.name}", "look" if smooth else "ok", text, advice, numbers)
        )
    return found


def _share_a_value(values_VW: np.ndarray, firsts_P: np.ndarray, seconds_P: np.ndarray) -> float:
    """The share of pairs with a value in common; 0 is no value."""
    shared = np.zeros(len(firsts_P), bool)
    for column in range(values_VW.shape[1]):
        value_P = values_VW[firsts_P, column]
        for other in range(values_VW.shape[1]):
            shared |= (value_P > 0) & (value_P == values_VW[seconds_P, other])
    return float(shared.mean()) if len(shared) else 0.0


def long_history(found: Likelihoods | None) -> Finding:
    """What is lost to who looks at the last item alone."""
    question = "dependence on long history"
    if found is None:
        return Finding("long_history", question, "unknown", "too few transitions or requests")
    whole = max(found.history - found.popular, 0.0)
    beyond = max(found.history - found.last, 0.0)
    share = min(beyond / whole, 1.0) if whole > 0 else 0.0
    numbers = {"share_beyond_the_last_item": share} | {f"nats_{name}": value for name, value in vars(found).items()}
    text = (
        f"log likelihood of a target over popularity: last item {found.last - found.popular:+.3f} nats, last two "
        f"{found.last_two - found.popular:+.3f}, history of 50 {found.history - found.popular:+.3f}; "
        f"{percent(share)} of it needs more than the last item"
    )
    if whole < LEAST_KNOWN:
        text = f"the counts know nothing of the targets beyond popularity ({whole:.3f} nats)"
        return Finding("long_history", question, "unknown", text, "", numbers)
    if share < LONG_MATTERS:
        advice = "a model's use of long histories is hardly tested here"
        return Finding("long_history", question, "look", text, advice, numbers)
    return Finding("long_history", question, "ok", text, "", numbers)
