"""Small runs that the tests of the Python API share."""

from pathlib import Path

import pytest

import seqrec_cli

TINY = {
    "dataset.users": 60,
    "dataset.items": 40,
    "dataset.max_events": 12,
    "trainer.max_epochs": 1,
    "trainer.batch_size": 64,
    "evaluation.baselines": False,
    "model.max_length": 8,
    "model.embed_dim": 8,
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="session")
def sasrec(base: Path) -> "seqrec_cli.Trained":
    return seqrec_cli.train({**TINY, "data_dir": base / "data"}, run_dir=base / "sasrec", verbose=False)


@pytest.fixture(scope="session")
def din(base: Path) -> "seqrec_cli.Trained":
    return seqrec_cli.train({**TINY, "model": "din", "data_dir": base / "data"}, run_dir=base / "din", verbose=False)
