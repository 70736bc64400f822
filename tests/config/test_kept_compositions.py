"""What the tests keep of Hydra's compositions (tests/composing.py) is what Hydra composes: values, order, flags."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.base import Node

from seqrec_cli.config.compose import compose_raw
from tests import composing

LINES = [
    ("train", []),
    ("train", ["model=din", "trainer.lr=0.5", "+hydra.callbacks.own={a: 1}", "~trainer.patience", "run_dir='a b'"]),
    ("train", ["model=din", "trainer.lr=0.25"]),
    ("train", ["model=ensemble", "~model.members.sasrec", "dataset=csv", "dataset.archive=x.csv"]),
    ("plan", ["model=sasrec", "trainer.betas=[0.5,0.6]"]),
]


def nodes(node: Any, path: str = "") -> list[Any]:
    """Every node with its value and its flags, in order."""
    assert isinstance(node, Node)
    found: list[Any] = [(path, type(node).__name__, node._metadata.flags, node._metadata.optional)]
    if OmegaConf.is_dict(node) and not (node._is_none() or node._is_missing() or node._is_interpolation()):
        for key in node:
            found += nodes(node._get_node(key), f"{path}.{key}")
    return found


def test_what_is_kept_is_what_hydra_composes() -> None:
    for verb, overrides in LINES:
        with mock.patch.object(composing.loader, "create_defaults_list", composing._make_list):
            fresh = compose_raw(verb, overrides)
        for _ in range(2):  # the first may be composed, the second is kept
            again = compose_raw(verb, overrides)
            assert OmegaConf.to_yaml(again) == OmegaConf.to_yaml(fresh)
            assert nodes(again) == nodes(fresh)
        assert composing._lists


def test_a_group_of_the_caller_s_own_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for dim in (8, 16):
        (tmp_path / "model" / "mine.yaml").write_text(f"defaults: [sasrec]\nembed_dim: {dim}\n", encoding="utf-8")
        assert compose_raw("train", ["model=mine"], str(tmp_path)).model.embed_dim == dim


def test_a_mistake_is_one_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ConfigCompositionException, match="no_such"):
            compose_raw("train", ["trainer.no_such=1"])
        with pytest.raises(ConfigCompositionException, match="no_such"):
            compose_raw("train", ["no_such=1"])
