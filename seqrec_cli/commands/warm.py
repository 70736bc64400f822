"""A run's weights for a later log: matched by raw ids, carried over, and what came of it told.

Legend: U users, V items, N events.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import AS_TRAINED, Restored, restore
from seqrec_cli.config.errors import SeqrecError, of_a_run
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.filters import repeats
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.negatives import SeenItems
from seqrec_cli.data.numbers import training_catalog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import held_out, train_ends, training_counts, user_training_counts
from seqrec_cli.data.view import SPLITS
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.protocols.view.build import without_split
from seqrec_cli.saying import silent
from seqrec_cli.training.warm_start import KINDS, Matched, Source, matching, start_from

TEXTS = dict(zip(KINDS, ("item_attribute_values", "user_attribute_values", "context_values"), strict=True))


def warm_start(model: Recommender, cfg: TrainConfig, log: PackedLog) -> dict[str, Any]:
    """Give a fresh model the best weights of the run `start_from`; what the manifest tells of it.

    Raises SeqrecError where the run has nothing in common with the log, or its weights do not fit.
    """
    assert cfg.start_from is not None
    run = restore(cfg.start_from, None, None, hardware=AS_TRAINED, tell=silent)
    matched = matched_logs(log, run.log)
    if not matched.known_items:
        raise SeqrecError(f"start_from={cfg.start_from}: none of its items is in the data; is it a run on other ids?")
    start_from(model, run.model, cfg.model, catalog=log.catalog, matched=matched)
    found = {
        "run": cfg.start_from,
        "epoch": run.epoch,
        "known_items": matched.known_items,
        "new_items": log.num_items - matched.known_items,
        "known_users": matched.known_users,
        "new_users": log.num_users - matched.known_users,
        "gone_items": run.log.num_items - matched.known_items,
        "held_out_events_it_trained_on": _trained_on(log, run.log, matched),
    }
    say(
        f"begins with {cfg.start_from}: {found['known_items']:,} items known, {found['new_items']:,} new, "
        f"{found['gone_items']:,} gone; {found['known_users']:,} users known, {found['new_users']:,} new"
    )
    if leaked := found["held_out_events_it_trained_on"]:
        say(
            f"WARNING: that run trained on {leaked:,} of the events held out here, so the metrics are too high; "
            "is the file the same log, later, and the protocol the run's?"
        )
    return {"started_from": found}


def on_later_log(run: Restored, archive: str) -> tuple[Restored, np.ndarray]:
    """A run's model with the users and events of a later file of the same kind, and the items it never saw, from 1.

    Where the run refuses repeated rows, the file's are dropped, for no setting is given here. Raises SeqrecError for a
    model in closed form, which has to be counted anew.
    """
    if run.cfg.dataset.raw_is_generated:
        raise SeqrecError(
            f"newer={archive}: dataset={run.cfg.dataset.name} is generated and reads no file; take a run on a log of "
            "its own"
        )
    dataset = run.cfg.dataset.model_copy(update={"archive": archive})
    if dataset.duplicates == "error":
        dataset = dataset.model_copy(update={"duplicates": "drop"})
    try:
        log = without_split(prepare(dataset, Path(run.cfg.data_dir), say), run.cfg.protocol)
    except SeqrecError as error:
        raise of_a_run(error, "newer", archive) from error
    _say_repeats(log, archive)
    matched = matched_logs(log, run.log)
    model = build_model(run.cfg.model, training_catalog(log), run.cfg.trainer.seed).to(run.precision.device)
    counts = training_counts(run.log)[matched.items_V1], user_training_counts(run.log)[matched.users_U1]
    model.prepare(*(torch.from_numpy(count).to(run.precision.device) for count in counts))
    start_from(model, run.model, run.cfg.model, catalog=log.catalog, matched=matched)
    new = np.flatnonzero(matched.items_V1[1:] == 0) + 1
    say(
        f"{archive}: {log.num_users - matched.known_users:,} users and {len(new):,} items are newer than the model; "
        "it reads them, and recommends the items that it was trained on"
    )
    return replace(run, model=model, log=log), new


def _say_repeats(log: PackedLog, archive: str) -> None:
    """Each time, not only while the log is built; repeats that are kept are counted among what the filters left."""
    dropped = {row["filter"]: row.get("removed_events") for row in log.manifest["filters"]}.get("duplicates=drop")
    count = dropped or 0
    if dropped is None:
        rows_N = np.repeat(np.arange(log.num_users), np.diff(log.offsets_U1))
        count = int(repeats(rows_N, np.asarray(log.items_N), log.times_N).sum())
    if count:
        what = "user and item" if log.times_N is None else "user, item and time"
        done = "kept" if dropped is None else "left out"
        say(f"{archive}: {count:,} rows that repeat an earlier one (same {what}) are {done}")


def matched_logs(later: PackedLog, earlier: PackedLog) -> Matched:
    """Where the later log's users, items and values of attributes were in the earlier one."""
    assert later.folder is not None
    assert earlier.folder is not None
    values: dict[Source, np.ndarray] = {}
    for kind, key in TEXTS.items():
        ours, theirs = later.manifest[key], earlier.manifest[key]
        for name, texts in ours.items():
            values[kind, name] = matching(texts, theirs.get(name, []))
    for nth, name in enumerate(later.time_context):  # hours and weekdays are the same ones
        size = later.catalog.context_attributes[nth - len(later.time_context)].size
        values["context_attributes", name] = np.arange(size)
    return Matched(
        earlier.catalog,
        matching(vocabulary(later.folder, "items"), vocabulary(earlier.folder, "items")),
        matching(vocabulary(later.folder, "users"), vocabulary(earlier.folder, "users")),
        values,
    )


def _trained_on(later: PackedLog, earlier: PackedLog, matched: Matched) -> int:
    """Held-out events (user and item) of the later log that were training events of the earlier run."""
    trained = SeenItems.of(
        np.asarray(earlier.offsets_U1), earlier.items_N, earlier.num_items, ends_U=train_ends(earlier)
    )
    found = 0
    for split in SPLITS:
        targets = held_out(later, split)
        rows_T = np.repeat(targets.rows_R, np.diff(targets.offsets_R1))
        rows_T, items_T = matched.users_U1[rows_T + 1], matched.items_V1[later.items_N[targets.positions_T]]
        both = (rows_T > 0) & (items_T > 0)
        found += int(trained.contains(rows_T[both] - 1, items_T[both]).sum())
    return found
