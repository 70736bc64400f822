"""What a language model is told of a study: the space, the data, every trial with its curve, and how to answer.

Counts and learning curves alone are sent: no user, no item and no path.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from seqrec_cli.metrics.table import lower_is_better
from seqrec_cli.tuning.chat import Message
from seqrec_cli.tuning.curves import over_fit, still_rising, thinned
from seqrec_cli.tuning.records import TrialRecord
from seqrec_cli.tuning.space import Space

POINTS = 12  # of a curve
BEST, LATEST = 16, 8  # trials told with their curves
PATH = re.compile(r"\S*[/\\]\S*")  # in an error's words
OTHERS = 100  # trials told in a line, the best of the rest


@dataclass(frozen=True)
class Task:
    """The study around the trials."""

    about: str  # model and dataset, in a line
    metric: str
    epochs: int  # of a trial, where nothing else is asked
    longest: int  # epochs that may be asked for
    budget: str  # of the whole study, in words
    statistics: Mapping[str, object]  # of the data, by what they count


def task_in_words(task: Task, space: Space) -> Message:
    """The first message: what is searched, for what, and the form of an answer."""
    way = "lower" if lower_is_better(task.metric) else "higher"
    lines = [
        f"You name the next settings to try for a recommender of behaviour sequences ({task.about}).",
        f"Goal: the best {task.metric} on validation ({way} is better). Budget of the study: {task.budget}.",
        "",
        "The data:",
        *(f"- {name}: {value}" for name, value in task.statistics.items()),
        "",
        "The search space (every key that applies has to be given, no other):",
        *(f"- {line}" for line in space.words()),
        "",
        f"A new trial runs {task.epochs} epochs; its learning rate falls to its end by then. Every trial below says "
        "how far it was followed and at which epoch it peaked. Short runs miss what comes later: settings that learn "
        "slowly and win, and over-fitting that only begins after dozens of epochs. So you may also have an earlier "
        f"trial's settings trained anew for more epochs, up to {task.longest}.",
        "",
        "Answer with one JSON object and nothing else, either",
        '{"settings": {"KEY": VALUE, ...}, "rationale": "one to three sentences"}',
        "or",
        '{"continues": TRIAL_NUMBER, "epochs": NUMBER, "rationale": "one to three sentences"}',
        "Settings that were tried are refused. The rationale is printed in the study's report.",
    ]
    return {"role": "system", "content": "\n".join(lines)}


def trials_in_words(trials: list[TrialRecord], metric: str) -> str:
    """All trials, the best and the latest with their curves."""
    if not trials:
        return "No trial was run yet."
    sign = 1 if lower_is_better(metric) else -1
    scored = sorted((each for each in trials if each.best), key=lambda each: sign * each.best.value)  # type: ignore[union-attr]
    in_full = {each.number for each in (*scored[:BEST], *trials[-LATEST:])}
    rest = [each for each in scored if each.number not in in_full]
    in_a_line = {each.number for each in rest[:OTHERS]}
    lines = [f"{len(trials)} trials so far:"]
    for trial in trials:
        if trial.number in in_full:
            lines += [_line(trial, metric), *_curves(trial, metric)]
        elif trial.number in in_a_line:
            lines.append(_line(trial, metric))
    untold = len(trials) - len(in_full) - len(in_a_line)
    if untold:
        lines.append(f"({untold} more trials, which failed or were worse than those above, are left out.)")
    if scored:
        lines.append(f"The best so far is trial {scored[0].number}.")
    return "\n".join(lines)


def next_question(trials: list[TrialRecord], metric: str) -> Message:
    """The trials, and what is asked."""
    return {"role": "user", "content": trials_in_words(trials, metric) + "\n\nWhich trial is next?"}


def last_question(trials: list[TrialRecord], metric: str) -> Message:
    """The trials, and the question for the final configuration."""
    asked = (
        "The budget is spent. Which trial's settings should be used, and why? Weigh its value on validation, how far "
        "it was followed, and whether it over-fits; values that differ by chance alone are alike. Answer with one JSON "
        'object and nothing else: {"trial": NUMBER, "reasons": "two to five sentences"}'
    )
    return {"role": "user", "content": trials_in_words(trials, metric) + "\n\n" + asked}


def _line(trial: TrialRecord, metric: str) -> str:
    said = [f"#{trial.number} {trial.state}, named by {trial.proposed_by}, followed {trial.followed} epochs"]
    if trial.continues is not None:
        said.append(f"the settings of #{trial.continues} for longer")
    if trial.best is not None:
        rising = ", its last validation, so it may still rise" if still_rising(trial) else ""
        said.append(f"best {metric} {trial.best.value:.4f} at epoch {trial.best.epoch}{rising}")
    if trial.error:
        said.append(f"error: {PATH.sub('...', trial.error)[:200]}")
    return "; ".join(said) + "; settings " + json.dumps(trial.settings)


def _curves(trial: TrialRecord, metric: str) -> list[str]:
    points = thinned(trial, POINTS)
    lines = []
    if points:
        lines.append(f"  {metric} by epoch: " + ", ".join(f"{at.epoch}: {at.value:.4f}" for at in points))
        losses = [f"{at.epoch}: {at.val_loss:.4f}" for at in points if at.val_loss is not None]
        lines += ["  validation loss by epoch: " + ", ".join(losses)] if losses else []
    found = over_fit(trial)
    return lines + ([f"  over-fits: {found.in_words(metric)}"] if found else [])
