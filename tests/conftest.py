"""Fixtures shared by all rooms."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seqrec_cli.commands.dispatch import share_cores

if TYPE_CHECKING:
    from seqrec_cli.data.interactions import PackedLog

# Before any test imports torch:
share_cores()
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


LONG = ("test_pages.py", "test_notebooks.py", "test_onnx_program.py")  # half a minute a test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests first: at the end, one process would still run them when the others have nothing left."""
    items.sort(key=lambda item: item.path.name not in LONG)  # stable: the rest keep their order


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; its licences keep it out of the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder


@pytest.fixture(scope="session")
def saved_log(tmp_path_factory: pytest.TempPathFactory) -> "PackedLog":
    """30 users of 1 to 14 events, 25 items with the ids 100 to 124, in a folder with vocabularies."""
    import numpy as np

    from seqrec_cli.data.catalog import Catalog
    from seqrec_cli.data.interactions import PackedLog
    from seqrec_cli.data.vocabulary import write_vocabulary

    rng = np.random.default_rng(2)
    lengths_U = rng.integers(1, 15, 30)
    offsets_U1 = np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64)
    events = int(offsets_U1[-1])
    log = PackedLog(
        offsets_U1,
        rng.integers(1, 26, events).astype(np.int32),
        np.cumsum(rng.integers(1, 100_000, events)).astype(np.int64),
        None,
        Catalog(30, 25),
        manifest={"fingerprint": "abc"},
    )
    folder: Path = tmp_path_factory.mktemp("packed")
    log.save(folder)
    write_vocabulary(folder, "items", np.arange(100, 125))
    write_vocabulary(folder, "users", np.arange(30))
    return replace(log, folder=folder)
