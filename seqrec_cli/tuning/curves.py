"""What a trial's learning curve says: where it peaked, whether it still rose, whether it began to over-fit."""

import math
from dataclasses import dataclass

from seqrec_cli.tuning.records import TrialRecord, Validation

RISE = 0.01  # of the validation loss over its lowest, as a share of it: less is noise


@dataclass(frozen=True)
class OverFit:
    """The validation loss had its lowest point before the run's end, and rose from there."""

    lowest_epoch: int
    best_epoch: int  # by the study's metric, which may go on rising for long
    last_epoch: int
    rise: float  # at the end, as a share of the lowest

    def in_words(self, metric: str) -> str:
        """`validation loss is lowest at epoch 12 and 8 % above that at epoch 30; ndcg@10 is best at epoch 24`."""
        return (
            f"validation loss is lowest at epoch {self.lowest_epoch} and {self.rise:.0%} above that at epoch "
            f"{self.last_epoch}; {metric} is best at epoch {self.best_epoch}"
        )


def over_fit(trial: TrialRecord) -> OverFit | None:
    """How a trial over-fits; None where its validation loss does not rise, or was not measured."""
    losses = [(at.val_loss, at.epoch) for at in trial.curve if at.val_loss is not None and math.isfinite(at.val_loss)]
    if len(losses) < 2 or trial.best is None:
        return None
    (lowest, epoch), (last, last_epoch) = min(losses), losses[-1]
    rise = (last - lowest) / abs(lowest) if lowest else 0.0
    return OverFit(epoch, trial.best.epoch, last_epoch, rise) if rise > RISE else None


def still_rising(trial: TrialRecord) -> bool:
    """Whether the last validation was the best: more epochs may be better still."""
    return trial.best is not None and len(trial.curve) > 1 and trial.best.epoch == trial.curve[-1].epoch


def thinned(trial: TrialRecord, most: int) -> list[Validation]:
    """At most so many points of the curve, evenly over its epochs; the first, the best and the last are among them."""
    curve = trial.curve
    if len(curve) <= most:
        return list(curve)
    kept = {round(place * (len(curve) - 1) / (most - 2)) for place in range(most - 1)}
    if trial.best is not None:
        kept |= {place for place, at in enumerate(curve) if at.epoch == trial.best.epoch}
    return [at for place, at in enumerate(curve) if place in kept]
