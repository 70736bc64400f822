"""`preprocess`: from a raw file to a packed log, built once and found again by its settings and bytes.

Legend: N raw events, K events that pass the filters, U users, F context attributes.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import code_of
from seqrec_cli.data.archive import files_in
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.clicks import BY_USER, WORDS, fixed
from seqrec_cli.data.context import with_time_context
from seqrec_cli.data.download import fetch, local_file
from seqrec_cli.data.filters import apply_filters
from seqrec_cli.data.interactions import FORMAT, PackedLog
from seqrec_cli.data.raw import RawLog
from seqrec_cli.data.requests import labelled_requests
from seqrec_cli.data.splits import MIN_EVENTS
from seqrec_cli.data.vocabulary import encode_attribute, factorize, write_vocabulary
from seqrec_cli.files import atomic_folder, write_atomically

Say = Callable[[str], None]
HASHES = "raw-hashes.json"
DIGITS = 8


def prepare(cfg: DatasetConfig, data_dir: Path, say: Say) -> PackedLog:
    """The packed log of a dataset, built first where it is missing (and its raw file fetched).

    Raises SeqrecError on bad input; a dataset that is already built is left as it is.
    """
    return with_time_context(_prepared(cfg, data_dir, say), cfg.time_context)


def _prepared(cfg: DatasetConfig, data_dir: Path, say: Say) -> PackedLog:
    settings = cfg.model_dump(mode="json", exclude=set(cfg.not_in_fingerprint))
    settings_hash = _digest(settings | {"format": FORMAT})
    label = f"{cfg.name}-{settings_hash[:DIGITS]}"
    path = local_file(cfg, data_dir)
    if path is None and not cfg.raw_is_generated:
        ready = sorted(data_dir.glob(f"{label}-*/manifest.json"), key=lambda manifest: manifest.stat().st_mtime)
        if ready:
            say(f"{ready[-1].parent} is ready: nothing to do (there is no raw file to compare)")
            return _open(ready[-1].parent)
        path = fetch(cfg, data_dir, say)
    raw_hash = None if path is None else _raw_hash(path, data_dir)
    folder = data_dir / f"{label}-{raw_hash[:DIGITS] if raw_hash else 'generated'}"
    if (folder / "manifest.json").exists():
        say(f"{folder} is ready: nothing to do")
        return _open(folder)
    identity = {
        "fingerprint": _digest({"raw": raw_hash, "settings": settings_hash}),
        "settings": settings,
        "raw_sha256": raw_hash,
    }
    raw: RawLog = code_of("dataset", cfg.source).read(cfg, path)
    log, ids = _pack(cfg, raw, identity, say)
    _publish(log, raw, ids, folder)
    say(f"{folder} is built: {log.num_users:,} users, {log.num_items:,} items, {len(log.items_N):,} events")
    return _open(folder)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _raw_hash(path: Path, data_dir: Path) -> str:
    """SHA-256 of a raw file, remembered by its place, size and time of change; of a folder, by its files' names too."""
    if path.is_dir():
        return _digest([[file.name, _raw_hash(file, data_dir)] for file in files_in(path)])
    stat, cache = path.stat(), data_dir / HASHES
    key = f"{os.path.realpath(path)}|{stat.st_size}|{stat.st_mtime_ns}"
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if key not in known:
        with path.open("rb") as file:
            known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        data_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps(known, indent=2))
    return str(known[key])


def _open(folder: Path) -> PackedLog:
    try:
        return PackedLog.open(folder)
    except (OSError, ValueError, KeyError) as error:
        raise SeqrecError(f"{folder} is damaged ({error}); delete it, and it is built again") from None


def _pack(
    cfg: DatasetConfig, raw: RawLog, identity: dict[str, Any], say: Say
) -> tuple[PackedLog, dict[str, np.ndarray]]:
    """Filter, encode, sort and split: the log in memory, and the raw ids of its `items` and `users`."""
    all_users, users_N = factorize(raw.users_N)
    shown = raw.impressions.shown_S if cfg.protocol.startswith("impressions") and raw.impressions else raw.items_N[:0]
    all_items, coded = factorize(np.concatenate([raw.items_N, shown]) if len(shown) else raw.items_N)
    items_N, shown_S = coded[: len(raw.items_N)], coded[len(raw.items_N) :]
    kept_K, counts = apply_filters(cfg, raw, users_N, items_N)
    for row in counts[1:]:
        if row["removed_events"]:
            gone = ", ".join(f"{row[f'removed_{kind}']:,} {kind}" for kind in ("events", "users", "items"))
            say(f"{row['filter']} removed {gone}")
    user_codes, rows_K = factorize(users_N[kept_K])
    item_codes, items_K = factorize(np.concatenate([items_N[kept_K], shown_S]))
    items_K, shown_S = items_K[: len(kept_K)], items_K[len(kept_K) :] + 1
    ids = {"users": all_users[user_codes], "items": all_items[item_codes]}
    if len(item_codes) < 2:
        raise SeqrecError(f"only {len(item_codes)} item is left after the filters; ranking needs two or more")

    # A stable sort: events of equal time stay in the order of the file.
    times_K = None if raw.times_N is None else raw.times_N[kept_K]
    order_K = np.argsort(rows_K, kind="stable") if times_K is None else np.lexsort((times_K, rows_K))
    rows_K, items_K = rows_K[order_K], (items_K[order_K] + 1).astype(np.int32)
    offsets_U1 = np.searchsorted(rows_K, np.arange(len(user_codes) + 1)).astype(np.int64)
    ties = 0
    if times_K is not None:
        times_K = times_K[order_K]
        ties = int(np.count_nonzero((np.diff(times_K) == 0) & (np.diff(rows_K) == 0)))
        times_K = times_K // raw.ticks_per_second

    requests = None
    if len(shown_S):
        assert raw.impressions is not None
        positions_N = np.full(len(raw.items_N), -1, np.int64)
        positions_N[kept_K[order_K]] = np.arange(len(order_K))
        requests = labelled_requests(raw.impressions, shown_S, positions_N, rows_K, items_K)
    ends, clicks = fixed(cfg, offsets_U1, items_K, len(item_codes), requests)
    evaluated = len(ends.targets("test")[0])
    if not evaluated or not len(ends.targets("val")[0]):
        what = "requests" if requests else "events"
        raise SeqrecError(f"no user has {MIN_EVENTS} {what} or more after the filters, so nobody can be evaluated")
    without = 0 if requests else int((clicks["test"].items_RC == 0).any(axis=1).sum())
    notes = list(raw.notes)
    if without:
        notes.append(f"{without} evaluated users saw every item and have no click negatives")
    short = 0 if BY_USER[cfg.protocol] else len(user_codes) - evaluated
    if short:
        notes.append(f"{short} users have under {MIN_EVENTS} {'requests' if requests else 'events'}: they only train")
    for note in notes:
        say(note)

    item_attributes = [encode_attribute(name, of, ids["items"]) for name, of in raw.item_attributes.items()]
    user_attributes = [encode_attribute(name, of, ids["users"]) for name, of in raw.user_attributes.items()]
    whole = counts[-1]["events"] == counts[0]["events"]  # else the process did not make these histories
    manifest = identity | {
        "source": cfg.source,
        "filters": counts,
        "order": "by time; equal times in file order (stable sort)" if raw.times_N is not None else "file order",
        "equal_times": ties,
        "split": WORDS[cfg.protocol][0],
        "evaluated_users": evaluated,
        "users_too_short": short,
        "click_candidates": WORDS[cfg.protocol][1],
        "users_without_negatives": without,
        "notes": notes,
        "item_attribute_values": {attribute.name: texts for attribute, _, texts in item_attributes},
        "user_attribute_values": {attribute.name: texts for attribute, _, texts in user_attributes},
        "context_values": {name: texts for name, (_, texts) in raw.context.items()},
        "process": raw.process if whole and cfg.protocol != "last" else None,  # whose law knows no popular negatives
    }
    catalog = Catalog(
        len(user_codes),
        len(item_codes),
        tuple(attribute for attribute, _, _ in item_attributes),
        tuple(attribute for attribute, _, _ in user_attributes),
        {attribute.name: values for attribute, values, _ in item_attributes},
        {attribute.name: values for attribute, values, _ in user_attributes},
        tuple(Attribute(name, len(texts) + 1, 1) for name, (_, texts) in raw.context.items()),
    )
    context = [codes_N[kept_K][order_K] + 1 for codes_N, _ in raw.context.values()]
    context_KF = np.stack(context, axis=1).astype(np.int32) if context else None
    ratings_K = None if raw.ratings_N is None else raw.ratings_N[kept_K][order_K]
    stored = None if cfg.protocol in ("leave_last", "positions") else ends
    return PackedLog(offsets_U1, items_K, times_K, ratings_K, catalog, clicks, manifest, context_KF, stored), ids


def _publish(log: PackedLog, raw: RawLog, ids: dict[str, np.ndarray], folder: Path) -> None:
    """Write the dataset's folder whole; of two processes that build the same one, the second takes the first's."""
    try:
        with atomic_folder(folder) as temporary:
            log.save(temporary)
            write_vocabulary(temporary, "items", ids["items"], raw.titles)
            write_vocabulary(temporary, "users", ids["users"])
    except OSError as error:
        if (folder / "manifest.json").exists():
            return
        if folder.exists():
            raise SeqrecError(f"{folder} stands in the way and is no dataset; delete it") from None
        raise SeqrecError(f"cannot write {folder}: {error.strerror or error}; see data_dir") from None
