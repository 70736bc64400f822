"""A log turned around (`dataset.predict=users`): an item is the sequence of its users, and the next user is predicted.

Each item's events in the order of their times are a row, whose tokens are users. So any model and any protocol asks
whom to show an item: the advertiser's side of the log ("predict the next user for an item", Huang, critique of SASRec,
section 4.4; information dissemination in Wu et al., KDD 2019, doi 10.1145/3292500.3330959). Filters are of the log as
it is (`user_core` counts a user's events), and their counts are told so; what is built afterwards calls each row, an
item of the log, a user, and what is predicted, a user of the log, an item. Attributes change sides with their owners.

Under leave-last-out an item's last event is its test target and the one before it validates, of items with three events
or more. These are other events than a user's last ones: a model of one side has trained on what the other side holds
out, so the two sides' models are not to be mixed.

Events of one time keep the order of the file, which is that of all users together.

Legend: N events in file order, K events that pass the filters.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.filters import apply_filters, removed_said
from seqrec_cli.data.raw import RawLog
from seqrec_cli.data.vocabulary import factorize
from seqrec_cli.saying import Say

TOLD = (
    "dataset.predict=users: the log is turned around; below, each user is an item of the log, with its users in time "
    "as its history, and each item is a user, who is predicted"
)
NO_FILTERS = {"duplicates": "keep", "min_rating": None, "user_core": 0, "item_core": 0}


def turned(cfg: DatasetConfig, raw: RawLog, say: Say) -> tuple[DatasetConfig, RawLog, list[dict[str, Any]]]:
    """Settings without filters, the events that pass them with users and items changed round, and the filters' counts.

    Raises SeqrecError for a log whose times are no common clock, or that shows items to users, and where too few users
    are left.
    """
    if raw.times_N is None or raw.ticks_per_second == 0:
        raise SeqrecError(
            "dataset.predict=users: an item's users are in the order of their times, and this log has no times that "
            "all users share; use a log with times, or dataset.predict=items"
        )
    assert raw.impressions is None
    assert raw.labels_N is None
    _, users_N = factorize(raw.users_N)
    _, items_N = factorize(raw.items_N)
    kept_K, counts = apply_filters(cfg, raw, users_N, items_N=items_N)
    for line in removed_said(counts):
        say(line)
    if counts[-1]["users"] < 2:
        raise SeqrecError(f"dataset.predict=users: {counts[-1]['users']} user is left, and ranking needs two or more")
    left_out = ["titles of items are left out: rows have none"] if raw.titles is not None else []

    def of_kept(array_N: np.ndarray | None) -> np.ndarray | None:
        return None if array_N is None else array_N[kept_K]

    return (
        cfg.model_copy(update=NO_FILTERS),
        replace(
            raw,
            users_N=raw.items_N[kept_K],
            items_N=raw.users_N[kept_K],
            times_N=raw.times_N[kept_K],
            ratings_N=of_kept(raw.ratings_N),
            weights_N=of_kept(raw.weights_N),
            order_keys=tuple(key_N[kept_K] for key_N in raw.order_keys),
            item_attributes=raw.user_attributes,
            user_attributes=raw.item_attributes,
            titles=None,
            place=None,
            process=None,  # its law is of a user's next item
            notes=(*raw.notes, *left_out),
        ),
        counts,
    )
