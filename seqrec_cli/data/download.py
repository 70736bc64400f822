"""`download`: the publisher's file, streamed, resumable, checked, and under its name only when it is whole.

`<data_dir>/raw/NAME` is whole. `NAME.part` is not yet; `NAME.part.json` says of which url and version.
"""

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.parts import find, local_path, located
from seqrec_cli.data.remote import Address
from seqrec_cli.faults import in_words
from seqrec_cli.saying import Say

T = TypeVar("T")
CHUNK = 1 << 18  # bytes read at once
TIMEOUT = 30  # seconds without an answer
DEADLINE = 90  # seconds for all headers; and over which the pace of the body is measured
SLOWEST = 100  # bytes a second
GB = 1e9
MEND = "set dataset.archive=PATH to use a local copy"


def local_file(cfg: DatasetConfig, data_dir: Path) -> Path | Address | None:
    """The raw file where it is already here: `dataset.archive`, or a finished download.

    A dataset of several files may have a folder as its archive, and its downloads go to a folder.
    """
    if cfg.raw_is_generated:
        return None
    if cfg.archive is not None:
        if cfg.in_parts:
            found = located(cfg.archive)
            find(found)
            return found
        path = local_path(cfg.archive)
        if not path.is_file() and not (path.is_dir() and cfg.several_files):
            is_folder = f"it is a folder, and dataset.source={cfg.source} reads one file"
            raise SeqrecError(
                f"dataset.archive={cfg.archive}: {is_folder if path.is_dir() else 'there is no such file'}"
            )
        return path
    targets = _targets(cfg, data_dir)
    if not targets or not all(target.exists() for target in targets.values()):
        return None
    for url, target in targets.items():
        origin = _read_json(_with_ending(target, ".json")).get("url", url)
        if origin != url:
            raise SeqrecError(f"{target} was fetched from {origin}, not from dataset.url={url}; move it away")
    first = next(iter(targets.values()))
    return first.parent if cfg.several_files else first


def fetch(cfg: DatasetConfig, data_dir: Path, say: Say) -> Path | Address | None:
    """The raw file, downloaded if need be; None where the source generates its data.

    Raises SeqrecError when it cannot be fetched whole; what has arrived stays, and the next call goes on from there.
    """
    if cfg.raw_is_generated:
        say(f"{cfg.name} is generated: nothing to download")
        return None
    path = local_file(cfg, data_dir)
    if path is not None:
        say(f"{path} is here: nothing to download")
        return path
    if not cfg.urls:
        raise SeqrecError(f"dataset={cfg.name} has no download; {MEND}")
    from filelock import FileLock

    for url, target in _targets(cfg, data_dir).items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(_with_ending(target, ".lock")):  # two processes must not write one part
                if not target.exists():  # another process may have been first
                    say(f"downloading {url}")
                    _download(url, cfg.checksum, target)
        except OSError as error:  # URLError, timeouts and torn connections are OSErrors too
            fault = in_words(error, target)
            if fault is not None:
                raise SeqrecError(f"cannot fetch {url}: {fault}") from None
            reason = getattr(error, "reason", None) or error.strerror or error
            raise SeqrecError(f"cannot fetch {url}: {reason}; try again, or {MEND}") from None
    return local_file(cfg, data_dir)


def _targets(cfg: DatasetConfig, data_dir: Path) -> dict[str, Path]:
    """The path for the file of each url."""
    targets = {}
    folder = data_dir / "raw" / cfg.name if cfg.several_files else data_dir / "raw"
    for url in cfg.urls:
        name = Path(unquote(urlsplit(url).path)).name
        if not name:
            raise SeqrecError(f"dataset.url={url} names no file; {MEND}")
        targets[url] = folder / name
    return targets


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _download(url: str, checksum: str | None, target: Path) -> None:
    part, note = _with_ending(target, ".part"), _with_ending(target, ".part.json")
    begun = _read_json(note)
    # Without a version or a checksum, nothing would tell that the rest is of another file.
    resumable = part.exists() and begun.get("url") == url and bool(begun.get("version") or checksum)
    total = _stream(url, part, note, have=part.stat().st_size if resumable else 0, version=begun.get("version"))
    size = part.stat().st_size
    if total is not None and size != total:
        raise SeqrecError(
            f"{url}: the connection ended after {size} of {total} bytes; run it again to go on from there"
        )
    _check(part, url, checksum)
    _with_ending(target, ".json").write_text(json.dumps({"url": url}) + "\n", encoding="utf-8")
    part.replace(target)
    note.unlink(missing_ok=True)


def _stream(url: str, part: Path, note: Path, *, have: int, version: str | None) -> int | None:
    """Append to the part, from byte `have` on; returns the whole file's size where the server tells it."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    # If-Range: a file that has changed since is sent from its first byte, not from where this part ends.
    headers = {"User-Agent": "seqrec"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
    try:
        answer = within(DEADLINE, lambda: urlopen(Request(url, headers=headers), timeout=TIMEOUT))
    except HTTPError as error:
        if error.code == 416 and have:  # no byte after `have`: start over, unless the file is exactly that long
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return have
            return _stream(url, part, note, have=0, version=None)
        raise SeqrecError(f"{url}: the server answered {error.code} {error.reason}; {MEND}") from None
    except ValueError as error:
        raise SeqrecError(f"dataset.url={url}: {error}; {MEND}") from None
    except HTTPException as error:
        if isinstance(error, OSError):  # it hung up
            raise
        said = f"{type(error).__name__} {error}"[:200]
        raise SeqrecError(f"{url}: what answered speaks no HTTP that can be read ({said}); {MEND}") from None
    with answer:
        start = have if answer.status == 206 else 0
        if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise SeqrecError(f"{url}: the server sent other bytes than asked for; delete {part} and try again")
        total = _total(url, start, answer.headers.get("Content-Length"), folder=part.parent)
        # An ETag marked weak does not promise equal bytes.
        etag = answer.headers.get("ETag", "")
        stored = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
        note.write_text(json.dumps({"url": url, "version": stored}) + "\n", encoding="utf-8")
        with part.open("ab" if start else "wb") as file, _progress(part.stem, start, total) as advance:
            pace = Pace(url)
            try:
                while chunk := answer.read1(CHUNK):  # `read` would wait for all of it, however slowly it drips
                    file.write(chunk)
                    advance(len(chunk))
                    pace.count(len(chunk))
            except HTTPException as error:  # torn in the middle: the caller compares sizes, where it knows one
                if total is None:
                    raise SeqrecError(f"{url}: the answer broke off ({type(error).__name__}); run it again") from None
    return total


def _total(url: str, start: int, length: str | None, *, folder: Path) -> int | None:
    """The whole file's size, which has to be a size, and to fit on the disk; None where the server tells none."""
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()):
        raise SeqrecError(f"{url}: the server tells a length of {length[:40]!r}, which is none; {MEND}")
    free = shutil.disk_usage(folder).free
    if int(length) > free:
        raise SeqrecError(
            f"{url}: {int(length) / GB:,.1f} GB are to come and {free / GB:,.1f} GB free in {folder}; free some, or "
            "set data_dir"
        )
    return start + int(length)


def within(seconds: float, call: Callable[[], T]) -> T:
    """What a call returns or raises. A server's headers may drip for ever, a byte before every timeout."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)  # one that still waits ends with the process
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return found[0]


class Pace:
    """Refuses a body that drips: it would take days, and look like work."""

    def __init__(self, url: str) -> None:
        self.url, self.began, self.bytes = url, time.monotonic(), 0

    def count(self, size: int) -> None:
        """Called when so many bytes have arrived."""
        self.bytes += size
        seconds = time.monotonic() - self.began
        if seconds < DEADLINE:
            return
        if self.bytes < SLOWEST * seconds:
            raise SeqrecError(
                f"{self.url}: {self.bytes:,} bytes came in {seconds:.0f} s; run it again to go on from there, or {MEND}"
            )
        self.began, self.bytes = time.monotonic(), 0


def _check(part: Path, url: str, checksum: str | None) -> None:
    if checksum is None:
        return
    kind, _, wanted = checksum.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted:
        part.unlink()
        raise SeqrecError(
            f"{url}: the file's {kind} is {found}, not {wanted} (deleted); try again, "
            "or set dataset.checksum if the publisher changed the file"
        )


@contextlib.contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    parts = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console) as bar:
        task = bar.add_task(name, total=total, completed=start)
        yield lambda done: bar.advance(task, done)
