"""A small log, a protocol's question to it, and the question in plain lists."""

from dataclasses import replace
from typing import Any

import numpy as np

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.view import Targets, View
from seqrec_cli.protocols.view.build import with_view
from tests.shipped import shipped
from tests.toylog import packed

# Three users; a minute between a user's events, and each user begins at another moment.
HISTORIES = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [11, 12]]
TIMES = [0, 60, 120, 180, 240, 300, 200, 260, 320, 380, 390, 450]


def log_of(histories: list[list[int]] = HISTORIES, times: list[int] | None = None, num_items: int = 20) -> PackedLog:
    log = packed(histories, num_items)
    return replace(log, times_N=np.array(TIMES if times is None else times, np.int64), view=None)


def asked(log: PackedLog, name: str, say: Any = lambda line: None, **settings: Any) -> PackedLog:
    plain = shipped("protocol", name) | {"click_negatives": 1} | settings
    return with_view(log, config_class("protocol", name).from_plain(plain), say)  # type: ignore[arg-type]


def view_of(log: PackedLog) -> View:
    assert log.view is not None
    return log.view


def training(log: PackedLog) -> list[list[int]]:
    return [log.items_N[a:b].tolist() for a, b in zip(log.offsets_U1[:-1], view_of(log).train_U, strict=True)]


def questions(log: PackedLog, targets: Targets) -> list[tuple[int, list[int], list[int]]]:
    """(user row, the history, the targets' items) of every request."""
    items_N, found = log.items_N, []
    for r, (row, end) in enumerate(zip(targets.rows_R, targets.ends_R, strict=True)):
        positions = targets.positions_T[targets.offsets_R1[r] : targets.offsets_R1[r + 1]]
        found.append((int(row), items_N[log.offsets_U1[row] : end].tolist(), items_N[positions].tolist()))
    return found
