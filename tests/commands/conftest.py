"""A trained run and a file of requests, for the modules of this folder that have none of their own by these names."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recommend_file")


@pytest.fixture(scope="session")
def run(base: Path) -> str:
    from tests.commands.to_a_file import trained

    return trained(base, "sasrec")


@pytest.fixture(scope="session")
def requests(base: Path) -> Path:
    from tests.commands.to_a_file import HISTORIES

    path = base / "requests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in HISTORIES), encoding="utf-8")
    return path
