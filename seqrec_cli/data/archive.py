"""The publisher's raw files: members of a zip archive, files of a folder, or one file by itself."""

import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from seqrec_cli.config.errors import SeqrecError, first_line
from seqrec_cli.data.file_kinds import compression
from seqrec_cli.data.remote import RemoteFile


def read_members(path: Path, *names: str) -> list[bytes]:
    """The bytes of members by file name, in any folder of the archive.

    Raises SeqrecError on a torn archive or a missing member.
    """
    with whole(path, "no zip archive", "delete it and run `seqrec download`, or "), zipfile.ZipFile(path) as archive:
        members = {member.rpartition("/")[2]: member for member in archive.namelist()}
        for name in names:
            if name not in members:
                raise SeqrecError(f"{path.name} holds no {name}; is it the archive of another dataset?")
        return [archive.read(members[name]) for name in names]


@contextlib.contextmanager
def whole(path: Path | RemoteFile, otherwise: str = "not what its name says", advice: str = "") -> Iterator[None]:
    """What unpacking raises, as one line."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise SeqrecError(
            f"{path} is torn or {otherwise} ({error}); {advice}set dataset.archive to a whole copy"
        ) from None


DOWNLOADING = (".part", ".lock", ".part.json")  # what an unfinished download keeps in a file's folder


def files_in(folder: Path) -> list[Path]:
    """The raw files of a folder, by name; without hidden ones and a download's own."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    notes = {f"{name}.json" for name in names}
    return [folder / name for name in sorted(names - notes) if name[0] != "." and not name.endswith(DOWNLOADING)]


class RawFiles:
    """The files of a folder or a zip archive, or the one file `path` is, by name (without their folders)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members: dict[str, str] = {}
        if path.is_dir():
            self.names = [file.name for file in files_in(path)]
        elif path.suffix.lower() == ".zip":
            with whole(self.path), zipfile.ZipFile(path) as archive:
                inside = [member for member in archive.namelist() if not member.endswith("/")]
            shown = [member for member in inside if not member.startswith("__MACOSX")]
            self._members = {member.rpartition("/")[2]: member for member in shown}
            self.names = sorted(self._members)
        else:
            self.names = [path.name]

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A file's bytes, decompressed where its name ends in .gz. Raises SeqrecError where it is torn."""
        with whole(self.path), contextlib.ExitStack() as stack:
            if self._members:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                file = cast(BinaryIO, stack.enter_context(archive.open(self._members[name])))
            else:
                file = stack.enter_context(self.path_of(name).open("rb"))
            yield cast(BinaryIO, stack.enter_context(gzip.open(file))) if name.endswith(".gz") else file

    def path_of(self, name: str) -> Path:
        """The path of a file that is in no zip archive."""
        return self.path / name if self.path.is_dir() else self.path


def unpacked(data: bytes, label: str) -> bytes:
    """What gzip, bzip2, zstd, lz4 or xz have compressed, by its first bytes; anything else as it is."""
    import pyarrow as pa

    kind = compression(data)
    try:
        if data.startswith(b"\xfd7zXZ"):  # which Arrow does not read
            return lzma.decompress(data)
        if kind is None:
            return data
        with pa.CompressedInputStream(pa.BufferReader(data), kind) as stream:
            return bytes(stream.read())
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        reason = first_line(error)
        raise SeqrecError(f"{label} cannot be read: torn or not what its name says ({reason})") from None
