"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest

from seqrec_cli.commands.dispatch import share_cores

# Before any test imports torch:
share_cores()
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; its licences keep it out of the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder
