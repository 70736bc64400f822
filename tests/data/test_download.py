"""Downloads from a server on this machine: whole, torn, resumed, refused."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dataset_helpers import dataset

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.download import fetch

DATA = bytes(range(256)) * 4096  # 1 MiB
MD5 = f"md5:{hashlib.md5(DATA).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA; the switches make it a bad server."""

    ranges = True  # answers Range
    tears_after: int | None = None  # bytes it sends before it hangs up
    etag: str | None = '"v1"'
    data = DATA

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/toy%20log.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers.items()))
        if not self.path.endswith("toy%20log.bin"):
            self.send_error(404)
            return
        start = 0
        asked = self.headers.get("Range")
        if asked and server.ranges and self.headers.get("If-Range", server.etag) == server.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(server.data) - start))
        self.end_headers()
        self.wfile.write(server.data[start : server.tears_after])

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def toy(server: Server, **values: Any) -> DatasetConfig:
    return dataset("sequences", **{"url": server.url, "checksum": MD5} | values)


def quiet(line: str) -> None:
    """Says nothing."""


def tear(server: Server, tmp_path: Path, size: int, **values: Any) -> Path:
    """A download that ends after `size` bytes; the part it leaves."""
    server.tears_after = size
    with pytest.raises(SeqrecError, match=rf"ended after {size} of {len(DATA)} bytes; run it again"):
        fetch(toy(server, **values), tmp_path, quiet)
    server.tears_after = None
    part = tmp_path / "raw" / "toy log.bin.part"
    assert part.read_bytes() == DATA[:size]
    assert not (tmp_path / "raw" / "toy log.bin").exists()
    return part


def test_a_file_comes_whole_and_only_once(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    path = fetch(toy(server), tmp_path, said.append)
    assert path == tmp_path / "raw" / "toy log.bin"
    assert path.read_bytes() == DATA
    assert fetch(toy(server), tmp_path, said.append) == path
    assert len(server.requests) == 1
    assert said[0] == f"downloading {server.url}"
    assert said[1].endswith("is here: nothing to download")
    assert not list(tmp_path.glob("raw/*.part*"))


def test_a_torn_download_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    part = tear(server, tmp_path, 300_000)
    path = fetch(toy(server), tmp_path, quiet)
    assert path is not None
    assert path.read_bytes() == DATA
    assert server.requests[1]["Range"] == "bytes=300000-"
    assert server.requests[1]["If-Range"] == '"v1"'
    assert not part.exists()


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    tear(server, tmp_path, 300_000)
    server.ranges = False
    path = fetch(toy(server), tmp_path, quiet)
    assert "Range" in server.requests[1]
    assert path is not None
    assert path.read_bytes() == DATA


def test_a_file_that_changed_meanwhile_comes_whole(server: Server, tmp_path: Path) -> None:
    tear(server, tmp_path, 300_000, checksum=None)
    server.data, server.etag = DATA[::-1], '"v2"'
    path = fetch(toy(server, checksum=None), tmp_path, quiet)
    assert path is not None
    assert path.read_bytes() == DATA[::-1]


def test_without_version_or_checksum_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    server.etag = None
    tear(server, tmp_path, 300_000, checksum=None)
    fetch(toy(server, checksum=None), tmp_path, quiet)
    assert "Range" not in server.requests[1]


def test_a_part_that_is_all_there_is_finished(server: Server, tmp_path: Path) -> None:
    part = tear(server, tmp_path, 300_000)
    part.write_bytes(DATA)  # killed between the last byte and the rename
    path = fetch(toy(server), tmp_path, quiet)
    assert path is not None
    assert path.read_bytes() == DATA
    assert len(server.requests) == 2


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    part = tear(server, tmp_path, 300_000)
    part.write_bytes(DATA + b"more")
    path = fetch(toy(server), tmp_path, quiet)
    assert path is not None
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path, kind: str) -> None:
    wrong = f"{kind}:{'0' * 32}"
    with pytest.raises(SeqrecError, match=f"the file's {kind} is {hashlib.new(kind, DATA).hexdigest()}, not 0000"):
        fetch(toy(server, checksum=wrong), tmp_path, quiet)
    assert not list(tmp_path.glob("raw/*.bin*.part"))
    assert not (tmp_path / "raw" / "toy log.bin").exists()


def test_a_missing_page_is_reported(server: Server, tmp_path: Path) -> None:
    url = server.url.replace("toy", "no")
    with pytest.raises(SeqrecError, match=r"answered 404 .*; set dataset\.archive=PATH"):
        fetch(toy(server, url=url), tmp_path, quiet)


def test_a_dead_server_is_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        cfg = dataset("sequences", url=f"http://127.0.0.1:{taken.getsockname()[1]}/log.txt")
        with pytest.raises(SeqrecError, match=r"cannot fetch http.*refused.*dataset\.archive=PATH") as error:
            fetch(cfg, tmp_path, quiet)
    assert "\n" not in str(error.value)


def test_a_file_url_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "a log.txt"
    source.write_bytes(DATA)
    path = fetch(dataset("sequences", url=source.as_uri(), checksum=MD5), tmp_path / "data", quiet)
    assert path == tmp_path / "data" / "raw" / "a log.txt"
    assert path.read_bytes() == DATA


def test_two_urls_with_one_file_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.txt").write_text(name, encoding="utf-8")
    one, two = (dataset("sequences", url=(tmp_path / name / "log.txt").as_uri()) for name in ("one", "two"))
    fetch(one, tmp_path, quiet)
    with pytest.raises(SeqrecError, match=r"was fetched from file:.*one/log\.txt, not from"):
        fetch(two, tmp_path, quiet)


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_a_local_archive_is_taken_as_it_is(tmp_path: Path, form: Callable[[Path], str]) -> None:
    path = tmp_path / "a log.txt"
    path.write_bytes(b"1 2\n")
    assert fetch(dataset("sequences", archive=form(path), checksum="md5:00"), tmp_path / "data", quiet) == path
    assert not (tmp_path / "data").exists()


def test_a_local_archive_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"dataset\.archive=.*gone\.zip: there is no such file"):
        fetch(dataset("ml-1m", archive=tmp_path / "gone.zip"), tmp_path, quiet)


def test_generated_data_needs_no_download(tmp_path: Path) -> None:
    said: list[str] = []
    assert fetch(dataset("synthetic"), tmp_path, said.append) is None
    assert said == ["synthetic is generated: nothing to download"]


def test_two_processes_at_once_download_once(server: Server, tmp_path: Path) -> None:
    found: list[Path | None] = []
    cfg = toy(server)
    threads = [threading.Thread(target=lambda: found.append(fetch(cfg, tmp_path, quiet))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "raw" / "toy log.bin"] * 4
    assert len(server.requests) == 1
