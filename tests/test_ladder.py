"""The ladder of click rankers: each rung is the one before it and one thing more, and its table counts right."""

from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from scripts.ladder_table import BUILT_ON, Rung, lines, user_aucs
from seqrec_cli.config.compose import compose, conf_folder, groups

ADDED: dict[str, dict[str, Any]] = {
    "din-dice": {"model.activation": "dice", "model.unit_activation": "dice"},
    "din-l2": {"model.l2": 0.1},
    "din-clip": {"trainer.clip_norm": 0.3},
    "din-softmax": {"model.softmax": True},
    "dien": {"model.auxiliary": 1.0},
}
SWEEPS = sorted((conf_folder() / "sweep").glob("ladder_*.yaml"))


def settings(rung: str) -> dict[str, Any]:
    """`model.l2` and so on, of a rung."""
    cfg = OmegaConf.to_container(compose("train", [f"rung={rung}"]))
    return {
        f"{room}.{key}": value for room, keys in cfg.items() if isinstance(keys, dict) for key, value in keys.items()
    }


@pytest.mark.parametrize("rung", ADDED)
def test_a_rung_adds_one_thing(rung: str) -> None:
    own, below = settings(rung), settings(BUILT_ON[rung])
    assert {key: value for key, value in own.items() if below.get(key) != value} == ADDED[rung]


def test_all_rungs_have_the_same_widths_and_training() -> None:
    rungs = {rung: settings(rung) for rung in groups()["rung"]}
    for key in (
        "model.embed_dim",
        "model.max_length",
        "model.mlp",
        "trainer.batch_size",
        "trainer.lr",
        "objective.name",
    ):
        assert len({str(found[key]) for found in rungs.values()}) == 1, key


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_ladder_names_its_rungs_and_says_what_it_gives(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    swept = yaml.safe_load(text)["hydra"]["sweeper"]["params"]["rung"].split(",")
    times = set() if path.stem == "ladder_ml-1m" else {"dsin"}  # whose archive has no times
    assert set(swept) == set(groups()["rung"]) - {"dsin"} | times
    assert f"seqrec train -m sweep={path.stem}" in text
    assert "Run time:" in text
    assert "Expect" in text


def test_a_users_auc_counts_pairs_and_users_of_one_class_have_none() -> None:
    rows_N = np.array([0, 0, 0, 1, 1, 2, 2])
    labels_N = np.array([1, 0, 0, 0, 0, 0, 1])
    found = user_aucs(rows_N, labels_N, np.array([0.5, 0.1, 0.9, 0.2, 0.3, 0.4, 0.4]))
    assert found.tolist() == [1 / 2, 1 / 2]  # one of two pairs; a tie


def test_the_table_gives_means_and_paired_intervals() -> None:
    below = Rung("din-l2", np.array([0.6, 0.8]), 3.0, np.array([0.5, 0.7, 0.6, 0.8]))
    rung = Rung("din-clip", np.array([0.7, 0.7]), 4.0, below.users_R + np.array([0.1, 0.1, 0.1, 0.3]))
    last = lines([below, rung])[-1]
    assert last == "| `din-clip` | 0.7000 (0.0000) | 0.8000 ± 0.2117 | `din-l2` | +0.1500 ± 0.0980 | 4 |"
