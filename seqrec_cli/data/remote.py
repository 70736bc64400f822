"""Raw files elsewhere, by any address that fsspec knows (s3://, gs://, memory://, ...); read a piece at a time.

Nothing of it is imported unless a setting names such an address.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seqrec_cli.config.errors import SeqrecError, first_line

ADDRESS = re.compile(r"[a-zA-Z][\w+.-]+://")
OURS = ("file", "http", "https")  # read as local files, or downloaded


@dataclass(frozen=True)
class Address:
    """Where something lies that is no local file."""

    text: str

    def __str__(self) -> str:
        return self.text


def address(archive: str, setting: str) -> Address | None:
    """What a setting names, where it is elsewhere; None for a path. Raises SeqrecError where it cannot be read."""
    if not ADDRESS.match(archive) or archive.split("://")[0].lower() in OURS:
        return None
    _file_system(archive, setting)
    return Address(archive)


class Stat(NamedTuple):
    """What of a file's state is known elsewhere."""

    st_size: int


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere; it can be asked what a path can."""

    system: Any
    path: str
    size: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def __str__(self) -> str:
        return str(self.system.unstrip_protocol(self.path))

    def is_file(self) -> bool:
        return True

    def stat(self) -> Stat:
        return Stat(self.size)

    def open(self, mode: str = "rb") -> Any:
        """A file object with random access, which fetches what is read."""
        with _as_os_errors():
            return self.system.open(self.path, mode)

    def read_bytes(self) -> bytes:
        with _as_os_errors(), self.system.open(self.path, "rb") as file:
            return bytes(file.read())

    @property
    def version(self) -> str:
        """What changes with its bytes: size, time and tag, as far as the system tells them."""
        with _as_os_errors():
            return str(self.system.ukey(self.path))


def remote_files(where: Address, setting: str) -> tuple[str, dict[str, RemoteFile]]:
    """What kind of thing lies there (`file`, `folder` or `glob`), and its files by name below what they share.

    Raises SeqrecError where there is nothing, or it may not be read.
    """
    system, path = _file_system(where.text, setting)
    try:
        if any(mark in path for mark in "*?["):
            kind, found = "glob", system.glob(path, detail=True)
            fixed = re.split(r"[*?\[]", path)[0].rpartition("/")[0]
        elif system.isfile(path):
            kind, found, fixed = "file", {path: system.info(path)}, path.rpartition("/")[0]
        else:
            kind, found, fixed = "folder", system.find(path, detail=True), path.rstrip("/")
        if kind == "glob":  # folders among what fits are read with all that is in them
            found = {
                name: info
                for name, each in found.items()
                for name, info in ({name: each} if each["type"] == "file" else system.find(name, detail=True)).items()
            }
    except Exception as error:  # of any file system's own kind
        raise SeqrecError(f"{setting}={where} cannot be read: {first_line(error)}") from None
    if not found:
        raise SeqrecError(f"{setting}={where}: there is no such file" + "; is it quoted?" * (kind == "glob"))
    files = {name: RemoteFile(system, name, int(info.get("size") or 0)) for name, info in found.items()}
    return kind, {name.removeprefix(fixed).lstrip("/"): file for name, file in files.items()}


def _file_system(text: str, setting: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise SeqrecError(
            f"{setting}={text} is an address, which needs fsspec; pip install 'seqrec[large]', or give a local path"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(text)
    except Exception as error:  # no such scheme, or its package (s3fs, gcsfs) is not installed
        raise SeqrecError(
            f"{setting}={text} is an address, and cannot be opened: {first_line(error)}; or give the path of a copy"
        ) from None
    return system, str(path)


def stream_of(data: "bytes | Path | RemoteFile") -> Any:
    """An Arrow stream of bytes, of a file here or elsewhere."""
    import pyarrow as pa

    if isinstance(data, bytes):
        return pa.BufferReader(data)
    return pa.OSFile(str(data)) if isinstance(data, Path) else pa.PythonFile(data.open(), "r")


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Libraries of remote stores have errors of their own."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {first_line(error)}") from error
