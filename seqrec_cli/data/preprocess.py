"""`preprocess`: from a raw file to a packed log, built once and found again by its settings and bytes."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import code_of
from seqrec_cli.data.archive import files_in
from seqrec_cli.data.context import with_time_context
from seqrec_cli.data.download import fetch, local_file
from seqrec_cli.data.interactions import FORMAT, PackedLog
from seqrec_cli.data.item_vectors import vectors_file, with_item_vectors
from seqrec_cli.data.pack import Ids, Say, pack
from seqrec_cli.data.raw import RawLog
from seqrec_cli.data.vocabulary import write_vocabulary
from seqrec_cli.files import atomic_folder, write_atomically

HASHES = "raw-hashes.json"
DIGITS = 8


def prepare(cfg: DatasetConfig, data_dir: Path, say: Say) -> PackedLog:
    """The packed log of a dataset, built first where it is missing (and its raw file fetched).

    Raises SeqrecError on bad input; a dataset that is already built is left as it is.
    """
    return with_time_context(_prepared(cfg, data_dir, say), cfg.time_context)


def _prepared(cfg: DatasetConfig, data_dir: Path, say: Say) -> PackedLog:
    values = {name: getattr(cfg, name) for name in cfg.came_later}
    unset = {name for name, value in values.items() if value is None or value is False or value == ()}  # 0 is a column
    settings = cfg.model_dump(mode="json", exclude=set(cfg.not_in_fingerprint) | unset)
    vectors = vectors_file(cfg.item_vectors)
    if vectors is not None:
        settings["item_vectors"] = _raw_hash(vectors, data_dir)
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
    log, ids = pack(cfg, raw, identity, say=say)
    if vectors is not None:
        log = with_item_vectors(log, ids.items, vectors, say=say)
    _publish(log, raw, ids, folder=folder)
    say(f"{folder} is built: {log.num_users:,} users, {log.num_items:,} items, {len(log.items_N):,} events")
    return _open(folder)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _raw_hash(path: Path, data_dir: Path) -> str:
    """SHA-256 of a raw file, remembered by its path, size and time of change; of a folder, by its files' names too."""
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


def _publish(log: PackedLog, raw: RawLog, ids: Ids, *, folder: Path) -> None:
    """Write the dataset's folder whole; of two processes that build the same one, the second takes the first's."""
    try:
        with atomic_folder(folder) as temporary:
            log.save(temporary)
            write_vocabulary(temporary, "items", ids.items, titles=raw.titles)
            write_vocabulary(temporary, "users", ids.users)
    except OSError as error:
        if (folder / "manifest.json").exists():
            return
        if folder.exists():
            raise SeqrecError(f"{folder} stands in the way and is no dataset; delete it") from None
        raise SeqrecError(f"cannot write {folder}: {error.strerror or error}; see data_dir") from None
