"""What answers a download may be no server, lie, or drip: one line, what has come is kept, nothing waits for ever."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dataset_helpers import dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data import download
from seqrec_cli.data.download import fetch

Answer = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def url() -> Iterator[Callable[[Answer], str]]:
    """The address of a server that answers every request so."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def start(answer: Answer) -> str:
        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(4096)
                        answer(connection)
                    except OSError:  # the client has left
                        pass

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{port}/log.bin"

    yield start
    listener.close()


def says(*parts: bytes) -> Answer:
    return lambda connection: [connection.sendall(part) for part in parts] and None  # type: ignore[func-returns-value]


def drips(first: bytes, drop: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(200):
            time.sleep(0.02)
            connection.sendall(drop)

    return answer


def headers_without_end(connection: socket.socket) -> None:
    connection.sendall(OK)
    for number in range(10_000):
        connection.sendall(b"X-%d: y\r\n" % number)


BAD: dict[str, tuple[Answer, str]] = {
    "nothing": (says(), "cannot fetch"),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "speaks no HTTP that can be read"),
    "binary": (says(bytes(range(256)) * 4), "speaks no HTTP that can be read"),
    "headers without end": (headers_without_end, "speaks no HTTP that can be read"),
    "one header without end": (says(OK, b"X: " + b"y" * 100_000), "speaks no HTTP that can be read"),
    "a length in words": (says(OK, b"Content-Length: many\r\n\r\nabc"), "a length of 'many', which is none"),
    "a length below zero": (says(OK, b"Content-Length: -5\r\n\r\nabc"), "a length of '-5', which is none"),
    "more than any disk": (
        says(OK, b"Content-Length: 999999999999999999\r\n\r\nabc"),
        r"to come and .* GB free",
    ),
    "less than told": (says(OK, b"Content-Length: 9\r\n\r\nabc"), "ended after 3 of 9 bytes; run it again"),
    "broken chunks": (says(OK, b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "the answer broke off"),
    "no chunks": (says(OK, b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab"), "the answer broke off"),
    "itself again": (says(b"HTTP/1.1 302 Found\r\nLocation: /log.bin\r\nContent-Length: 0\r\n\r\n"), "answered 302"),
    "a local file": (says(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hosts\r\nContent-Length: 0\r\n\r\n"), "302"),
    "dripping headers": (drips(OK + b"X: ", b"y"), "no answer within 0.5 s"),
    "a dripping body": (drips(OK + b"Content-Length: 9000\r\n\r\n", b"z"), "bytes came in .* s; run it again"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_server_is_named(
    url: Callable[[Answer], str], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, said = BAD[kind]
    monkeypatch.setattr(download, "DEADLINE", 0.5)
    address = url(answer)
    with pytest.raises(SeqrecError, match=said) as refused:
        fetch(dataset("sequences", url=address, checksum=None), tmp_path, lambda _: None)
    assert address in str(refused.value)
    assert not (tmp_path / "raw" / "log.bin").exists()
