"""Labels of one class are refused before any work: of the fixed candidates, and of drawn negatives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.loader import PrefixRows, WindowRows
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.protocols.view.build import refuse_single_class
from tests.toylog import batching, packed

CPU = torch.device("cpu")
LOG = packed([[1, 2, 3, 4], [4, 3, 1, 2, 5]], 6, click_negatives=2)
ALL_SEEN = packed([[1, 2, 3, 1, 2], [2, 3, 1, 3, 2]], 3)
WINDOWS: dict[str, Any] = {"window": "last", "stride": None, "draws_by_row": False, "device": CPU}


def labelled(split: str, label: float | None, no_negatives: bool = False) -> dict[str, LabelledRows]:
    rows = LOG.clicks[split]
    labels = rows.labels_RC if label is None else np.full_like(rows.labels_RC, label)
    items = rows.items_RC * (rows.labels_RC > 0) if no_negatives else rows.items_RC
    return LOG.clicks | {split: replace(rows, labels_RC=labels, items_RC=items)}


def test_both_classes_are_accepted() -> None:
    refuse_single_class(LOG.clicks)


@pytest.mark.parametrize(
    ("clicks", "words"),
    [
        (labelled("val", 1), "labels of split=val are positive"),
        (labelled("test", 0), "labels of split=test are negative"),
        (labelled("test", None, no_negatives=True), "labels of split=test are positive"),
    ],
)
def test_candidates_of_one_class_are_refused(clicks: dict[str, LabelledRows], words: str) -> None:
    with pytest.raises(SeqrecError, match=f"all click {words}"):
        refuse_single_class(clicks)


def test_where_nothing_is_left_to_draw_all_items_are_counted() -> None:
    with pytest.raises(SeqrecError, match=r"^split=test: every user has seen all 6 items"):
        refuse_single_class(labelled("test", None, no_negatives=True), num_items=6)


def test_training_without_a_possible_negative_is_refused() -> None:
    for make in (
        lambda log: PositionRows(log, 4, batching(8), negatives=1, device=CPU),
        lambda log: PrefixRows(log, 4, batching(8), negatives=1),
        lambda log: WindowRows(log, 4, batching(8), negatives=1, **WINDOWS),
    ):
        assert make(LOG).steps
        with pytest.raises(SeqrecError, match="every user has seen every item"):
            make(ALL_SEEN)


def test_next_item_windows_need_no_negatives() -> None:
    assert WindowRows(ALL_SEEN, 4, batching(8), negatives=0, **WINDOWS).steps
