"""What a path names: one file, the parts of a folder or a glob, or members of a zip archive, in natural order.

`logs`, `logs/*.csv`, `logs.zip`, `logs.zip/ratings.csv`. Hidden files, `_SUCCESS` and its like, checksums and what does
not look like a table are skipped and said.
"""

import contextlib
import fnmatch
import functools
import glob
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.archive import DOWNLOADING, unpacked, whole
from seqrec_cli.data.remote import Address, RemoteFile, address, remote_files

PARQUET = {".parquet", ".pq"}
LINES = {".json", ".jsonl", ".ndjson"}
TEXT = {".csv", ".tsv", ".txt", ".dat", ".data", ".tab", ".psv", ".inter", ".item", ".user", ".log"}
PACKED = {".gz", ".bz2", ".zst", ".xz"}
NULL_KEY = "__HIVE_DEFAULT_PARTITION__"  # a null value in a folder's name
ROLES = {
    "train": 0,
    "training": 0,
    "valid": 1,
    "validation": 1,
    "val": 1,
    "dev": 1,
    "test": 2,
    "testing": 2,
}
Kind = Literal["text", "parquet", "lines"]


@dataclass(frozen=True)
class Part:
    """A file with rows of the table. `name` is its path below what all parts share, with slashes."""

    name: str
    file: Path | RemoteFile  # itself, or the zip archive that holds it
    member: str | None
    keys: tuple[tuple[str, str | None], ...]  # of the folders `key=value` it is in
    split: int | None = None  # 0 train, 1 valid, 2 test, of a log that comes split

    @property
    def label(self) -> str:
        """How messages call it."""
        return self.name if self.member is None else f"{self.file.name}/{self.name}"

    @property
    def ending(self) -> str:
        """What its name ends in, without that of a compression."""
        return _ending(self.name)

    @functools.cached_property
    def kind(self) -> Kind:
        """By its ending, else by its first bytes."""
        if self.ending in LINES:
            return "lines"
        if self.ending in PARQUET:
            return "parquet"
        magic = self.member is None and self.file.is_file() and _first_bytes(self.file) == b"PAR1"
        return "parquet" if magic else "text"

    @property
    def role(self) -> int | None:
        """0 where its name says that it trains, 1 that it validates, 2 that it tests; None where it says none of it."""
        words = re.split(r"[^a-z]+", re.sub(r"[^/]*=[^/]*/", "", self.name.lower()))
        found = {ROLES[word] for word in words if word in ROLES}
        return found.pop() if len(found) == 1 else None

    @property
    def on_disk(self) -> Path | None:
        """Its path where it is a file of its own that Arrow can open as it is."""
        return self.file if not self._packed and isinstance(self.file, Path) else None

    @property
    def _packed(self) -> bool:
        return self.member is not None or PurePosixPath(self.name).suffix.lower() == ".xz"

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """What can be read of it a piece at a time: its path, a file elsewhere, or its bytes where it is packed."""
        yield self.read() if self._packed else self.file

    @functools.cached_property
    def size(self) -> int:
        """Its bytes, as they lie there."""
        if self.member is None:
            return self.file.stat().st_size
        assert isinstance(self.file, Path)
        with whole(self.file), zipfile.ZipFile(self.file) as archive:
            return archive.getinfo(self.member).file_size if self.member in archive.namelist() else 0

    @property
    def is_empty(self) -> bool:
        """Whether it has no byte."""
        return self.size == 0

    def read(self) -> bytes:
        """Its bytes, decompressed. Raises SeqrecError where it is torn."""
        with whole(self.file):
            if self.member is None:
                data = self.file.read_bytes()
            else:
                assert isinstance(self.file, Path)
                with zipfile.ZipFile(self.file) as archive:
                    data = archive.read(self.member)
        return unpacked(data, self.label)


@dataclass(frozen=True)
class Parts:
    """The parts that a path names; `label` calls them all, `skipped` are the files that are no parts."""

    label: str
    parts: tuple[Part, ...]
    form: Literal["file", "folder", "zip", "members"]  # members: some of a zip archive
    skipped: tuple[str, ...] = ()

    def note(self) -> str | None:
        """What a person should know of it; None for one file."""
        if self.form == "file" or (self.form == "members" and len(self.parts) == 1):
            return None
        names = [part.name for part in self.parts]
        shown = names if len(names) < 4 else [names[0], "...", names[-1]]
        count = "1 file" if len(names) == 1 else f"{len(names):,} files"
        return f"{self.label}: {count} ({', '.join(shown)}){_skipped(self.skipped)}"


def located(archive: str, setting: str = "dataset.archive") -> Path | Address:
    """What a setting names: a path, a file:// address, or one that fsspec reads. Raises SeqrecError for others."""
    return address(archive, setting) or local_path(archive, setting)


def local_path(archive: str, setting: str = "dataset.archive") -> Path:
    """What a setting names: a path, or a file:// address. Raises SeqrecError for an address elsewhere."""
    if not archive.startswith("file://"):
        if re.match(r"[a-zA-Z][\w+.-]+://", archive):
            raise SeqrecError(
                f"{setting}={archive} is an address, not a file here; download it first and give its path"
                + f"; or set dataset.url={archive} instead, which is downloaded" * (setting == "dataset.archive")
            )
        return Path(archive).expanduser()
    from urllib.request import url2pathname  # on Windows file:///C:/x is C:\x

    return Path(url2pathname(urlsplit(archive).path)).expanduser()


def find(path: Path | Address, setting: str = "dataset.archive") -> Parts:
    """The parts. `setting` names the path in messages. Raises SeqrecError where there is none."""
    if isinstance(path, Address):
        return _elsewhere(path, setting)
    if path.is_file():
        return (
            _of_zip(path, None, setting)
            if _is_zip(path)
            else Parts(path.name, (Part(path.name, path, None, ()),), "file")
        )
    if path.is_dir():
        return _of_files(path, [file for file in path.rglob("*") if file.is_file()], setting, given=path)
    for parent in path.parents:
        if parent.is_file() and _is_zip(parent):
            return _of_zip(parent, path.relative_to(parent).as_posix(), setting)
    if glob.has_magic(str(path)):
        return _of_glob(path, setting)
    if path.is_symlink():
        raise SeqrecError(f"{setting}={path} is a link to {path.readlink()}, and there is no such file")
    if path.exists():
        raise SeqrecError(f"{setting}={path} is a pipe or a device, which is read twice; save its contents as a file")
    raise SeqrecError(f"{setting}={path}: there is no such file")


def _elsewhere(path: Address, setting: str) -> Parts:
    kind, files = remote_files(path, setting)
    if kind == "file":
        name, file = next(iter(files.items()))
        if _ending(name) == ".zip":
            raise SeqrecError(f"{setting}={path}: an archive is read where it lies here; download it and give its path")
        return Parts(name, (Part(name, file, None, ()),), "file")
    return _of_names(dict(files), setting, given=str(path), label=None, is_glob=kind == "glob")


def digest_of(parts: Parts, digest: Callable[[Path | RemoteFile], str]) -> object:
    """What of the parts counts in a fingerprint: their bytes, and unless it is one file, their names and order."""
    if parts.form in ("file", "zip"):
        return digest(parts.parts[0].file)
    if parts.form == "members":
        return [digest(parts.parts[0].file), *(part.name for part in parts.parts)]
    return [[part.name, digest(part.file)] for part in parts.parts]


def _is_zip(path: Path) -> bool:
    """By its ending or its first bytes; a workbook is one too, but no archive of tables."""
    ending = path.suffix.lower()
    return ending == ".zip" or (ending in TEXT | {""} and _first_bytes(path) == b"PK\x03\x04")


def _first_bytes(path: Path | RemoteFile) -> bytes:
    with whole(path), path.open("rb") as file:
        return file.read(4)


def _of_glob(path: Path, setting: str) -> Parts:
    found = [Path(name) for name in glob.glob(str(path), recursive=True)]
    if not found:
        raise SeqrecError(f"{setting}={path}: no file's name fits; is it quoted, and the folder right?")
    fixed = path.parts[: next(nth for nth, each in enumerate(path.parts) if glob.has_magic(each))]
    files = [file for each in found for file in (each.rglob("*") if each.is_dir() else [each]) if file.is_file()]
    return _of_files(Path(*fixed), list(dict.fromkeys(files)), setting, given=path)


def _of_files(root: Path, files: Sequence[Path], setting: str, *, given: Path) -> Parts:
    names: dict[str, Path | RemoteFile] = {file.relative_to(root).as_posix(): file for file in files}
    label = (given.name or str(given)) if given == root else None
    is_glob = glob.has_magic(str(given)) and not given.exists()
    return _of_names(names, setting, given=str(given), label=label, is_glob=is_glob)


def _of_names(
    names: dict[str, Path | RemoteFile], setting: str, *, given: str, label: str | None, is_glob: bool
) -> Parts:
    """The files by their names; `given` is how the setting has them, and what they are called where `label` is None."""
    found, skipped = _readable(names, all_names=set(names))
    if not found:
        what = f"no readable part{_skipped(skipped)}" if names else "no file"
        raise SeqrecError(f"{setting}={given} holds {what}; give a file, or a folder or glob of CSV, JSON or Parquet")
    parts = tuple(Part(name, names[name], None, _keys(name)) for name in found)
    _refuse_odd_folders(parts, given, is_glob=is_glob)
    return Parts(label or given, parts, "folder", tuple(skipped))


def _of_zip(path: Path, pattern: str | None, setting: str) -> Parts:
    with whole(path), zipfile.ZipFile(path) as archive:
        members = [info.filename for info in archive.infolist() if not info.is_dir()]
    members = [name for name in members if not name.startswith("__MACOSX/")]
    if pattern is not None:
        chosen = [name for name in members if pattern in (name, name.rpartition("/")[2])]
        chosen = chosen or [name for name in members if _fits(name, pattern)]
        if not chosen:
            held = ", ".join(members[:10])
            raise SeqrecError(f"{setting}={path}/{pattern}: {path.name} holds no {pattern} (has: {held})")
        found, skipped = (chosen, []) if pattern in chosen or len(chosen) == 1 else _readable(chosen, set(members))
        found = sorted(found, key=_natural)
    else:
        found, skipped = _readable(members, all_names=set(members))
    if not found:
        raise SeqrecError(f"{setting}={path} holds no readable part{_skipped(skipped)}")
    common = _common_folder(found)
    parts = tuple(Part(name[len(common) :], path, name, _keys(name)) for name in found)
    _refuse_odd_folders(parts, path, is_glob=pattern is not None)
    if pattern is None:
        return Parts(path.name, parts, "zip", tuple(skipped))
    return Parts(f"{path.name}/{pattern}", parts, "members", tuple(skipped))


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.rpartition("/")[2], pattern)


def _readable(names: Sequence[str] | dict[str, Path | RemoteFile], all_names: set[str]) -> tuple[list[str], list[str]]:
    """The names of parts, in natural order, and the others."""
    found: list[str] = []
    skipped: list[str] = []
    for name in sorted(names, key=_natural):
        hidden = any(piece[0] in "._" for piece in name.split("/"))
        note = name.removesuffix(".json") in all_names if name.endswith(".json") else False  # of a download
        table = _looks_like_a_table(name) and not name.endswith(DOWNLOADING) and not note
        (skipped if hidden or not table else found).append(name)
    return found, skipped


def _looks_like_a_table(name: str) -> bool:
    last = name.rpartition("/")[2]
    return _ending(last) in TEXT | PARQUET | LINES or bool(re.fullmatch(r"part-[\w-]+", last))


def _ending(name: str) -> str:
    endings = [ending.lower() for ending in PurePosixPath(name).suffixes[-2:]]
    return "".join([ending for ending in endings if ending not in PACKED][-1:])


def _natural(name: str) -> list[tuple[int, int, str]]:
    """part-2 before part-10."""
    pieces = re.split(r"([0-9]+)", name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece]


def _keys(name: str) -> tuple[tuple[str, str | None], ...]:
    folders = [folder.partition("=") for folder in name.split("/")[:-1] if "=" in folder]
    return tuple((unquote(key), None if value == NULL_KEY else unquote(value)) for key, _, value in folders)


def _refuse_odd_folders(parts: Sequence[Part], given: Path | str, *, is_glob: bool) -> None:
    """Folders in a folder are partitions (all by the same keys) or train, valid and test; a glob may name any."""
    first = parts[0]
    for part in parts:
        if [key for key, _ in part.keys] != [key for key, _ in first.keys]:
            raise SeqrecError(
                f"{given}: {first.name} and {part.name} are in folders of different keys; name files of one depth by a "
                "quoted glob"
            )
        plain = [folder for folder in part.name.split("/")[:-1] if "=" not in folder]
        if plain and not is_glob and any(folder.lower() not in ROLES for folder in plain):
            raise SeqrecError(
                f"{given} holds a folder {plain[0]}, and folders in it are read only where they are called KEY=VALUE "
                "(partitions) or train, valid and test; name the files by a quoted glob, as "
                f"'{given}/**/*{first.ending}'"
            )


def _common_folder(names: Sequence[str]) -> str:
    """The folders, with a last slash, that all names begin with, partitions left out."""
    common: list[str] = []
    for pieces in zip(*(name.split("/")[:-1] for name in names), strict=False):
        if len(set(pieces)) > 1 or "=" in pieces[0]:
            break
        common.append(pieces[0])
    return "".join(f"{piece}/" for piece in common)


def _skipped(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = list(dict.fromkeys(_kind_of_skipped(name) for name in names))
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"; skipped {len(names):,}: {', '.join(shown[:3])}{more}"


def _kind_of_skipped(name: str) -> str:
    last = name.rpartition("/")[2]
    return "*.crc" if last.endswith(".crc") else last
