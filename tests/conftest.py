"""Fixtures shared by all rooms."""

from pathlib import Path

import pytest

from seqrec_cli.commands.dispatch import share_cores

share_cores()  # before any test imports torch


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; its licences keep it out of the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder
