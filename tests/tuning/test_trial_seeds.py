"""Seeds of a study's trials: random search draws settings that have nothing to do with each other."""

import numpy as np
import pytest

from seqrec_cli.tuning.engine import trial_seed

optuna = pytest.importorskip("optuna")


def test_first_draws_of_trials_are_spread_over_their_range() -> None:
    dist = optuna.distributions.FloatDistribution(0.0, 1.0)
    drawn = []
    for number in range(60):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=trial_seed(1, number)))
        drawn.append(study.ask({"x": dist}).params["x"])
    assert np.histogram(drawn, bins=4, range=(0, 1))[0].min() >= 6  # in progression: nearly one bin
    assert trial_seed(1, 5) != trial_seed(5, 1)
