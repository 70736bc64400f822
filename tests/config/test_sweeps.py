"""The ready grids: each composes, every value of it is valid, and its header tells its command and its jobs."""

import re
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from seqrec_cli.config.compose import compose, conf_folder
from seqrec_cli.config.validate import validate

GRIDS = sorted((conf_folder() / "sweep").glob("*.yaml"))
BASES = {"encoder": ["model=sasrec"], "negatives": ["model=sasrec"]}


def values_of(text: str) -> dict[str, list[str]]:
    params: dict[str, Any] = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return {str(each.key_or_group): list(each.sweep_string_iterator()) for each in parsed}


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_a_grid_is_valid_and_says_what_it_is(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert f"seqrec train -m sweep={path.stem}" in header
    values = values_of(text)
    jobs = 1
    for each in values.values():
        jobs *= len(each)
    if told := re.search(r"Jobs: (\d+)", header):
        assert int(told[1]) == jobs
    else:
        assert "Run time:" in header or jobs == 3  # measured ones tell that
    for nth in range(max(map(len, values.values()))):  # every value once, not all combinations
        job = [f"{key}={each[nth % len(each)]}" for key, each in values.items()]
        assert validate("train", compose("train", [f"sweep={path.stem}", *BASES.get(path.stem, []), *job])) is not None


def test_heads_come_before_blocks() -> None:
    """The tutorial's advice: the last key varies fastest, and all heads of one block come before a second block."""
    keys = list(values_of((conf_folder() / "sweep" / "bst.yaml").read_text(encoding="utf-8")))
    assert keys.index("model.blocks") < keys.index("model.heads")
