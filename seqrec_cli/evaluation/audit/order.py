"""How much of the order is known: events of one time, and ratings given in bursts.

An event joins the one before it where both are one user's and of one time (`ties`), or where some window of so many
seconds holds both and at least so many events (`bursts`: somebody who rates a page of films a minute has not watched
them in that order). What joins forms groups, in which the order may be changed.

Legend: N events, M events of groups of two and more, T targets.
"""

from dataclasses import dataclass, replace

import numpy as np

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.audit.finding import Finding, percent
from seqrec_cli.evaluation.audit.leaks import NO_CLOCK
from seqrec_cli.evaluation.audit.subject import Subject

TIES_MATTER = 0.01  # of the targets: as much as models often differ by
BURSTS_MATTER = 0.2  # of the events


@dataclass(frozen=True)
class Burst:
    """`events` of one user within `seconds`."""

    seconds: int
    events: int


def ties(subject: Subject) -> np.ndarray:
    """True at events that have the time of the event before them, and nothing else that orders the two, [N]."""
    if subject.log.tied_N is not None:
        return np.asarray(subject.log.tied_N)
    return _joined(subject, Burst(0, 2))


def bursts(subject: Subject, burst: Burst) -> np.ndarray:
    """True at events that are in one burst with the event before them, [N]."""
    return _joined(subject, burst)


def _joined(subject: Subject, burst: Burst) -> np.ndarray:
    """Windows that begin at an event and hold `events` within `seconds` join all they hold."""
    log, times_N = subject.log, subject.times_N
    assert times_N is not None
    joined_N = np.zeros(len(log.items_N), bool)
    reach = burst.events - 1
    for block in subject.blocks():
        times = np.asarray(times_N[block.start : block.end])
        if len(times) <= reach:
            continue
        full = (block.rows_N[reach:] == block.rows_N[:-reach]) & (times[reach:] - times[:-reach] <= burst.seconds)
        edges = np.zeros(len(times) + 1, np.int64)  # a window from event i joins i + 1 to i + reach
        starts = np.flatnonzero(full)
        np.add.at(edges, starts + 1, 1)
        np.add.at(edges, starts + burst.events, -1)
        joined_N[block.start : block.end] = np.cumsum(edges)[:-1] > 0
    return joined_N


def in_groups(joined_N: np.ndarray) -> np.ndarray:
    """Which events join another one, [N]."""
    found_N = joined_N.copy()
    found_N[:-1] |= joined_N[1:]
    return found_N


def within_parts(subject: Subject, joined_N: np.ndarray) -> np.ndarray:
    """The same joins, but none of a held-out target, and none across the end of training: what stays may change its
    order without anybody being asked, or taught, something else."""
    cut_N = np.zeros(len(joined_N) + 1, bool)
    cut_N[subject.train_U] = True
    for targets in (subject.view.val, subject.view.test):
        cut_N[targets.positions_T] = cut_N[targets.positions_T + 1] = True
    return joined_N & ~cut_N[:-1]


def reordered(log: PackedLog, joined_N: np.ndarray, rng: np.random.Generator | None) -> PackedLog:
    """The log with each group's events in a random order, or, without `rng`, in the reverse one. Times stay."""
    events_M = np.flatnonzero(in_groups(joined_N))
    groups_M = np.cumsum(~joined_N[events_M])
    keys_M = -events_M if rng is None else rng.random(len(events_M))
    source_M = events_M[np.lexsort((keys_M, groups_M))]

    def moved(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        changed = np.array(values)
        changed[events_M] = values[source_M]
        return changed

    items_N = moved(log.items_N)
    assert items_N is not None
    return replace(log, items_N=items_N, ratings_N=moved(log.ratings_N), context_NF=moved(log.context_NF))


def changed_targets(subject: Subject, log: PackedLog) -> int:
    """How many targets are another item in a reordered log."""
    return int((np.asarray(log.items_N[subject.targets.positions_T]) != subject.target_items_T).sum())


def equal_times(subject: Subject, joined_N: np.ndarray | None, seed: int) -> Finding:
    """Neighbours of one time, targets among them, and how many targets another order of them gives."""
    question = "equal times"
    if joined_N is None:
        return Finding("ties", question, "unknown", NO_CLOCK[subject.clock.kind], "")
    log, positions_T = subject.log, subject.targets.positions_T
    pairs = len(log.items_N) - int((np.diff(log.offsets_U1) > 0).sum())
    tied = int(joined_N.sum())
    in_tie_T = in_groups(joined_N)[positions_T]
    reverse = changed_targets(subject, reordered(log, joined_N, None))
    shuffled = changed_targets(subject, reordered(log, joined_N, np.random.default_rng(seed)))
    share = float(in_tie_T.mean()) if len(in_tie_T) else 0.0
    numbers = {
        "pairs_of_neighbours": pairs,
        "pairs_of_one_time": tied,
        "share_of_pairs": tied / max(pairs, 1),
        "targets_in_a_tie": int(in_tie_T.sum()),
        "share_of_targets": share,
        "targets_changed_reversed": reverse,
        "targets_changed_shuffled": shuffled,
    }
    if not tied:
        return Finding("ties", question, "ok", "no two neighbours have the same time", "", numbers)
    text = (
        f"{percent(tied / max(pairs, 1))} of neighbours have the same time, {int(in_tie_T.sum()):,} targets "
        f"({percent(share)}) are in a tie; reversed, {reverse:,} targets are others, shuffled {shuffled:,}"
    )
    advice = "compare only runs with one order of ties (here: the file's)" if share > TIES_MATTER else ""
    return Finding("ties", question, "look" if advice else "ok", text, advice, numbers)


def in_bursts(subject: Subject, joined_N: np.ndarray | None, burst: Burst) -> Finding:
    """Events in bursts, and targets among them."""
    question = "bursts"
    if joined_N is None:
        coarse = f"the clock counts {subject.clock.unit}s"
        return Finding("bursts", question, "unknown", NO_CLOCK.get(subject.clock.kind, coarse), "")
    found_N = in_groups(joined_N)
    share = float(found_N.mean()) if len(found_N) else 0.0
    targets_T = found_N[subject.targets.positions_T]
    of_targets = float(targets_T.mean()) if len(targets_T) else 0.0
    numbers = {
        "seconds": burst.seconds,
        "events_at_least": burst.events,
        "events_in_bursts": int(found_N.sum()),
        "share_of_events": share,
        "share_of_targets": of_targets,
        "median_gap": _median_gap(subject),
    }
    text = (
        f"{percent(share)} of events are {burst.events} and more within {burst.seconds} s "
        f"({percent(of_targets)} of targets)"
    )
    if share > BURSTS_MATTER:
        advice = "the order is one of a page or form, hardly of choices: see what shuffling it changes"
        return Finding("bursts", question, "look", text, advice, numbers)
    return Finding("bursts", question, "ok", text, "", numbers)


def _median_gap(subject: Subject) -> float:
    """Seconds between neighbours, of at most a few million."""
    assert subject.times_N is not None
    block = next(subject.blocks(), None)
    if block is None:
        return 0.0
    gaps_N = np.diff(np.asarray(subject.times_N[block.start : block.end]))[block.rows_N[1:] == block.rows_N[:-1]]
    return float(np.median(gaps_N)) if len(gaps_N) else 0.0
