"""Short runs first, the best of them anew and longer; and whether the short ones told the truth.

Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", arXiv
1810.05934, algorithm 2): rung k has trials of `epochs * factor^k` epochs, up to the study's own number. Whoever is free
follows one of the best `1 / factor` of a rung's trials into the next, from the highest rung down, and only if there is
none begins a new trial. What differs:

- A trial that is followed is trained anew, for its learning rate has to fall over all its epochs, not over the first.
- Of a rung no more than that share is followed, though each may have been the best in its turn.
- A few (`checks`) that are not among the best are followed too, spread over the ranks: over the best alone, the
  correlation of short and long runs would be low however well short runs order the rest.
- Where the correlation is below `agreement`, the first rung is doubled for new trials.

Everything follows from the trials' records alone, so that several workers, and a study that is resumed, decide alike.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from seqrec_cli.config.horizon import HorizonConfig
from seqrec_cli.metrics.table import lower_is_better
from seqrec_cli.saying import Say
from seqrec_cli.tuning.curves import over_fit
from seqrec_cli.tuning.records import Proposal, TrialRecord

LEAST_PAIRS = 5  # settings with a short and a long run, of which a correlation is believed


class Agreement(NamedTuple):
    """How runs of two lengths order the settings that have both."""

    short: int  # epochs
    long: int
    settings: int
    correlation: float | None  # Spearman's; None: fewer than three settings, or all alike

    @property
    def counts(self) -> bool:
        """Whether there is enough to decide by."""
        return self.correlation is not None and self.settings >= LEAST_PAIRS


@dataclass
class Horizons:
    """Names which trial is followed further (a `Proposer`). None, without a word: a new one is due, of `epochs`."""

    cfg: HorizonConfig
    metric: str
    longest: int  # the study's own epochs
    say: Say
    name: str = "horizon"
    _told: int | None = None  # the epochs of new trials, as last said

    def propose(self, trials: list[TrialRecord]) -> Proposal | None:
        """The best trial of the highest rung that is to be followed; then one that checks the short runs."""
        first = self.epochs(trials)
        self._tell_if_doubled(first, trials)
        rungs = self._rungs(first)
        for short, longer in reversed(list(pairwise(rungs))):
            found = self._next_of(_ended_between(trials, short, longer), longer, trials, checks=short == first)
            if found is not None:
                return found
        return None

    def epochs(self, trials: list[TrialRecord]) -> int:
        """Those of a new trial: the first horizon, doubled while its runs order settings otherwise than longer ones."""
        epochs = self._first
        while epochs < self.longest and self._misleads(epochs, trials):
            epochs = min(2 * epochs, self.longest)
        return epochs

    def agreements(self, trials: list[TrialRecord]) -> list[Agreement]:
        """Of every two lengths that some settings have both of."""
        values = self._values(trials)
        lengths = sorted({epochs for by_epochs in values for epochs in by_epochs})
        pairs = [(short, longer) for short in lengths for longer in lengths if short < longer]
        found = [self._agreement(short, longer, values) for short, longer in pairs]
        return [each for each in found if each.settings]

    def lines(self, trials: list[TrialRecord]) -> list[str]:
        """The report: runs of each length and how many over-fit, how lengths agree, what was doubled."""
        lines = []
        for epochs in sorted({each.followed for each in trials}):
            runs = [each for each in trials if each.followed == epochs and each.state in ("complete", "pruned")]
            measured = [each for each in runs if any(at.val_loss is not None for at in each.curve)]
            rising = sum(over_fit(each) is not None for each in measured)
            loss = f"; validation loss rises at the end of {rising} of {len(measured)}" if measured else ""
            if runs:
                lines.append(f"{_counted(epochs, 'epoch')}: {_counted(len(runs), 'run')}{loss}")
        told = [each for each in self.agreements(trials) if each.correlation is not None]
        for short, longer, settings, correlation in told:
            few = f" (fewer than {LEAST_PAIRS}: too few to act on)" if settings < LEAST_PAIRS else ""
            lines.append(
                f"{short} against {longer} epochs: rank correlation {correlation:.2f} over {settings} settings{few}"
            )
        if not told:
            lines.append("whether short runs order settings as long ones do cannot be told: fewer than three have both")
        now = self.epochs(trials)
        return lines + ([self._doubled(now, trials)] if now > self._first else [])

    def _tell_if_doubled(self, now: int, trials: list[TrialRecord]) -> None:
        if now != self._told and (self._told is not None or now != self._first):
            self.say(f"horizon: {self._doubled(now, trials)}")
        self._told = now

    def _doubled(self, now: int, trials: list[TrialRecord]) -> str:
        if now == self._first:
            return f"short runs order settings as long ones after all: new trials begin with {now} epochs again"
        worst = [each for each in self.agreements(trials) if each.counts and each.short < now]
        short, longer, settings, correlation = worst[-1]
        return (
            f"runs of {short} and {longer} epochs order {settings} settings differently (rank correlation "
            f"{correlation:.2f}, below {self.cfg.agreement:g}): new trials begin with {now} epochs instead of "
            f"{self._first}"
        )

    @property
    def _first(self) -> int:
        assert self.cfg.epochs is not None
        return min(self.cfg.epochs, self.longest)

    def _rungs(self, first: int) -> list[int]:
        """Lengths a factor apart; the last step, to the study's own number, is no less than half of that (by ratio)."""
        rungs = [first]
        while rungs[-1] * self.cfg.factor <= self.longest:
            rungs.append(rungs[-1] * self.cfg.factor)
        if len(rungs) > 1 and self.longest < rungs[-1] * math.sqrt(self.cfg.factor):
            rungs[-1] = self.longest
        return rungs if rungs[-1] == self.longest else [*rungs, self.longest]

    def _misleads(self, epochs: int, trials: list[TrialRecord]) -> bool:
        """By the longest runs that enough settings have beside those of so many epochs."""
        told = [each for each in self.agreements(trials) if each.short == epochs and each.counts]
        return bool(told) and (told[-1].correlation or 0.0) < self.cfg.agreement

    def _values(self, trials: list[TrialRecord]) -> list[dict[int, float]]:
        """By settings: the metric of each length they were run for (of several runs alike, the latest)."""
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for trial in trials:
            if trial.state == "complete" and trial.value is not None:
                found[_key(trial)][trial.followed] = trial.value
        return list(found.values())

    def _agreement(self, short: int, longer: int, values: list[dict[int, float]]) -> Agreement:
        both = [(each[short], each[longer]) for each in values if short in each and longer in each]
        if len(both) < 3:
            return Agreement(short, longer, len(both), None)
        correlation = pd.DataFrame(both).corr(method="spearman").iloc[0, 1]
        return Agreement(short, longer, len(both), None if pd.isna(correlation) else float(correlation))

    def _ordered(self, ended: list[TrialRecord]) -> list[TrialRecord]:
        """The best first; those that were pruned are none of them."""
        sign = 1 if lower_is_better(self.metric) else -1
        whole = [each for each in ended if each.state == "complete" and each.value is not None]
        return sorted(whole, key=lambda each: (sign * (each.value or 0.0), each.number))

    def _next_of(
        self, ended: list[TrialRecord], longer: int, trials: list[TrialRecord], *, checks: bool
    ) -> Proposal | None:
        """Of a rung's trials the one to follow next; None where as many were followed as its number allows.

        As a sampler learns, each trial may be better than those before it. Without a limit (the paper has none) all
        would be followed, each in its turn the best.
        """
        ordered = self._ordered(ended)
        best = len(ended) // self.cfg.factor
        due = (
            min(self.cfg.checks, len(ended) // (2 * self.cfg.factor)) if checks else 0
        )  # one by one, as ranks get known
        followed = [rank for rank, each in enumerate(ordered) if _followed(each, longer, trials)]
        waiting = [rank for rank in range(len(ordered)) if rank not in followed]
        if not waiting or len(followed) >= best + due:
            return None
        if waiting[0] < best:
            found = ordered[waiting[0]]
            why = f"number {waiting[0] + 1} of {len(ended)} settings after {_counted(found.followed, 'epoch')}"
        elif sum(rank >= best for rank in followed) < due:
            found = ordered[max(waiting, key=lambda rank: min((abs(rank - each) for each in followed), default=rank))]
            after = _counted(found.followed, "epoch")
            why = f"not among the best after {after}: to see whether short runs order as long ones"
        else:
            return None
        return Proposal(found.settings, epochs=longer, continues=found.number, rationale=why)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _key(trial: TrialRecord) -> str:
    return repr(sorted(trial.settings.items()))


def _followed(trial: TrialRecord, epochs: int, trials: list[TrialRecord]) -> bool:
    """Whether these settings have so long a run, or had one that failed: it is not tried again and again."""
    return any(each.followed >= epochs and _key(each) == _key(trial) for each in trials)


def _ended_between(trials: list[TrialRecord], short: int, longer: int) -> list[TrialRecord]:
    """A trial a setting, its longest, of those that were to run so many epochs and were not lost.

    Between two rungs are those of a horizon before it was doubled, and what an adviser asked for.
    """
    ended = [each for each in trials if short <= each.followed < longer and each.state in ("complete", "pruned")]
    return list({_key(each): each for each in sorted(ended, key=lambda each: each.followed)}.values())
