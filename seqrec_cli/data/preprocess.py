"""`preprocess`: from a raw file to a packed log, built once and found again by its settings and bytes."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import code_of
from seqrec_cli.data.archive import files_in
from seqrec_cli.data.context import with_time_context
from seqrec_cli.data.download import fetch, local_file
from seqrec_cli.data.integrity import DamagedError, damaged, seal
from seqrec_cli.data.interactions import FORMAT, PackedLog
from seqrec_cli.data.item_texts import text_identity, with_text_vectors
from seqrec_cli.data.item_vectors import vectors_file, with_item_vectors
from seqrec_cli.data.large.choose import large_room
from seqrec_cli.data.pack import pack
from seqrec_cli.data.parts import digest_of, find, located
from seqrec_cli.data.raw import RawLog
from seqrec_cli.data.remote import Address, RemoteFile
from seqrec_cli.data.turned import TOLD
from seqrec_cli.data.vocabulary import write_vocabulary
from seqrec_cli.faults import in_words
from seqrec_cli.files import atomic_folder, one_builder, sweep_once, write_atomically
from seqrec_cli.saying import Say

HASHES = "raw-hashes.json"
DIGITS = 8


def prepare(cfg: DatasetConfig, data_dir: Path, say: Say, *, verify: bool = False) -> PackedLog:
    """The packed log of a dataset, built first where it is missing (and its raw file fetched).

    Raises SeqrecError on bad input; a dataset that is already built is left as it is. `verify`: its bytes are read
    through though this machine has done so before.
    """
    if cfg.predict == "users":
        say(TOLD)
    return with_time_context(_prepared(cfg, data_dir, say, verify=verify), cfg.time_context)


def _prepared(cfg: DatasetConfig, data_dir: Path, say: Say, *, verify: bool) -> PackedLog:
    if data_dir.exists() and not data_dir.is_dir():
        raise SeqrecError(f"data_dir={data_dir} is a file; name a folder, which is made where there is none")
    sweep_once(data_dir)
    settings, label = _settings(cfg, data_dir)
    path = local_file(cfg, data_dir)
    if path is None and not cfg.raw_is_generated:
        ready = _ready(data_dir, label)
        if ready and cfg.urls:
            say(f"{ready[-1]} is ready: nothing to do (there is no raw file to compare)")
            return _open(ready[-1], settings, verify=verify)
        path = fetch(cfg, data_dir, say)
    raw_hash = None if path is None else _raw_hash(path, data_dir, "archive" if cfg.in_parts else None)
    folder = data_dir / f"{label}-{raw_hash[:DIGITS] if raw_hash else 'generated'}"
    if not (folder / "manifest.json").exists():
        with one_builder(folder, say):
            if not (folder / "manifest.json").exists():  # another process may have been first
                identity = {
                    "fingerprint": _identity(settings, raw_hash),
                    "settings": settings,
                    "raw_sha256": raw_hash,
                }
                return _built(cfg, path, folder, identity=identity, say=say)
    say(f"{folder} is ready: nothing to do")
    return _open(folder, settings, verify=verify)


def _built(
    cfg: DatasetConfig, path: Path | Address | None, folder: Path, *, identity: dict[str, Any], say: Say
) -> PackedLog:
    work = folder.with_name(f".{folder.name}.work")
    room = None if path is None else large_room(cfg, path, say)
    if room is None or path is None:
        raw: RawLog = code_of("dataset", cfg.source).read(cfg, path)
        log, ids = pack(cfg, raw, identity, say=say)
        items, vocabulary = ids.items, Vocabulary(ids.users, ids.items, raw.titles)
    else:
        from seqrec_cli.data.large.build import pack_large
        from seqrec_cli.data.large.room import ShortageError

        try:
            log, found = pack_large(cfg, path, identity, work=work, room=room, say=say)  # type: ignore[arg-type]
        except ShortageError:
            raise
        except SeqrecError:
            shutil.rmtree(work, ignore_errors=True)  # mended files or other settings are another log
            raise
        items, vocabulary = found.items, Vocabulary(*found)
    vectors = vectors_file(cfg.item_vectors)
    if vectors is not None:
        log = with_item_vectors(log, items, vectors, say=say)
    if cfg.item_text is not None:
        log = with_text_vectors(log, cfg, items, titles=vocabulary.titles, say=say)
    _publish(log, vocabulary, folder)
    shutil.rmtree(work, ignore_errors=True)
    say(f"{folder} is built: {log.num_users:,} users, {log.num_items:,} items, {len(log.items_N):,} events")
    return _open(folder, identity["settings"], verify=False)


def fingerprint_of(cfg: DatasetConfig, data_dir: Path) -> str | None:
    """The fingerprint that the packed log has, or will have; None while its raw file is not here."""
    settings, label = _settings(cfg, data_dir)
    path = local_file(cfg, data_dir)
    if path is None and not cfg.raw_is_generated:
        ready = _ready(data_dir, label)
        return str(PackedLog.open(ready[-1]).fingerprint) if ready and cfg.urls else None
    return _identity(settings, None if path is None else _raw_hash(path, data_dir, "archive" if cfg.in_parts else None))


def _settings(cfg: DatasetConfig, data_dir: Path) -> tuple[dict[str, Any], str]:
    """The settings that a packed log is made by, and how its folder's name begins."""
    values = {name: getattr(cfg, name) for name in cfg.came_later}
    unset = {name for name, value in values.items() if value is None or value is False or value == ()}  # 0 is a column
    unset |= {name for name, value in cfg.as_before.items() if getattr(cfg, name) == value}
    settings = cfg.model_dump(mode="json", exclude=set(cfg.not_in_fingerprint) | unset)
    settings |= {name: _raw_hash(file, data_dir, name) for name, file in cfg.other_files.items()}
    vectors = vectors_file(cfg.item_vectors)
    if vectors is not None:
        settings["item_vectors"] = _raw_hash(vectors, data_dir)
    if made := text_identity(cfg, data_dir, lambda files: _file_hashes(files, data_dir)):
        settings["item_text"] = made
    return settings, f"{cfg.name}-{_digest(settings | {'format': FORMAT})[:DIGITS]}"


def _identity(settings: dict[str, Any], raw_hash: str | None) -> str:
    return _digest({"raw": raw_hash, "settings": _digest(settings | {"format": FORMAT})})


def _ready(data_dir: Path, label: str) -> list[Path]:
    """Folders of these settings that are built, whatever their raw file was; the latest last."""
    found = data_dir.glob(f"{label}-*/manifest.json")
    return [path.parent for path in sorted(found, key=lambda manifest: manifest.stat().st_mtime)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _raw_hash(path: Path | Address | str, data_dir: Path, in_parts: str | None = None) -> str:
    """SHA-256 of a raw file; of a folder, by its files' names too. Where the path may name parts of a table (a glob,
    some of a zip archive), `in_parts` is the setting that gave it."""
    if in_parts is not None:
        parts = find(located(str(path), f"dataset.{in_parts}"), f"dataset.{in_parts}")
        known = _file_hashes([part.file for part in parts.parts], data_dir)
        told = digest_of(parts, known.__getitem__)
        return told if isinstance(told, str) else _digest(told)
    path = Path(str(path))
    if path.is_dir():
        files = files_in(path)
        known = _file_hashes(files, data_dir)
        return _digest([[file.name, known[file]] for file in files])
    return _file_hashes([path], data_dir)[path]


def _file_hashes(paths: Sequence[Path | RemoteFile], data_dir: Path) -> dict[Path | RemoteFile, str]:
    """SHA-256 of files, remembered by their path, size and time of change."""
    cache = data_dir / HASHES
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    found: dict[Path | RemoteFile, str] = {}
    before = len(known)
    for path in dict.fromkeys(paths):
        if isinstance(path, RemoteFile):
            key = f"{path}|{path.size}|{path.version}"
        else:
            stat = path.stat()
            key = f"{os.path.realpath(path)}|{stat.st_size}|{stat.st_mtime_ns}"
        if key not in known:
            with path.open("rb") as file:
                known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        found[path] = str(known[key])
    if len(known) > before:
        data_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps(known, indent=2))
    return found


def _open(folder: Path, settings: dict[str, Any], *, verify: bool) -> PackedLog:
    try:
        log = PackedLog.open(folder, verify=verify)
        if log.manifest["settings"] != settings:
            raise DamagedError("its manifest is another log's")
    except Exception as error:  # bytes from outside: numpy raises a dozen kinds
        raise damaged(folder, error) from None
    return log


class Vocabulary(NamedTuple):
    """Raw ids and titles, as `write_vocabulary` takes them."""

    users: Any
    items: Any
    titles: Any


def _publish(log: PackedLog, vocabulary: Vocabulary, folder: Path) -> None:
    """Write the dataset's folder whole; of two processes that build the same one, the second takes the first's."""
    try:
        with atomic_folder(folder) as temporary:
            log.save(temporary)
            write_vocabulary(temporary, "items", vocabulary.items, titles=vocabulary.titles)
            write_vocabulary(temporary, "users", vocabulary.users)
            seal(temporary)
    except OSError as error:
        if (folder / "manifest.json").exists():
            return
        if folder.exists():
            raise SeqrecError(f"{folder} stands in the way and is no dataset; delete it") from None
        raise SeqrecError(f"cannot write {in_words(error, folder) or f'{folder}: {error}'} (data_dir=FOLDER)") from None
