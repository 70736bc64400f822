"""Whether what is asked was told: by the future of others, by the history, by duplicates and copies; and what nothing
was ever told of.

Under a global clock a request may know only what happened before it. Leave-last-out trains on other users' later events
(Ji, Sun, Zhang & Li 2023, "A critical study on data leakage in recommender system offline evaluation", ACM TOIS 41(3),
arXiv 2010.11060), which a deployed model cannot.

Legend: N events, U users, R requests, T targets, V items.
"""

import numpy as np

from seqrec_cli.evaluation.audit.finding import Finding, percent
from seqrec_cli.evaluation.audit.subject import Block, Subject, training_positions
from seqrec_cli.evaluation.mixing import STEP, mixed

MOST_SORTED = 4_000_000  # training times compared with; of more, every so many-th
LEAST_COPIED = 5  # events that two users share from the first on, to be called a copy: fewer happen by chance
COLD_MATTERS = 0.01
NO_CLOCK = {
    "none": "the log has no times",
    "ranks": "the times count each user's events: they are no common clock",
}


def leaks(subject: Subject) -> list[Finding]:
    """The findings of this file, in the order of the table."""
    return [clock(subject), global_clock(subject), *repeated(subject), copies(subject), *cold(subject)]


def clock(subject: Subject) -> Finding:
    """What the times are."""
    found = subject.clock
    numbers = {"kind": found.kind, "unit": found.unit, "outliers": found.outliers}
    if found.kind != "real":
        advice = "global time, bursts and ties cannot be judged" if found.kind == "ranks" else ""
        return Finding("clock", "times", "unknown", NO_CLOCK[found.kind], advice, numbers)
    text = f"a clock in {found.unit}s"
    if found.outliers:
        advice = "such times decide a cut by time: drop these events, or cut by date"
        return Finding("clock", "times", "look", f"{text}; {found.outliers:,} far outside all others", advice, numbers)
    if found.unit == "day":
        return Finding("clock", "times", "look", f"{text}: the order within a day is unknown", "", numbers)
    return Finding("clock", "times", "ok", text, "", numbers)


def global_clock(subject: Subject) -> Finding:
    """For each request, the training events of other users that happened after it."""
    question = "the future of others in training"
    times_N = subject.times_N
    if times_N is None or not len(subject.targets.rows_R):
        why = "no requests" if times_N is not None else NO_CLOCK[subject.clock.kind]
        return Finding("future", question, "unknown", why, "")
    share_R, first_later_T = later_in_training(subject, times_N)
    some_R = share_R > 0
    numbers = {
        "requests": len(share_R),
        "requests_with_any": int(some_R.sum()),
        "share_of_requests": float(some_R.mean()),
        "mean_share_of_training": float(share_R.mean()),
        "targets_first_trained_later": float(first_later_T.mean()),
    }
    if not some_R.any():
        return Finding("future", question, "ok", "no training event is later than a request", "", numbers)
    text = (
        f"{percent(float(some_R.mean()))} of requests have training events of others after them, "
        f"{percent(float(share_R.mean()))} of all on average; {percent(float(first_later_T.mean()))} of the targets "
        "are items that no other user had seen by then"
    )
    advice = "train on nothing later: protocol=global_time"
    return Finding("future", question, "leak", text, advice, numbers)


def later_in_training(subject: Subject, times_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each request, the share of training events that are other users' and later [R]; and for each target whether
    its item has training events, all of them later than the request [T]."""
    targets, log = subject.targets, subject.log
    asked_R = np.asarray(times_N[targets.ends_R])
    stride = max(1, subject.training_events // MOST_SORTED)
    kept, latest = [], []
    first_V = np.full(log.num_items + 1, np.iinfo(np.int64).max)
    for block in subject.blocks():
        positions_N = training_positions(subject, block)
        times = np.asarray(times_N[positions_N])
        kept.append(times[::stride])
        np.minimum.at(first_V, np.asarray(log.items_N[positions_N]), times)
        latest.append(_latest(subject, block))
    sorted_N = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    later_R = (len(sorted_N) - np.searchsorted(sorted_N, asked_R, side="right")) * stride
    later_R = np.maximum(later_R - _own_later(subject, times_N, asked_R), 0)
    if stride > 1:  # whether there is any is still told exactly, by the latest event of another user
        latest_U = np.concatenate(latest)
        last_two = np.argsort(latest_U)[-2:]
        other_R = np.where(targets.rows_R == last_two[-1], latest_U[last_two[0]], latest_U[last_two[-1]])
        later_R = np.where(other_R > asked_R, np.maximum(later_R, 1), 0)
    first_T = first_V[subject.target_items_T]
    later_T = (first_T > asked_R[targets.requests_T]) & (first_T < np.iinfo(np.int64).max)
    return later_R / max(subject.training_events, 1), later_T


def _latest(subject: Subject, block: Block) -> np.ndarray:
    """The time of each user's last training event, the smallest number where there is none."""
    assert subject.times_N is not None
    rows = slice(block.first_row, block.last_row)
    ends_U, starts_U = subject.train_U[rows], np.asarray(subject.log.offsets_U1)[rows]
    times_U = np.asarray(subject.times_N[np.maximum(ends_U - 1, 0)])
    return np.where(ends_U > starts_U, times_U, np.iinfo(np.int64).min)


def _own_later(subject: Subject, times_N: np.ndarray, asked_R: np.ndarray) -> np.ndarray:
    """How many of a user's own training events are later than the request: most protocols have none."""
    own_R = np.zeros(len(asked_R), np.int64)
    for request in np.flatnonzero(subject.train_U[subject.targets.rows_R] > subject.targets.ends_R):
        end = int(subject.train_U[subject.targets.rows_R[request]])
        own_R[request] = int((times_N[subject.targets.ends_R[request] : end] > asked_R[request]).sum())
    return own_R


def repeated(subject: Subject) -> list[Finding]:
    """Targets that the history holds already, and events that stand in the log twice."""
    log, targets, times_N = subject.log, subject.targets, subject.log.times_N
    seen_T = np.zeros(len(targets.positions_T), bool)
    twice_T = np.zeros(len(targets.positions_T), bool)
    order_T = np.argsort(targets.positions_T, kind="stable")
    sorted_T = targets.positions_T[order_T]
    repeats = duplicates = 0
    for block in subject.blocks():
        keys_N = block.rows_N * (log.num_items + 1) + np.asarray(log.items_N[block.start : block.end])
        first_N = _first_of_equals(keys_N, None)
        repeats += int((first_N != np.arange(len(keys_N))).sum())
        which_T = order_T[slice(*np.searchsorted(sorted_T, [block.start, block.end]))]
        at_T = targets.positions_T[which_T] - block.start
        seen_T[which_T] = first_N[at_T] + block.start < targets.ends_R[targets.requests_T[which_T]]
        if times_N is not None and subject.clock.kind == "real":
            first_N = _first_of_equals(keys_N, np.asarray(times_N[block.start : block.end]))
            duplicates += int((first_N != np.arange(len(keys_N))).sum())
            # The first of equals may be held out itself: a duplicate lies across the split if any of them trains.
            trained_N = np.zeros(len(keys_N), bool)
            trained_N[first_N[block.training(subject)]] = True
            twice_T[which_T] = trained_N[first_N[at_T]]
    return [_repeats(subject, seen_T, repeats), _duplicates(subject, twice_T, duplicates)]


def _first_of_equals(keys_N: np.ndarray, times_N: np.ndarray | None) -> np.ndarray:
    """For each event the first one with its key (and time)."""
    order_N = np.argsort(keys_N, kind="stable") if times_N is None else np.lexsort((times_N, keys_N))
    new_N = np.ones(len(keys_N), bool)
    new_N[1:] = keys_N[order_N[1:]] != keys_N[order_N[:-1]]
    if times_N is not None:
        new_N[1:] |= times_N[order_N[1:]] != times_N[order_N[:-1]]
    first_N = np.empty(len(keys_N), np.int64)
    first_N[order_N] = order_N[new_N][np.cumsum(new_N) - 1] if len(keys_N) else order_N
    return first_N


def _repeats(subject: Subject, seen_T: np.ndarray, repeats: int) -> Finding:
    """Of a view that leaves repeated targets out, how many those were is told by its manifest."""
    facts = subject.view.manifest.get("splits", {}).get(subject.split, {})
    left_out = int(facts.get("left_out_repeats", 0))
    seen, held_out = int(seen_T.sum()) + left_out, len(seen_T) + left_out
    of_events = repeats / max(len(subject.log.items_N), 1)
    numbers = {
        "held_out_targets": held_out,
        "targets_seen_before": seen,
        "share_of_targets": seen / max(held_out, 1),
        "left_out": left_out,
        "share_of_events": of_events,
        "seen": subject.view.seen,
    }
    question = "targets seen before"
    text = f"{seen:,} of {held_out:,} held-out targets ({percent(seen / max(held_out, 1))}) repeat their history"
    if not seen:
        text = f"no target repeats its history; {percent(of_events)} of all events repeat an earlier one"
        return Finding("repeats", question, "ok", text, "", numbers)
    if subject.view.seen == "keep":
        advice = "put a scorer that knows the history alone beside every model"
        return Finding("repeats", question, "look", text, advice, numbers)
    if seen_T.any():
        advice = "seen items leave the candidates, these targets stay: that gives them away; protocol.seen=keep"
        return Finding("repeats", question, "leak", text, advice, numbers)
    advice = "what people do again is not measured; protocol.seen=keep asks for it"
    return Finding("repeats", question, "look", f"{text} and are left out", advice, numbers)


def _duplicates(subject: Subject, twice_T: np.ndarray, duplicates: int) -> Finding:
    question = "duplicates across the split"
    if subject.clock.kind != "real":
        why = f"{NO_CLOCK[subject.clock.kind]}: a repeat cannot be told from a duplicate"
        return Finding("duplicates", question, "unknown", why, "")
    numbers = {"targets_in_training": int(twice_T.sum()), "events": duplicates}
    if twice_T.any():
        text = f"{int(twice_T.sum()):,} targets train too: same user, item and time"
        return Finding("duplicates", question, "leak", text, "dataset.duplicates=drop", numbers)
    if duplicates:
        text = f"{duplicates:,} events are another's duplicate, none across the split"
        return Finding("duplicates", question, "look", text, "dataset.duplicates=drop, unless they are meant", numbers)
    return Finding("duplicates", question, "ok", "none: no two events share user, item and time", "", numbers)


def copies(subject: Subject) -> Finding:
    """Histories that are another user's, item by item from the first event on.

    Prefixes are compared by a 64-bit hash, sum of mixed(item) x STEP ^ position: of a billion prefixes two that differ
    collide with a chance of 3 %. A request is told when another user trained on its whole history and its target.
    """
    log, targets = subject.log, subject.targets
    told_T = np.zeros(len(targets.positions_T), bool)
    lengths_R = targets.ends_R - np.asarray(log.offsets_U1)[targets.rows_R]
    asked_T = np.zeros(len(told_T), np.uint64)
    wholes = []
    for block in subject.blocks():
        hashes_N, powers_N = _prefix_hashes(subject, block)
        inside_T = (targets.positions_T >= block.start) & (targets.positions_T < block.end)
        ends_T = targets.ends_R[targets.requests_T[inside_T]]
        before_T = np.where(
            lengths_R[targets.requests_T[inside_T]] > 0, hashes_N[np.maximum(ends_T - 1 - block.start, 0)], np.uint64(0)
        )
        asked_T[inside_T] = before_T + mixed(subject.target_items_T[inside_T]) * powers_N[ends_T - block.start]
        offsets_U1 = np.asarray(log.offsets_U1)[block.first_row : block.last_row + 1]
        long_U = np.diff(offsets_U1) >= LEAST_COPIED
        wholes.append(hashes_N[offsets_U1[1:][long_U] - 1 - block.start])
    sorted_T = np.unique(asked_T)
    trained = np.zeros(len(sorted_T), bool)
    for block in subject.blocks():
        hashes_N, _ = _prefix_hashes(subject, block)
        found_N = hashes_N[block.training(subject)]
        at_N = np.minimum(np.searchsorted(sorted_T, found_N), max(len(sorted_T) - 1, 0))
        if len(sorted_T):
            trained[at_N[sorted_T[at_N] == found_N]] = True
    if len(sorted_T):
        told_T = trained[np.searchsorted(sorted_T, asked_T)] & (lengths_R[targets.requests_T] + 1 >= LEAST_COPIED)
    _, counts = np.unique(np.concatenate(wholes) if wholes else np.zeros(0, np.uint64), return_counts=True)
    twins = int(counts[counts > 1].sum())
    numbers = {"targets_told_by_a_copy": int(told_T.sum()), "users_with_a_twin": twins}
    question = "copied histories"
    if told_T.any():
        text = f"{int(told_T.sum()):,} targets end a history that another user trains on, event by event"
        return Finding("copies", question, "leak", text, "are these users one? keep one of them", numbers)
    if twins:
        text = f"{twins:,} users of {LEAST_COPIED} events and more have the very history of another"
        return Finding("copies", question, "look", text, "are these users one? keep one of them", numbers)
    return Finding("copies", question, "ok", "no history is another user's", "", numbers)


def _prefix_hashes(subject: Subject, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each event's history up to and with it, and the factor of its position, both uint64 [N]."""
    offsets_U1 = np.asarray(subject.log.offsets_U1)[block.first_row : block.last_row + 1] - block.start
    longest = int(np.diff(offsets_U1).max(initial=0))
    with np.errstate(over="ignore"):
        powers_L = np.cumprod(np.full(longest + 1, STEP, np.uint64))
        positions_N = np.arange(block.end - block.start) - np.repeat(offsets_U1[:-1], np.diff(offsets_U1))
        powers_N = powers_L[positions_N]
        sums_N = np.cumsum(mixed(subject.log.items_N[block.start : block.end]) * powers_N, dtype=np.uint64)
        before_U = np.concatenate([np.zeros(1, np.uint64), sums_N])[offsets_U1[:-1]]
        return sums_N - np.repeat(before_U, np.diff(offsets_U1)), powers_N


def cold(subject: Subject) -> list[Finding]:
    """Targets whose item, and requests whose user, no training event has."""
    targets = subject.targets
    cold_T = subject.counts_V[subject.target_items_T] == 0
    rows_R = targets.rows_R
    cold_R = subject.train_U[rows_R] == np.asarray(subject.log.offsets_U1)[rows_R]
    found = []
    for name, question, cold_X, what, advice in (
        ("cold_targets", "cold targets", cold_T, "targets", "no count or table can find these: a row of their own"),
        ("cold_users", "cold users", cold_R, "requests", "a user embedding knows nothing of them: a row of their own"),
    ):
        share = float(cold_X.mean()) if len(cold_X) else 0.0
        whose = "are of items" if name == "cold_targets" else "are of users"
        text = f"{int(cold_X.sum()):,} of {len(cold_X):,} {what} ({percent(share)}) {whose} without training events"
        numbers = {"count": int(cold_X.sum()), "share": share}
        matters = share > COLD_MATTERS
        found.append(Finding(name, question, "look" if matters else "ok", text, advice if matters else "", numbers))
    return found
