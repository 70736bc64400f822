"""A protocol applied to a packed log: its view, made once and kept beside the log under its fingerprint.

Legend: U users, N events, R requests, T targets, V items.
"""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.config.registry import code_of
from seqrec_cli.data.blocks import row_blocks, user_blocks
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import MIN_EVENTS
from seqrec_cli.data.view import SPLITS, HeldOut, LabelledRows, Targets, View
from seqrec_cli.files import one_builder
from seqrec_cli.protocols.view import candidates, store
from seqrec_cli.protocols.view.former import former_fingerprint
from seqrec_cli.protocols.view.meaning import TIED, targets_in_ties
from seqrec_cli.protocols.view.split import Split
from seqrec_cli.protocols.view.ties import reordered
from seqrec_cli.saying import Say

FORMAT = 1  # raise when a view's files or what they mean change: older ones are then made again
DIGITS = 16  # of the fingerprint in its folder's name


def with_view(log: PackedLog, cfg: ProtocolConfig, say: Say, *, verify: bool = False) -> PackedLog:
    """The log as the protocol sees it.

    Raises SeqrecError where the log lacks what the protocol needs, or nobody can be evaluated. `verify`: a view that is
    there is read through.
    """
    refuse_more_than_all(log, cfg.candidates)
    _say_unread_sessions(log, cfg, say)
    fingerprint = _fingerprint(log, cfg.model_dump(mode="json"))
    log = reordered(log, cfg.ties, seed=cfg.seed)
    folder = None if log.folder is None else log.folder / store.FOLDER / f"{cfg.name}-{fingerprint[:DIGITS]}"
    view = None if folder is None else store.read(folder, log, verify=verify)
    if view is None:
        identity = {"fingerprint": fingerprint, "former_fingerprint": former_fingerprint(log, cfg)}
        if folder is None or log.folder is None:
            view = _made(log, cfg, identity, say=say)
        else:
            with one_builder(log.folder, say):
                view = store.read(folder, log)  # another process may have been first
                if view is None:
                    view = _made(log, cfg, identity, say=say)
                    store.write(view, folder)
                    view = store.read(folder, log) or view
    return replace(log, view=view)


def without_split(log: PackedLog, cfg: ProtocolConfig) -> PackedLog:
    """The log in the protocol's order and with its rule for seen items, all events read and none held out: whom to
    recommend to needs no targets, so histories of one event and catalogs that leave no negatives will do."""
    log = reordered(log, cfg.ties, seed=cfg.seed)
    nothing = np.zeros(0, np.int64)
    targets = Targets.next_events(nothing, nothing)
    return replace(log, view=View(np.asarray(log.offsets_U1)[1:], targets, targets, {}, cfg.seen, cfg.candidates))


def _made(log: PackedLog, cfg: ProtocolConfig, identity: dict[str, Any], *, say: Say) -> View:
    view = _make(log, cfg, identity)
    for note in view.manifest["notes"]:
        say(note)
    return view


def _say_unread_sessions(log: PackedLog, cfg: ProtocolConfig, say: Say) -> None:
    column = log.manifest.get("settings", {}).get("session_column")
    if column is not None and getattr(cfg, "by", None) != "column":
        say(f"dataset.session_column={column} is not read here: protocol=sessions protocol.by=column does")


def with_candidates(log: PackedLog, candidates: str) -> PackedLog:
    """The log as a protocol sees it that differs from the log's own in what targets are ranked among."""
    assert log.view is not None
    refuse_more_than_all(log, candidates)
    manifest = log.view.manifest
    settings = manifest["settings"] | {"candidates": candidates}
    changed = manifest | {"settings": settings, "fingerprint": _fingerprint(log, settings)}
    return replace(log, view=replace(log.view, candidates=candidates, manifest=changed))


def refuse_more_than_all(log: PackedLog, candidates: str) -> None:
    """Raises SeqrecError where more candidates are to be sampled than there are items."""
    _, _, count = candidates.partition(":")
    if count and int(count) >= log.num_items:
        raise SeqrecError(
            f"candidates={candidates}: the data have {log.num_items:,} items in all; sample fewer, or use full"
        )


def _fingerprint(log: PackedLog, settings: dict[str, Any]) -> str:
    """Of the data, the protocol, and what requests are told of their target's time."""
    identity = {"log": log.manifest["fingerprint"], "protocol": settings, "format": FORMAT}
    identity |= {"time_context": list(log.time_context)} if log.time_context else {}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _make(log: PackedLog, cfg: ProtocolConfig, identity: dict[str, Any]) -> View:
    module = code_of("protocol", cfg.name)
    split: Split = module.hold_out(cfg, log)
    trained_V = _trained_items(log, split.train_U)
    targets: dict[HeldOut, Targets] = {}
    facts: dict[str, dict[str, Any]] = {}
    notes = list(split.notes)
    for name, held in zip(SPLITS, (split.val, split.test), strict=True):
        targets[name], facts[name] = _without_repeats(log, held, cfg)
        facts[name] |= _counts(log, targets[name], split.train_U, trained_V=trained_V)
        if not len(targets[name].rows_R):
            raise SeqrecError(_nobody(log, cfg, split=name, counts=facts[name]))
        if facts[name]["left_out_repeats"]:
            notes.append(
                f"{name}: {facts[name]['left_out_repeats']:,} of {facts[name]['held_out_targets']:,} targets repeat an "
                "item of their history and are left out (protocol.seen=keep ranks them)"
            )
    clicks = split.clicks
    if clicks is None:
        clicks = candidates.held_out_candidates(cfg, log, targets)
    else:  # its own rows, of the requests that are left
        clicks = {name: _rows_left(cfg, rows, targets.get(name)) for name, rows in clicks.items()}  # type: ignore[call-overload]
    refuse_single_class(clicks, num_items=log.num_items if split.clicks is None else None)
    notes += _notes(log, cfg, targets["test"], rows=clicks["test"])
    manifest = identity | {
        "name": cfg.name,
        "settings": cfg.model_dump(mode="json"),
        "held_out": module.HELD_OUT,
        "targets": {name: text.format(**cfg.model_dump()) for name, text in module.TARGETS.items()},
        "click_candidates": getattr(module, "CANDIDATES", candidates.CANDIDATES).format(
            negatives=candidates.NEGATIVES[cfg.seen]
        ),
        "splits": facts,
        "cut_times": split.cut_times,
        "training_events": int((split.train_U - np.asarray(log.offsets_U1)[:-1]).sum()),
        "notes": notes,
        TIED: {name: targets_in_ties(log, targets[name]) for name in SPLITS},
    }
    return View(split.train_U, targets["val"], targets["test"], clicks, cfg.seen, cfg.candidates, manifest)


def _trained_items(log: PackedLog, train_U: np.ndarray) -> np.ndarray:
    """True for items with a training event, [V + 1]."""
    trained_V = np.zeros(log.num_items + 1, bool)
    starts_U = np.asarray(log.offsets_U1)[:-1]
    for users, _ in user_blocks(log.offsets_U1):
        trained_V[np.asarray(log.items_N)[ragged_ranges(starts_U[users], (train_U - starts_U)[users])]] = True
    return trained_V


def _without_repeats(log: PackedLog, targets: Targets, cfg: ProtocolConfig) -> tuple[Targets, dict[str, Any]]:
    """The targets that count, and how many repeat an item of their history.

    Of a request's equal targets the first counts. Where seen items leave the candidates, a repeated target would be
    told from the others by its history alone, so it is left out.
    """
    items_T, requests_T = np.asarray(log.items_N)[targets.positions_T], targets.requests_T
    once_T = np.zeros(len(items_T), bool)
    keys_T = requests_T * np.int64(log.num_items + 1) + items_T
    once_T[np.unique(keys_T, return_index=True)[1]] = True
    repeated_T = _in_history(log, targets.rows_R[requests_T], items_T, ends_T=targets.ends_R[requests_T])
    repeats = int((repeated_T & once_T).sum())
    counts = {"held_out_targets": int(once_T.sum()), "repeated_targets": repeats}
    counts["left_out_repeats"] = repeats if cfg.seen == "remove" else 0
    return targets.only(once_T & ~repeated_T if cfg.seen == "remove" else once_T), counts


def _in_history(log: PackedLog, rows_T: np.ndarray, items_T: np.ndarray, *, ends_T: np.ndarray) -> np.ndarray:
    """True where the user met the item before the position, [T]; `rows_T` rise. Only those users' events are read, a
    block of them at a time."""
    found_T = np.zeros(len(rows_T), bool)
    for users, _ in user_blocks(log.offsets_U1):
        first, last = np.searchsorted(rows_T, (users.start, users.stop))
        if last > first:
            block = slice(first, last)
            found_T[block] = _in_histories(log, rows_T[block], items_T[block], ends_T=ends_T[block])
    return found_T


def _in_histories(log: PackedLog, rows_T: np.ndarray, items_T: np.ndarray, *, ends_T: np.ndarray) -> np.ndarray:
    wanted_U = np.unique(rows_T)
    starts_U = np.asarray(log.offsets_U1)[wanted_U]
    lengths_U = np.asarray(log.offsets_U1)[wanted_U + 1] - starts_U
    positions_N = ragged_ranges(starts_U, lengths_U)
    width = np.int64(log.num_items + 1)
    keys_N = np.repeat(wanted_U, lengths_U) * width + np.asarray(log.items_N)[positions_N]
    keys, first_N = np.unique(keys_N, return_index=True)  # the first of equal keys, in order of position
    at_T = np.searchsorted(keys, rows_T * width + items_T)  # every target is an event, so it is there
    found: np.ndarray = positions_N[first_N[at_T]] < ends_T
    return found


def _counts(log: PackedLog, targets: Targets, train_U: np.ndarray, *, trained_V: np.ndarray) -> dict[str, Any]:
    cold_U = train_U == np.asarray(log.offsets_U1)[:-1]
    items_T = np.asarray(log.items_N)[targets.positions_T]
    return {
        "requests": len(targets.rows_R),
        "targets": len(items_T),
        "users": len(np.unique(targets.rows_R)),
        "requests_of_cold_users": int(cold_U[targets.rows_R].sum()),
        "cold_targets": int((~trained_V[items_T]).sum()),
    }


def _rows_left(cfg: ProtocolConfig, rows: LabelledRows, targets: Targets | None) -> LabelledRows:
    """Labelled rows whose targets count. Logged impressions stay: items shown may be seen ones, clicked or not."""
    if targets is None or cfg.needs_impressions:
        return rows
    return rows.at(np.isin(rows.ends_R, targets.ends_R))


def _nobody(log: PackedLog, cfg: ProtocolConfig, *, split: HeldOut, counts: dict[str, Any]) -> str:
    if counts["left_out_repeats"]:
        return (
            f"protocol={cfg.name}: every target of {split} repeats an item of its history, and protocol.seen=remove "
            "leaves those out; use protocol.seen=keep"
        )
    removed = any(row["removed_events"] for row in log.manifest.get("filters", [])[1:])
    filtered = " after the filters" * removed
    if cfg.needs_impressions:
        return f"no user has {MIN_EVENTS} requests or more{filtered}, so nobody can be evaluated"
    if cfg.needs_times:
        assert log.times_N is not None
        if len(log.times_N) and log.times_N.min() == log.times_N.max():
            return f"protocol={cfg.name}: all events have one and the same time; use protocol=leave_last"
        if cfg.name == "sessions":
            return f"protocol=sessions: no session of {split} has two events; raise protocol.gap, or move protocol.cut"
        return f"protocol={cfg.name}: no event of {split} has a history before it; move protocol.cut to another moment"
    longest = int(np.diff(log.offsets_U1).max(initial=0))
    if longest >= MIN_EVENTS and hasattr(cfg, "k"):
        return (
            f"protocol={cfg.name}: nobody has the 2 k + 1 = {2 * cfg.k + 1} events that protocol.k={cfg.k} needs (the "
            f"longest history has {longest}); lower protocol.k"
        )
    return f"no user has {MIN_EVENTS} events or more{filtered}, so nobody can be evaluated"


def _notes(log: PackedLog, cfg: ProtocolConfig, targets: Targets, *, rows: LabelledRows) -> list[str]:
    found = []
    if not cfg.needs_impressions:
        without = 0
        for block in row_blocks(*rows.items_RC.shape):
            without += int(((rows.labels_RC[block] > 0) | (rows.items_RC[block] == 0)).all(axis=1).sum())
        if without:
            found.append(f"{without} evaluated users saw every item and have no click negatives")
    lengths_U = np.diff(log.offsets_U1)
    if cfg.name in ("leave_last", "positions") and (short := int((lengths_U < MIN_EVENTS).sum())):
        found.append(f"{short} users have under {MIN_EVENTS} events: they only train")
    elif not cfg.splits_users and (only := log.num_users - len(np.unique(targets.rows_R))):
        found.append(f"{only:,} users have no test target")
    return found


def refuse_single_class(clicks: dict[str, LabelledRows], *, num_items: int | None = None) -> None:
    """Raises SeqrecError when a split's labels are all positive or all negative: no click metric could be computed.
    `num_items` is that of the log where the negatives are drawn."""
    for split, rows in clicks.items():
        positives = real = 0
        for block in row_blocks(*rows.items_RC.shape):
            real_BC = rows.items_RC[block] > 0
            real += int(np.count_nonzero(real_BC))
            positives += int(np.count_nonzero((rows.labels_RC[block] > 0) & real_BC))
        if positives in (0, real):
            only = "positive" if positives else "negative"
            if positives and num_items is not None:
                raise SeqrecError(
                    f"split={split}: every user has seen all {num_items:,} items, so there are no click negatives to "
                    "draw; give data with more items"
                )
            raise SeqrecError(
                f"all click labels of split={split} are {only}, so nothing is to be told apart; give data with both "
                "(users who have seen every item have no negatives)"
            )
