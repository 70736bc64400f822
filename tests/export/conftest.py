"""A small packed log in a folder, with times and vocabularies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import write_vocabulary


@pytest.fixture(scope="session")
def saved_log(tmp_path_factory: pytest.TempPathFactory) -> PackedLog:
    """30 users of 1 to 14 events, 25 items."""
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
