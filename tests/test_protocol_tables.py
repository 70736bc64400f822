"""The table of protocols: intervals over users, the models' order, and which change places."""

import numpy as np
import pytest

from scripts.protocol_tables import CHOICES, DATASETS, MODELS, SPLITS, Measured, lines, over_users
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate


@pytest.mark.parametrize("model", MODELS)
def test_every_run_of_the_table_is_a_valid_one(model: str) -> None:
    for dataset in DATASETS.values():
        for split in SPLITS.values():
            record = validate("train", compose("train", [*dataset, *split, *MODELS[model]]))
            assert isinstance(record, TrainConfig)
            assert record.model.name == model
    assert set(CHOICES) == {"last", "first", "random", "successive", "all"}


def test_intervals_are_over_users_with_all_their_requests() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    mean, width, requests, users = over_users(values, np.arange(5))
    assert (mean, requests, users) == (0.6, 5, 5)
    assert width == pytest.approx(1.96 * values.std(ddof=1) / np.sqrt(5))
    # The same requests twice of the same users are no more users.
    twice = over_users(np.tile(values, 2), np.tile(np.arange(5), 2))
    assert twice[:2] == pytest.approx((mean, width))
    assert twice[2:] == (10, 5)


def test_the_table_names_the_best_and_who_changes_places() -> None:
    def row(a: float, b: float, c: float) -> dict[str, Measured]:
        return {name: Measured(mean, 0.01, 40, 20, 1.5) for name, mean in zip("abc", (a, b, c), strict=True)}

    found = {"leave_last": row(0.3, 0.2, 0.1), "last": row(0.05, 0.06, 0.01), "all": row(0.01, 0.02, 0.03)}
    text = "\n".join(lines("toy", found))
    assert "| leave_last | **.3000** ± .0100 | .2000 ± .0100 | .1000 ± .0100 | 40 (20) | 1.00 | 4 |" in text
    assert "| last | .0500 ± .0100 | **.0600** ± .0100 | .0100 ± .0100 | 40 (20) | 0.33 | 4 |" in text
    assert "| last | b, a, c | b of a |" in text
    assert "| all | c, b, a | c of b, c of a, b of a |" in text
    assert "tau is 0.33 to 0.33" not in text
    assert "Between the choices of targets tau is -0.33 to -0.33." in text
