"""Requests a second and waits of running services, by how many clients ask at once.

    seqrec serve ckpt=RUN port=8001 & seqrec serve ckpt=RUN port=8002 workers=2 &
    python -m scripts.bench_serve one=http://127.0.0.1:8001 two=http://127.0.0.1:8002
        [--clients 1,8,64,512] [--seconds 5] [--route recommend|score] [--events 20] [--candidates 100] [--json FILE]

The generator has a connection a client (kept alive, TCP_NODELAY), each with one request under way, so that the load is
bounded. A client that is refused (429, 503) waits for as long as Retry-After says, as a polite one does. Services are
asked in turn, so that whatever else the machine does meets all of them. Item ids are drawn from 1 to `--items`.
"""

import argparse
import asyncio
import json
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REFUSED = (429, 503)


@dataclass
class Seen:
    """What clients met."""

    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, requests: list[bytes], seen: Seen, until: float) -> None:
        self._requests, self._seen, self._until = requests, seen, until
        self._received = b""
        self._sent = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask()

    def _ask(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        self._received = b""
        self._sent = time.perf_counter()
        self._transport.write(random.choice(self._requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if not mark:
            return
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        if len(body) < int(headers.get("content-length", 0)):
            return
        status = int(lines[0].split()[1])
        self._seen.statuses[str(status)] += 1
        took = time.perf_counter() - self._sent
        if status in REFUSED:
            self._seen.refused_s.append(took)
            asyncio.get_running_loop().call_later(float(headers.get("retry-after", 0.1)), self._ask)
        else:
            self._seen.answered_s.append(took)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self._until:
            self._seen.statuses["lost"] += 1
        if not self.ended.done():
            self.ended.set_result(None)


def requests_of(address: str, asked: argparse.Namespace) -> list[bytes]:
    """Some hundred different ones, ready to be sent."""
    draw, made = random.Random(0), []
    for _ in range(256):
        history = [draw.randint(1, asked.items) for _ in range(asked.events)]
        body: dict[str, Any] = {"user_history": history}
        if asked.route == "score":
            body["candidates"] = draw.sample(range(1, asked.items + 1), asked.candidates)
        text = json.dumps(body).encode()
        head = f"POST /{asked.route} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\nContent-Type: application/json\r\n"
        made.append(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
    return made


async def load(address: str, clients: int, seconds: float, *, requests: list[bytes]) -> dict[str, float]:
    """So many clients for so long."""
    url, seen = urlsplit(address), Seen()
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    until = started + seconds
    pending = [
        loop.create_connection(lambda: Client(requests, seen, until), url.hostname, url.port) for _ in range(clients)
    ]
    connected = await asyncio.gather(*pending, return_exceptions=True)
    met = [each[1] for each in connected if not isinstance(each, BaseException)]
    seen.statuses["not connected"] += len(connected) - len(met)
    await asyncio.wait([client.ended for client in met], timeout=seconds + 30)
    seen.statuses["unanswered"] += sum(not client.ended.done() for client in met)
    took = time.perf_counter() - started
    report = {"clients": clients, "answers_per_second": len(seen.answered_s) / took}
    for name, times_s in (("", seen.answered_s), ("refused_", seen.refused_s)):
        times_s.sort()
        for share in (50, 99):
            if times_s:
                at = min(int(len(times_s) * share / 100), len(times_s) - 1)
                report[f"{name}p{share}_ms"] = 1000 * times_s[at]
    return report | {name: count for name, count in seen.statuses.items() if count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("services", nargs="+", help="NAME=ADDRESS")
    parser.add_argument("--clients", default="1,8,64,512")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--route", choices=("recommend", "score"), default="recommend")
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--items", type=int, default=1682)
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    rows = []
    for clients in map(int, asked.clients.split(",")):
        for service in asked.services:
            name, _, address = service.partition("=")
            requests = requests_of(address, asked)
            row = asyncio.run(load(address, clients, asked.seconds, requests=requests))
            rows.append({"service": name, **row})
            print(
                "  ".join(
                    f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in rows[-1].items()
                ),
                flush=True,
            )
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
