"""Runs by protocol: numbers of one protocol are ordered, numbers of different ones are kept apart."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.evaluation.compare import MEANING, differing, flat
from seqrec_cli.metrics.kinds import MetricError
from seqrec_cli.metrics.table import lower_is_better

DIGITS = 8
MOST_NAMED = 4  # fields that are said to differ
LONGEST = 40  # characters of a value that are said


@dataclass(frozen=True)
class Entry:
    """One run, or a baseline that was measured with runs (`run` is then empty)."""

    run: str
    model: str
    dataset: str
    seed: int | None
    metrics: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]
    protocol: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)  # by dotted key


@dataclass(frozen=True)
class Group:
    """The runs of one protocol, best first, and the baselines under it."""

    key: str
    protocol: Mapping[str, Any]
    entries: Sequence[Entry]
    baselines: Sequence[Entry]
    differs: str  # from the first group of its dataset, in words; empty for that one


def protocol_key(protocol: Mapping[str, Any], may_differ: Sequence[str] = ()) -> str:
    """A short name of a protocol: equal where `compare` would put runs side by side."""
    kept = {name: value for name, value in protocol.items() if name not in (*may_differ, MEANING)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:DIGITS]


def chosen(entries: Sequence[Entry], where: Mapping[str, Any]) -> list[Entry]:
    """Entries whose protocol or settings have all these values. Raises SeqrecError for a key that none has."""
    known = [flat(entry.protocol) | dict(entry.settings) for entry in entries]
    for name in where:
        have = {key for each in known for key in each}
        if entries and name not in have:
            raise SeqrecError(f"where: no run has a '{name}' in its protocol or settings{nearest(name, sorted(have))}")
    return [
        entry
        for entry, each in zip(entries, known, strict=True)
        if all(name in each and _alike(each[name], value) for name, value in where.items())
    ]


def _alike(one: Any, other: Any) -> bool:
    return bool(one == other or str(one) == str(other))


def grouped(
    entries: Sequence[Entry], baselines: Iterable[Entry], *, sort: str, may_differ: Sequence[str]
) -> list[Group]:
    """Groups by dataset and number of runs, each ordered by the metric `sort`; runs without it stand last."""
    try:
        sign = 1 if lower_is_better(sort) else -1
    except MetricError as error:
        raise SeqrecError(f"sort: {error}") from error
    measured = sorted({name for entry in entries for name in entry.metrics})
    if entries and sort not in measured:
        raise SeqrecError(f"sort={sort}: no run has measured it{nearest(sort, measured)} (have: {', '.join(measured)})")
    by_key: dict[str, list[Entry]] = {}
    of_baselines: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        by_key.setdefault(protocol_key(entry.protocol, may_differ), []).append(entry)
    for entry in baselines:
        of_baselines.setdefault(protocol_key(entry.protocol, may_differ), {}).setdefault(entry.model, entry)

    def order(entry: Entry) -> tuple[bool, float]:
        return sort not in entry.metrics, sign * entry.metrics.get(sort, 0.0)

    keys = sorted(by_key, key=lambda key: (by_key[key][0].dataset, -len(by_key[key]), key))
    first: dict[str, Mapping[str, Any]] = {}
    found = []
    for key in keys:
        runs = sorted(by_key[key], key=order)
        rules = {name: value for name, value in runs[0].protocol.items() if name not in (*may_differ, MEANING)}
        before = first.setdefault(runs[0].dataset, rules)
        below = sorted(of_baselines.get(key, {}).values(), key=order)
        found.append(Group(key, rules, runs, below, _differences(before, rules)))
    return found


def _differences(before: Mapping[str, Any], rules: Mapping[str, Any]) -> str:
    told = differing(before, rules)
    words = [f"{name} {_cut(there)} (there {_cut(here)})" for name, here, there in told[:MOST_NAMED]]
    return "; ".join([*words, *([f"{len(told) - MOST_NAMED} more fields"] if len(told) > MOST_NAMED else [])])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
