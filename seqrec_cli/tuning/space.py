"""A search space: which settings a trial has, their values, and what does not belong to it."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from seqrec_cli.config.describe import value_in_words
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.tuning import SpaceEntry

DIGITS = 4  # of a number that is drawn: settings are read, and typed again, by people


class Suggests(Protocol):
    """A trial of Optuna, as far as it names values."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Space:
    """Entries in the order in which they are asked for; `base` has the other settings, which conditions may name."""

    entries: dict[str, SpaceEntry]
    base: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raises SeqrecError where a condition can never be told."""
        names = list(self.entries)
        for nth, (key, entry) in enumerate(self.entries.items()):
            for other in entry.when or {}:
                if other in self.entries and other not in names[:nth]:
                    raise SeqrecError(f"space: {key} depends on {other}, which must stand above it")
                if other not in self.entries and other not in self.base:
                    hint = nearest(other, [*names, *self.base])
                    raise SeqrecError(f"space: {key} depends on {other}, which is no setting{hint}")
                self._can_be(key, other)

    def _can_be(self, key: str, other: str) -> None:
        """Raises SeqrecError where a condition names a value that another entry does not have."""
        wanted = (self.entries[key].when or {})[other]
        if other not in self.entries or contains(self.entries[other], _plain(wanted)):
            return
        for value in wanted if isinstance(wanted, tuple) else (wanted,):
            if not contains(self.entries[other], value):
                values = self.entries[other].values or ()
                hint = nearest(str(value), [str(each) for each in values])
                said = f"{other}={value_in_words(value)}, which is not {in_words(self.entries[other])}"
                raise SeqrecError(f"space: {key} needs {said}{hint}")

    def applies(self, key: str, settings: Mapping[str, Any]) -> bool:
        """Whether an entry has a value beside these settings of the entries above it."""
        for other, wanted in (self.entries[key].when or {}).items():
            if other in self.entries and other not in settings:
                return False  # it does not apply itself
            value = settings[other] if other in settings else self.base[other]
            if value != wanted and not (isinstance(wanted, tuple) and value in wanted):
                return False
        return True

    def draw(self, trial: Suggests) -> dict[str, Any]:
        """Values for a trial, of the entries that apply."""
        settings: dict[str, Any] = {}
        for key, entry in self.entries.items():
            if self.applies(key, settings):
                settings[key] = _drawn(key, entry, trial)
        return settings

    def problems(self, settings: Mapping[str, Any]) -> list[str]:
        """What is wrong with a proposal, a line each: unknown, missing, idle or out of range."""
        found = [
            f"{key} is not in the space{nearest(key, self.entries)}" for key in settings if key not in self.entries
        ]
        for key, entry in self.entries.items():
            if not self.applies(key, settings):
                if key in settings:
                    found.append(f"{key} has no use beside {_needs(entry)}")
            elif key not in settings:
                found.append(f"{key} is missing")
            elif not contains(entry, settings[key]):
                found.append(f"{key}={value_in_words(settings[key])} is not {in_words(entry)}")
        return found

    def words(self) -> list[str]:
        """A line an entry, for a reader."""
        found = []
        for key, entry in self.entries.items():
            needs = [f"{other}={value_in_words(value)}" for other, value in (entry.when or {}).items()]
            found.append(f"{key}: {in_words(entry)}{', only with ' + ' and '.join(needs) if needs else ''}")
        return found

    def as_drawn(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The same values as Optuna stores them."""
        entries = self.entries
        return {key: _label(value) if entries[key].type == "choice" else value for key, value in settings.items()}

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination. Raises SeqrecError for an entry with endlessly many values."""
        for key, entry in self.entries.items():
            if values_of(entry) is None:
                raise SeqrecError(
                    f"sampler=grid: {key} has endlessly many values; give its entry values ({{type: choice, values: "
                    "[1, 2]}), or a step and no log"
                )
        yield from self._combined({}, list(self.entries))

    def _combined(self, settings: dict[str, Any], keys: list[str]) -> Iterator[dict[str, Any]]:
        if not keys:
            yield settings
            return
        key, *others = keys
        if not self.applies(key, settings):
            yield from self._combined(settings, others)
            return
        for value in values_of(self.entries[key]) or []:
            yield from self._combined({**settings, key: value}, others)


def values_of(entry: SpaceEntry) -> list[Any] | None:
    """All values of an entry; None where they are endlessly many."""
    if entry.type == "choice":
        return [_plain(value) for value in entry.values or ()]
    low, high = entry.ends
    step = entry.step or (1 if entry.type == "int" else None)
    if step is None or entry.log:
        return None
    count = math.floor((high - low) / step + 1e-9)
    return [_rounded(entry, low + nth * step) for nth in range(count + 1)]


def ends_of(entry: SpaceEntry) -> list[Any]:
    """Values that are to be valid settings if all are: the least and the most, or each choice."""
    if entry.type == "choice":
        return [_plain(value) for value in entry.values or ()]
    return [_rounded(entry, value) for value in entry.ends]


def contains(entry: SpaceEntry, value: Any) -> bool:
    """Whether a value is one of an entry's."""
    if entry.type == "choice":
        return any(value == each and type(value) is type(each) for each in map(_plain, entry.values or ()))
    low, high = entry.ends
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return False
    if entry.type == "int" and not isinstance(value, int):
        return False
    steps = (value - low) / entry.step if entry.step else 0
    return abs(steps - round(steps)) < 1e-6


def in_words(entry: SpaceEntry) -> str:
    """`one of 32, 64`, `a number from 0.0001 to 0.01 (by its logarithm)`."""
    if entry.type == "choice":
        return f"one of {', '.join(map(value_in_words, entry.values or ()))}"
    kind = "a whole number" if entry.type == "int" else "a number"
    how = " (by its logarithm)" if entry.log else f" in steps of {entry.step:g}" if entry.step else ""
    return f"{kind} from {entry.ends[0]:g} to {entry.ends[1]:g}{how}"


def _needs(entry: SpaceEntry) -> str:
    return " and ".join(f"another {key} than {value_in_words(value)}" for key, value in (entry.when or {}).items())


def _drawn(key: str, entry: SpaceEntry, trial: Suggests) -> Any:
    if entry.type == "choice":
        values = [_plain(value) for value in entry.values or ()]
        label = trial.suggest_categorical(key, [_label(value) for value in values])
        return next(value for value in values if _label(value) == label and type(_label(value)) is type(label))
    low, high = entry.ends
    if entry.type == "int":
        return trial.suggest_int(key, int(low), int(high), step=int(entry.step or 1), log=bool(entry.log))
    step = None if entry.step is None else float(entry.step)
    return _rounded(entry, trial.suggest_float(key, float(low), float(high), step=step, log=bool(entry.log)))


def _rounded(entry: SpaceEntry, value: float) -> int | float:
    if entry.type == "int":
        return int(value)
    low, high = entry.ends
    return min(max(float(f"{value:.{DIGITS}g}"), float(low)), float(high))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _label(value: Any) -> Any:
    """Optuna stores scalars alone: a list stands for itself as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def combinations(choices: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Each combination of some settings' values; one without any where there are none."""
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))
