"""From a language model's text to a proposal, or to the reason why it is none, in words that it can act on."""

import contextlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from seqrec_cli.tuning.chat import printable_line
from seqrec_cli.tuning.records import Proposal, TrialRecord
from seqrec_cli.tuning.space import Space

LONGEST_TEXT = 30_000  # characters of an answer, thoughts included
LONGEST_REASON = 1000  # characters kept of a rationale
MOST_BRACES = 100  # at which an object is looked for
MOST_PROBLEMS = 4  # told at once
ALIKE = 1e-6  # numbers nearer than this, relatively, are the same setting
THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


class UnusableError(Exception):
    """An answer that cannot be followed; the message is told to whoever gave it."""


def proposal_in(text: str, space: Space, *, trials: list[TrialRecord], longest: int) -> Proposal:
    """What an answer asks for, checked against the space and the trials. Raises UnusableError."""
    answer = _object_in(text, ("settings", "continues"))
    settings, continues = answer.get("settings"), answer.get("continues")
    if (settings is None) == (continues is None):
        raise UnusableError('give either "settings" or "continues", not both')
    epochs = answer.get("epochs")
    if epochs is not None and not 1 <= _count(epochs, "epochs") <= longest:
        raise UnusableError(f'"epochs" is {epochs}; it may be from 1 to {longest}')
    rationale = _words(answer, ("rationale", "reasons", "reason"))
    if continues is not None:
        longer = _count(epochs, "epochs")
        return _longer(_count(continues, "continues"), longer, trials=trials, rationale=rationale)
    if not isinstance(settings, dict):
        raise UnusableError('"settings" has to be an object of keys and values')
    named = dict(_dotted(settings))
    problems = space.problems(named)
    if problems:
        raise UnusableError("; ".join(problems[:MOST_PROBLEMS]))
    for trial in trials:
        if same_settings(trial.settings, named) and (epochs is None or epochs <= trial.followed):
            raise UnusableError(
                f'trial {trial.number} already has these settings; name others, or follow it further with "continues"'
            )
    return Proposal(named, epochs=None if epochs is None else int(epochs), rationale=rationale)


def choice_in(text: str, trials: list[TrialRecord]) -> tuple[TrialRecord, str]:
    """The finished trial that an answer chooses, and why. Raises UnusableError."""
    answer = _object_in(text, ("trial",))
    number = _count(answer.get("trial"), "trial")
    found = next((each for each in trials if each.number == number), None)
    if found is None or found.state != "complete":
        state = "there is no such trial" if found is None else f"it is {found.state}"
        raise UnusableError(f'"trial" is {number}, and {state}; name one that is complete')
    reasons = _words(answer, ("reasons", "rationale", "reason"))
    if not reasons:
        raise UnusableError('"reasons" is empty; say why')
    return found, reasons


def same_settings(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two trials try the same: equal but for the last digits of numbers."""
    return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())


def _alike(one: Any, other: Any) -> bool:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other))
    return math.isclose(one, other, rel_tol=ALIKE) if numbers else bool(one == other)


def _longer(number: int, epochs: int, *, trials: list[TrialRecord], rationale: str) -> Proposal:
    found = next((each for each in trials if each.number == number), None)
    if found is None:
        raise UnusableError(f'"continues" is {number}, and there is no such trial')
    if found.state in ("failed", "running"):
        raise UnusableError(f'"continues" is {number}, and that trial is {found.state}; name one that has ended')
    for trial in trials:
        if same_settings(trial.settings, found.settings) and trial.followed >= epochs:
            raise UnusableError(
                f'"epochs" is {epochs}, and trial {trial.number} was given {trial.followed} with the same settings; '
                "ask for more"
            )
    return Proposal(found.settings, epochs=epochs, continues=number, rationale=rationale)


def _count(value: Any, name: str) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not whole or value != int(value):
        raise UnusableError(f'"{name}" has to be a whole number')
    return int(value)


def _words(answer: dict[str, Any], names: tuple[str, ...]) -> str:
    """A text of the answer on one line."""
    text = next((answer[name] for name in names if isinstance(answer.get(name), str)), "")
    return printable_line(text)[:LONGEST_REASON]


def _dotted(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys in groups, which models like to write, as dotted ones."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _object_in(text: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """The first JSON object with a wanted key, wherever it stands: between thoughts, prose or fences."""
    if len(text) > LONGEST_TEXT:
        raise UnusableError(
            f"the answer has {len(text):,} characters; at most {LONGEST_TEXT:,}, and the JSON object alone"
        )
    text = THOUGHTS.sub("", text)
    decoder = json.JSONDecoder(parse_constant=_no_number)
    end = 0
    for _ in range(MOST_BRACES):
        place = text.find("{", end)
        if place < 0:
            break
        end = place + 1
        with contextlib.suppress(ValueError, RecursionError):
            found, end = decoder.raw_decode(text, place)
            if any(key in found for key in wanted):
                assert isinstance(found, dict)
                return found
    raise UnusableError(f"the answer holds no valid JSON object with {' or '.join(map(json.dumps, wanted))}")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
