"""Fixtures shared by all rooms."""

import atexit
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from seqrec_cli.commands.dispatch import share_cores
from seqrec_cli.machine import cores
from tests import painting, warm

if TYPE_CHECKING:
    from seqrec_cli.data.interactions import PackedLog

# Before any test imports torch:
share_cores()
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


LONG = (  # half a minute a test, or a file
    "test_pages.py",
    "test_notebooks.py",
    "test_warm.py",
    "test_onnx_program.py",
    "test_online_experiment.py",
    "test_aoti_program.py",
    "test_module_graph.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """All processes of the session share what they compose of `conf/` (tests/composing.py)."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="seqrec-composed-")
        os.environ["SEQREC_TESTS_COMPOSITIONS"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`, one more than cores: for a quarter of their time tests wait for processes, sockets and timers."""
    return cores() + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process that has done its tests takes half of those that another has left.

    By default (`--dist load`) a process is sent a twelfth of all tests at first, the long ones together: two processes
    had ended when the third still worked on these for a third of the time.
    """
    if config.getvalue("dist") != "load":  # somebody's own choice
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Each process begins a folder at a file of its own.

    In a new checkout a file is compiled by whoever imports it first, a test with its assertions taken apart: processes
    that go side by side would all do so.
    """
    report = yield
    if isinstance(collector, pytest.Directory) and (worker := os.environ.get("PYTEST_XDIST_WORKER")):
        first = len(report.result) * int(worker.removeprefix("gw")) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        report.result = report.result[first:] + report.result[:first]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests first: at the end, one process would still run them when the others have nothing left."""
    items.sort(key=lambda item: (item.path.name not in LONG, item.path))  # a file's keep their order


def pytest_collection_finish() -> None:
    """What has been imported and collected stays; to go over it at each full collection and at the end takes long."""
    gc.collect()
    gc.freeze()
    atexit.register(_end_quickly)


def _end_quickly() -> None:
    """As the command line ends: Triton would list all that is not searched."""
    (gc.unfreeze if "triton" in sys.modules else gc.freeze)()


@pytest.fixture(scope="session")
def python() -> Iterator[list[str]]:
    """The words that start a Python; where it can be had, one that need not import torch anew (tests/warm.py)."""
    if not warm.POSSIBLE:
        yield [sys.executable]
        return
    started = warm.Warm()
    yield started.python()
    started.close()


@pytest.fixture(scope="session", autouse=True)
def kept_compositions() -> Iterator[None]:
    """What is composed of the same files is composed once (tests/composing.py)."""
    from tests.composing import kept

    with kept():
        yield


@pytest.fixture(scope="session", autouse=True)
def unpainted() -> Iterator[Any]:
    """Pictures of runs, studies and sweeps are not painted but for the first one (tests/painting.py).

    The README's first command, which `.ci/run` starts, paints its own; so does a test that asks for `painted`.
    """
    patch = painting.Unpainted()
    patch.start()
    yield patch
    patch.stop()


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """No file waits for the disk, as a run's do twenty times: what a power cut needs is tested where it is counted."""

    def fsync(file: int) -> None:
        """Nothing."""

    with mock.patch.object(os, "fsync", fsync):
        yield


@pytest.fixture
def painted(unpainted: Any) -> Iterator[None]:
    """Every picture is painted, as everywhere but in these tests."""
    unpainted.stop()
    yield
    unpainted.start()


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
