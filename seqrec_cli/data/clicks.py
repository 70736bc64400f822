"""Click candidates, fixed when the data is prepared, by the protocol of the dataset (`dataset.protocol`).

- leave_last: each held-out event and `click_negatives` uniform items its user never saw; nothing for training.
- positions: that with one negative, and one fixed uniform negative for every training position (DIN, Zhou et al. 2018,
  and its published preparation). Here a training negative is unseen among the user's training events alone, so that no
  held-out event shows in the training rows, and the second-last event validates instead of training.
- last: each user's last event and one item the user never saw, drawn by popularity (as often as it is seen in the
  log); a share of the users validates, another tests, the others train (DIEN, Zhou et al. 2019, and its published
  preparation, which excludes the target alone from the draw and has no validation).
- impressions: logged requests, the clicked item against the others shown; a user's last request tests, the second-last
  validates. impressions_by_user: users are split instead, all requests of a user on one side.

Legend: U users, N events, K events of the log, R labelled rows, C candidates (of a request: the most that one showed),
Q requests, S items shown.
"""

import numpy as np

from seqrec_cli.config.dataset import DatasetConfig, Protocol
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import Ends, LabelledRows, PackedLog
from seqrec_cli.data.negatives import SeenItems, draw_unseen
from seqrec_cli.data.raw import Impressions
from seqrec_cli.data.splits import HeldOut, by_requests, by_users, leave_last, training_targets

SPLITS: tuple[HeldOut, ...] = ("val", "test")
NEVER_SEEN = "the user never saw"
DESCRIPTIONS: dict[Protocol, tuple[str, str]] = {  # how events are held out, and what the click candidates are
    "leave_last": (
        "leave-last-out: last event test, second-last validation",
        f"the held-out item and click_negatives uniform items {NEVER_SEEN}, with replacement",
    ),
    "positions": (
        "leave-last-out: last event test, second-last validation",
        f"one uniform negative beside each event: held-out ones an item {NEVER_SEEN}, training ones fixed too",
    ),
    "last": (
        "by user: the last event of held-out users, who do not train",
        f"one negative beside each user's last event, an item {NEVER_SEEN}, by popularity",
    ),
    "impressions": ("last request test, second-last validation", "logged impressions: clicked against shown"),
    "impressions_by_user": (
        "by user: the requests of held-out users, who do not train",
        "logged impressions: clicked against shown",
    ),
}

SPLITS_USERS: dict[Protocol, bool] = {name: held.startswith("by user") for name, (held, _) in DESCRIPTIONS.items()}


def hold_out(
    cfg: DatasetConfig, offsets_U1: np.ndarray, items_N: np.ndarray, num_items: int, requests: LabelledRows | None
) -> tuple[Ends, dict[str, LabelledRows]]:
    """Where the users' histories are held out, and the labelled rows by split (`train` too, but for leave_last)."""
    seen = SeenItems.of(offsets_U1, items_N, num_items)
    if cfg.protocol in ("leave_last", "positions"):
        ends = leave_last(offsets_U1)
        clicks = _held_out_candidates(ends, items_N, seen, cfg.click_negatives, cfg.seed)
        if cfg.protocol == "positions":
            clicks["train"] = _training_candidates(ends, offsets_U1, items_N, num_items, cfg.seed)
    elif cfg.protocol == "last":
        ends = by_users(offsets_U1, np.flatnonzero(np.diff(offsets_U1) > 1), share=cfg.held_out_users, seed=cfg.seed)
        clicks = _last_event_candidates(ends, offsets_U1, items_N, seen, cfg.seed)
    else:
        assert requests is not None
        ends, clicks = by_requests(
            offsets_U1,
            requests,
            whole_users=cfg.protocol == "impressions_by_user",
            share=cfg.held_out_users,
            seed=cfg.seed,
        )
    return ends, clicks


def _labelled(rows_R: np.ndarray, ends_R: np.ndarray, clicked_R: np.ndarray, negatives_RK: np.ndarray) -> LabelledRows:
    items_RC = np.concatenate([clicked_R[:, None], negatives_RK], axis=1).astype(np.int32)
    labels_RC = np.zeros(items_RC.shape, np.float32)
    labels_RC[:, 0] = 1
    return LabelledRows(rows_R, ends_R, items_RC, labels_RC)


def _held_out_candidates(
    ends: Ends, items_N: np.ndarray, seen: SeenItems, count: int, seed: int
) -> dict[str, LabelledRows]:
    clicks: dict[str, LabelledRows] = {}
    for back, split in enumerate(reversed(SPLITS), 1):
        rows_R, ends_R = ends.targets(split)
        negatives_RK = draw_unseen(rows_R, count, seen, rng=np.random.default_rng([seed, back]))
        clicks[split] = _labelled(rows_R, ends_R, items_N[ends_R], negatives_RK)
    return clicks


def _training_candidates(
    ends: Ends, offsets_U1: np.ndarray, items_N: np.ndarray, num_items: int, seed: int
) -> LabelledRows:
    rows_R, ends_R = training_targets(offsets_U1, ends.train_U)
    seen = SeenItems.of(offsets_U1, items_N, num_items, ends_U=ends.train_U)
    negatives_R1 = draw_unseen(rows_R, 1, seen, rng=np.random.default_rng([seed, 3]))
    return _labelled(rows_R, ends_R, items_N[ends_R], negatives_R1)


def _last_event_candidates(
    ends: Ends, offsets_U1: np.ndarray, items_N: np.ndarray, seen: SeenItems, seed: int
) -> dict[str, LabelledRows]:
    trains_U = (ends.train_U == offsets_U1[1:]) & (np.diff(offsets_U1) > 1)
    train_R = np.flatnonzero(trains_U)
    found = {"train": (train_R, offsets_U1[train_R + 1] - 1)} | {split: ends.targets(split) for split in SPLITS}
    clicks = {}
    for number, (split, (rows_R, ends_R)) in enumerate(found.items()):
        rng = np.random.default_rng([seed, 4 + number])
        negatives_R1 = draw_unseen(rows_R, 1, seen, rng=rng, pool_N=items_N)
        clicks[split] = _labelled(rows_R, ends_R, items_N[ends_R], negatives_R1)
    return clicks


def refuse_single_class(log: PackedLog) -> None:
    """Raises SeqrecError when a split's labels are all positive or all negative: no click metric could be computed."""
    for split, rows in log.clicks.items():
        real_RC = np.asarray(rows.items_RC) > 0
        positives = int(np.count_nonzero((np.asarray(rows.labels_RC) > 0) & real_RC))
        if positives in (0, int(np.count_nonzero(real_RC))):
            only = "positive" if positives else "negative"
            raise SeqrecError(
                f"all click labels of split={split} are {only}, so nothing is to be told apart; give data with both "
                "(users who have seen every item have no negatives)"
            )


def labelled_requests(
    impressions: Impressions, shown_S: np.ndarray, positions_N: np.ndarray, rows_K: np.ndarray, items_K: np.ndarray
) -> LabelledRows:
    """The requests whose events are in the log, in its order.

    `shown_S` item indices, `positions_N` each raw event's log position (-1: filtered out), `rows_K`, `items_K` the
    log's user rows and items by position.
    """
    positions_Q = positions_N[impressions.events_Q]
    kept_Q = np.flatnonzero(positions_Q >= 0)
    kept_Q = kept_Q[np.argsort(positions_Q[kept_Q], kind="stable")]
    starts_Q, ends_Q = impressions.offsets_Q1[kept_Q], positions_Q[kept_Q]
    counts_Q = impressions.offsets_Q1[kept_Q + 1] - starts_Q
    columns_C = np.arange(int(counts_Q.max(initial=1)))
    real_QC = columns_C < counts_Q[:, None]
    items_QC = shown_S[np.minimum(starts_Q[:, None] + columns_C, len(shown_S) - 1)]
    items_QC = np.where(real_QC, items_QC, 0).astype(np.int32)
    labels_QC = (items_QC == items_K[ends_Q][:, None]).astype(np.float32)
    return LabelledRows(rows_K[ends_Q], ends_Q, items_QC, labels_QC)
