"""A small packed log in memory, from lists of items."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import held_out, leave_last
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.training.precision import Precision

COUNTS = {  # of a split, as its view's manifest has them
    "targets": 1,
    "users": 1,
    "held_out_targets": 1,
    "repeated_targets": 0,
    "left_out_repeats": 0,
    "cold_targets": 0,
    "requests": 1,
    "requests_of_cold_users": 0,
}


def make_log(histories: Sequence[Sequence[int]], num_items: int, seed: int = 0) -> PackedLog:
    """Users' whole histories; each evaluated user's click candidates are the target and three random items."""
    offsets_U1 = np.concatenate([[0], np.cumsum([len(h) for h in histories])]).astype(np.int64)
    items_N = np.concatenate([np.asarray(h, np.int32) for h in histories])
    log = PackedLog(
        offsets_U1,
        items_N,
        None,
        None,
        Catalog(len(histories), num_items),
        manifest={
            "fingerprint": "f" * 8,
            "order": "file order",
            "settings": {
                "name": "toy",
                "min_rating": None,
                "user_core": 0,
                "item_core": 0,
                "duplicates": "keep",
            },
        },
    )
    rng, clicks = np.random.default_rng(seed), {}
    for split in ("val", "test"):
        targets = held_out(log, split)
        negatives_RK = rng.integers(1, num_items + 1, (len(targets.rows_R), 3))
        items_RC = np.concatenate([items_N[targets.ends_R][:, None], negatives_RK], axis=1).astype(np.int32)
        labels_RC = np.zeros(items_RC.shape, np.int8)
        labels_RC[:, 0] = 1
        clicks[split] = LabelledRows(targets.rows_R, targets.ends_R, items_RC, labels_RC)
    asked = {
        "fingerprint": "f" * 8,
        "name": "leave_last",
        "held_out": "leave-last-out",
        "targets": {"val": "last but one", "test": "last"},
        "click_candidates": "three items",
        "settings": {"name": "leave_last", "ties": "file", "click_negatives": 3},
        "splits": {"val": COUNTS, "test": COUNTS},
    }
    return replace(log, view=replace(leave_last(offsets_U1), clicks=clicks, manifest=asked))


@pytest.fixture(scope="session")
def log_of() -> Callable[..., PackedLog]:
    return make_log


@pytest.fixture(scope="session")
def random_log() -> PackedLog:
    """60 users, 40 items, repeats included."""
    rng = np.random.default_rng(5)
    return make_log([rng.integers(1, 41, rng.integers(1, 30)).tolist() for _ in range(60)], 40)


@pytest.fixture
def cfg() -> EvaluationConfig:
    return EvaluationConfig(
        cutoffs=(5, 10, 20),
        batch_size=7,
        memory_mb=64,
        ranked_users=None,
        test="once",
        beyond_accuracy=False,
        baselines=True,
    )


@pytest.fixture(scope="session")
def cpu() -> Precision:
    return Precision(torch.device("cpu"), "fp32")
