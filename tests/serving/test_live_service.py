"""The service behind a real socket: clients that are slow, long-winded or many."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending
from tests.serving.live import ask, listening
from tests.serving.test_recommending import CPU, WINDOW, Encoder

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("httptools", reason="the development extras bring it")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.serving import server
from tests.serving.served import Served


@pytest.fixture
def address(saved_log: PackedLog, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(server, "HEAD_S", 0.5)
    served = Served(Recommending(Encoder(saved_log), saved_log, name="mine", max_length=WINDOW, precision=CPU))
    with listening(served.gate) as found:
        yield found
    served.batcher.close()


def connected(address: str) -> socket.socket:
    where = urlsplit(address)
    assert where.hostname is not None
    assert where.port is not None
    return socket.create_connection((where.hostname, where.port), timeout=10)


def everything(client: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_slow_clients_block_nobody_and_are_let_go(address: str) -> None:
    slow = [connected(address) for _ in range(50)]
    for number, client in enumerate(slow):
        client.sendall((b"", b"POST /recom", b"POST /recommend HTTP/1.1\r\nHost: x\r\nX: ")[number % 3])
    started = time.perf_counter()
    assert ask(f"{address}/recommend", {"user": 3})[0] == 200
    assert time.perf_counter() - started < 2
    for client in slow:
        assert everything(client) == b""
        client.close()
    assert time.perf_counter() - started < 8


def test_fifty_megabytes_are_refused_while_they_come(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        answered: list[bytes] = []
        reader = threading.Thread(target=lambda: answered.append(client.recv(65536)))
        reader.start()
        sent, chunk = 0, b"x" * 65536
        try:
            while reader.is_alive() and sent < 50_000_000:
                sent += client.send(chunk)
        except OSError:
            pass
        reader.join()
    assert answered[0].startswith(b"HTTP/1.1 413 ")
    assert b"the body is larger than 20,000 bytes" in answered[0]
    assert sent < 10_000_000
    assert ask(f"{address}/health")[0] == 200


def test_a_head_without_end_is_refused(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        answered = b""
        try:
            for _ in range(40):
                client.sendall(b"X-Long: " + b"y" * 4096 + b"\r\n")
            answered = everything(client)
        except OSError:  # closed while we spoke
            pass
    assert answered == b"" or answered.startswith(b"HTTP/1.1 431 ")
    assert ask(f"{address}/health")[0] == 200


def test_what_is_no_http_is_refused_and_a_connection_is_kept(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert everything(client).startswith(b"HTTP/1.1 400 ")
    body = json.dumps({"user": 3}).encode()
    head = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with connected(address) as client:
        for _ in range(3):
            client.sendall(head + body)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_many_at_once_are_all_answered(address: str) -> None:
    found: list[int] = []

    def client() -> None:
        for _ in range(5):
            found.append(ask(f"{address}/recommend", {"user_history": [100, 105], "top_k": 3})[0])

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 80
