"""Owners of items in a log of one's own: read as user ids, kept beside the events, absent from older fingerprints."""

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_helpers import build, dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog

ROWS = """user,item,time,seller
7,a,1,9
7,b,2,8
7,c,3,
9,a,1,9
9,c,2,
9,d,3,7
8,b,1,8
8,d,2,7
8,e,3,12
"""


def prepared(tmp_path: Path, **settings: Any) -> PackedLog:
    file = tmp_path / "log.csv"
    file.write_text(ROWS, encoding="utf-8")
    return build(dataset("csv", archive=file, **settings), tmp_path / "data")


def test_owners_are_users_of_the_log(tmp_path) -> None:
    log = prepared(tmp_path, owner_column="seller")
    assert log.owners_V1 is not None
    # users 7, 8, 9 are 1, 2, 3; items a to e; c has no owner, and 12 is no user
    assert log.owners_V1.tolist() == [0, 3, 2, 0, 1, 0]


def test_a_log_without_them_keeps_its_fingerprint(tmp_path) -> None:
    without, with_owners = prepared(tmp_path), prepared(tmp_path, owner_column="seller")
    assert without.owners_V1 is None
    assert without.fingerprint != with_owners.fingerprint
    assert "owner_column" not in json.loads((without.folder / "manifest.json").read_text())["settings"]
    assert prepared(tmp_path, owner_column=3).fingerprint not in (without.fingerprint, with_owners.fingerprint)
    assert prepared(tmp_path, owner_column=0).fingerprint != without.fingerprint  # position 0 is a column


def test_a_column_of_no_users_is_refused(tmp_path) -> None:
    with pytest.raises(SeqrecError, match=r"no owner of an item is a user of this log; see dataset.owner_column"):
        prepared(tmp_path, owner_column="item")
