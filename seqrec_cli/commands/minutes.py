"""How a portfolio's minutes are shared: what its end will take is kept back, and encoders get parts by their needs.

Legend: P timed steps.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from seqrec_cli.commands.teaching import stand_in
from seqrec_cli.commands.training_setup import fresh_model, objective_for, refuse_too_large, training_rows
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.step_cost import timed_steps

KEPT_BACK = 0.05  # of the minutes, for what nobody foresees
# In measurings of all models: pools, the mixture when it is chosen and at the end, and the baselines beside it.
MEASURED_AGAIN = 4
END_SECONDS = 3.0  # the search for weights, checkpoints and plots
ENCODER_SECONDS = 3.0  # rows, model, checkpoints and plots of an encoder's own run
# Measurings of an encoder beside its training: after the last step, at its run's end, and its loss.
ENCODER_MEASURED = 3
ENOUGH = 1 / 3  # of an encoder's steps: what trainer=fast takes. With less it has learned too little to be worth it
LEAST_SECONDS = 3.0  # an encoder is not begun with less
MOST_FOR_COUNTING = 0.5  # of what is left, for one model that is counted


@dataclass
class Minutes:
    """What is left of a portfolio's time; without a limit all of it always is."""

    given: float | None  # trainer.minutes
    opened: bool  # test is measured too
    began: float = field(default_factory=time.perf_counter)
    counting: float = 0.0  # seconds of counting baselines, which are counted again
    measuring: float = 0.0  # seconds of measuring so far
    measured: int = 0  # models

    def measured_in(self, seconds: float) -> None:
        self.measuring, self.measured = self.measuring + seconds, self.measured + 1

    @property
    def over(self) -> bool:
        return self.given is not None and time.perf_counter() - self.began >= 60 * self.given

    def left(self, encoders: int) -> float:
        """Seconds for training so many encoders, or for what comes before: without what their runs take beside their
        steps, and without the end."""
        if self.given is None:
            return float("inf")
        a_model = self.measuring / max(self.measured, 1)
        end = END_SECONDS + self.counting
        end += (MEASURED_AGAIN + self.opened) * (self.measuring + encoders * a_model)
        beside = encoders * (ENCODER_SECONDS + ENCODER_MEASURED * a_model)
        return 60 * self.given * (1 - KEPT_BACK) - (time.perf_counter() - self.began) - end - beside


def shared(needs: Sequence[float], left: float) -> float:
    """The seconds of the first of several encoders that need so many: its part of what is left, or all of it where no
    part would be enough to learn with."""
    part = left * needs[0] / max(sum(needs), 1e-9)
    return part if part >= ENOUGH * needs[0] else left


def needed_seconds(cfg: TrainConfig, log: PackedLog, precision: Precision) -> float:
    """About what all steps of an encoder's run take, by a few of them. Raises SeqrecError as its training would."""
    refuse_too_large(cfg, log, precision.device)
    objective = objective_for(cfg, log, precision.device)
    rows = training_rows(cfg, objective, log, device=precision.device, soft=stand_in(cfg, log))
    model = fresh_model(cfg, log, precision.device)
    _, _, seconds_P = timed_steps(model, objective, rows, cfg=cfg.trainer, precision=precision)
    steps = cfg.trainer.max_epochs * rows.steps
    return float(np.median(seconds_P)) * min(steps, cfg.trainer.max_steps or steps)
