"""What stands before the application: who may ask, how much, and how many at once (ASGI).

A refusal here costs no model, no validation and next to no time; it is what a flood meets.
"""

import asyncio
import hmac
import json
import os
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from seqrec_cli.serving.telemetry import Journal, Meters

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

WITH_BODY = ("POST", "PUT", "DELETE", "PATCH")
ITEMS = "/items/{item:path}"  # all of them are one route
OPEN = {"/health"}  # asked by whoever looks whether the service lives: needs no token
KNOWN_ID = re.compile(rb"[\w.:-]{1,128}")
RETRY_AFTER = (b"retry-after", b"1")  # seconds
DRAINED = 4  # times `most_bytes` that are read and thrown away behind a refusal, so that its sender reads it
DRAINS_S = 1.0


@dataclass(frozen=True)
class Limits:
    """Of one process."""

    most_bytes: int  # of a body
    waiting: int  # requests let in and not yet answered
    timeout_s: float  # from the first byte to the answer


class RefusedError(Exception):
    """An answer instead of the application's."""

    def __init__(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


class Gate:
    """Wraps an application. Bodies reach it whole."""

    def __init__(
        self,
        application: Application,
        limits: Limits,
        *,
        token: str | None,
        journal: Journal,
        meters: Meters,
        routes: set[str],
        open_files: Collection[str] = (),
    ) -> None:
        """`routes` are counted by name; `open_files` hold no data and need no token."""
        self._application, self._limits = application, limits
        self._token = None if token is None else token.encode()
        self._journal, self._meters, self._routes = journal, meters, routes
        self._open = OPEN.union(open_files)
        self.inside = 0  # requests let in and not yet answered
        self._held_bytes = 0  # of bodies that are not whole yet

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await self._pass(exchange, receive)
        except RefusedError as refusal:
            await self._refuse(exchange, refusal, receive)
        except TimeoutError:
            within = f"within {self._limits.timeout_s:g} s"
            late = RefusedError(503, f"no answer {within}", RETRY_AFTER)
            if exchange.reading:
                late = RefusedError(408, f"the body did not arrive {within}", (b"connection", b"close"))
            await self._refuse(exchange, late, receive)
        except _GoneError:
            exchange.status = 499  # by custom: the client closed the connection
        except Exception:
            self._journal.write("error", request_id=exchange.id, traceback=traceback.format_exc())
            fault = RefusedError(500, "a fault of the service; its log has it by this id")
            await self._refuse(exchange, fault, receive)
        seconds = time.perf_counter() - exchange.started
        path = scope["path"] if not scope["path"].startswith("/items/") else ITEMS
        route = path if path in self._routes else "other"
        self._meters.request(route, exchange.status, seconds)
        client = scope.get("client")
        self._journal.write(
            "request",
            request_id=exchange.id,
            method=scope["method"],
            path=scope["path"][:200],
            status=exchange.status,
            ms=round(seconds * 1000, 2),
            client=client[0] if client else None,
        )

    async def _pass(self, exchange: "_Exchange", receive: Receive) -> None:
        scope, headers = exchange.scope, exchange.headers
        if self._token is not None and scope["path"] not in self._open:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            # A scheme has no case (RFC 9110, 11.1); what follows has.
            if not hmac.compare_digest(given.strip(b" "), self._token) or scheme.lower() != b"bearer":
                raise RefusedError(401, "no valid bearer token", (b"www-authenticate", b"Bearer"))
        if scope["method"] not in WITH_BODY:
            await self._application(scope, receive, exchange.send)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18:
            raise RefusedError(400, "content-length is not a number")
        if int(length) > self._limits.most_bytes:
            raise self._too_large()
        self._room()
        exchange.reading = True
        body = await self._body(receive)
        exchange.reading = False
        self._room()
        self.inside += 1
        self._meters.waiting.inc()
        try:
            await self._application(scope, _whole(body, receive), exchange.send)
        finally:
            self.inside -= 1
            self._meters.waiting.dec()

    def _room(self) -> None:
        if self.inside >= self._limits.waiting:
            said = f"{self._limits.waiting} requests are waiting already; try again later"
            raise RefusedError(503, said, RETRY_AFTER)

    async def _body(self, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):  # nearly all
            if len(message["body"]) > self._limits.most_bytes:
                raise self._too_large()
            return bytes(message["body"])
        parts, size = [], 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise _GoneError
                size += len(message["body"])
                self._held_bytes += len(message["body"])
                if size > self._limits.most_bytes:
                    raise self._too_large()
                if self._held_bytes > self._limits.waiting * self._limits.most_bytes // 8:
                    raise RefusedError(503, "too many large bodies at once; try again later", RETRY_AFTER)
                parts.append(message["body"])
                if not message.get("more_body"):
                    return b"".join(parts)
                message = await receive()
        finally:
            self._held_bytes -= size

    def _too_large(self) -> RefusedError:
        said = f"the body is larger than {self._limits.most_bytes:,} bytes"
        return RefusedError(413, said, (b"connection", b"close"))

    async def _refuse(self, exchange: "_Exchange", refusal: RefusedError, receive: Receive) -> None:
        if exchange.status:  # an answer had begun
            return
        body = json.dumps({"detail": refusal.detail}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *refusal.headers]
        await exchange.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
        if refusal.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            # A connection that closes on unread bytes is reset, and its client may never see why.
            await _drain(receive, DRAINED * self._limits.most_bytes)
        await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


class _GoneError(Exception):
    """The client went away."""


class _Exchange:
    """A request on its way: its id, and what became of it."""

    def __init__(self, scope: MutableMapping[str, Any], send: Send) -> None:
        self.scope, self._send = scope, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode() if KNOWN_ID.fullmatch(given) else os.urandom(8).hex()
        self.started = time.perf_counter()
        self.status = 0
        self.reading = False  # its body

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
        await self._send(message)


def _whole(body: bytes, receive: Receive) -> Receive:
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


async def _drain(receive: Receive, most: int) -> None:
    """Read on until the sender has read the answer and ends, or for a while."""
    try:
        async with asyncio.timeout(DRAINS_S):
            while most > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
                most -= len(message["body"])
    except TimeoutError:
        return
