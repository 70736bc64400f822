"""A service in this process, without a socket: gate, application, batches and the model's thread."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.alike import ItemVectors
from seqrec_cli.serving.batching import Batcher
from seqrec_cli.serving.bodies import Most
from seqrec_cli.serving.browsing import Browsing, add_browsing
from seqrec_cli.serving.catalogue import Catalogue
from seqrec_cli.serving.gate import Gate, Limits
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.scoring import Scoring
from seqrec_cli.serving.service import Answering, Beside, Loaded, build_service
from seqrec_cli.serving.telemetry import Meters
from seqrec_cli.serving.web_page import FILES, add_page

LIMITS = Limits(most_bytes=20_000, waiting=100, timeout_s=5.0)
MOST = Most(events=50, candidates=20, left_out=5)


class Kept:
    """A journal whose lines stay in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, event: str, **facts: Any) -> None:
        self.lines.append({"event": event, **facts})


def loaded(recommending: Recommending, version: str = "epoch_83") -> Loaded:
    """As `serve` makes it of a run."""
    try:
        vectors = ItemVectors(recommending)
    except SeqrecError:
        vectors = None
    facts = {"model": recommending.name, "model_version": version}
    return Loaded(Scoring(recommending), vectors, facts, Catalogue(recommending))


class Served:
    """The service and what it did; `ask` is a client of it."""

    def __init__(
        self,
        recommending: Recommending,
        *,
        limits: Limits = LIMITS,
        token: str | None = None,
        wait_s: float = 0.02,
        beside: Recommending | None = None,
        most: Most = MOST,
    ) -> None:
        self.batches: list[int] = []
        self.journal, self.meters = Kept(), Meters()
        self.batcher = Batcher(
            rows=8, wait_s=wait_s, coming=lambda: self.gate.inside, tell=lambda rows, _: self.batches.append(rows)
        )
        self.answering = Answering(
            loaded(recommending),
            self.batcher,
            top=4,
            most=most,
            meters=self.meters,
            beside=None if beside is None else Beside(loaded(beside)),
        )
        service = build_service(self.answering, self.meters)
        add_browsing(service, Browsing(self.answering, top=4, most=most))
        add_page(service)
        self.schema = service.openapi()
        self.gate = Gate(
            service,
            limits,
            token=token,
            journal=self.journal,  # type: ignore[arg-type]
            meters=self.meters,
            routes={"/recommend", "/score", "/similar", "/health", "/metrics"},
            open_files=FILES,
        )

    def post(self, path: str, *asked: Any, **headers: str) -> list[tuple[int, Any]]:
        """Status and answer of each of these bodies, all sent at once; bytes go as they are."""

        async def together() -> list[tuple[int, Any]]:
            found = await asyncio.gather(*(self.ask("POST", path, body, headers) for body in asked))
            return [(status, json.loads(text)) for status, _, text in found]

        return asyncio.run(together())

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text."""
        status, _, text = asyncio.run(self.ask("GET", path, b"", headers))
        return status, text.decode()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str],
        *,
        receive: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer; `receive` gives the body where it does not come at once."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-length": str(len(sent))} if receive is None else {}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
            "state": {},
        }
        messages: list[Any] = []

        async def at_once() -> dict[str, Any]:
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        await self.gate(scope, receive or at_once, send)
        answered = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        return messages[0]["status"], answered, b"".join(each["body"] for each in messages[1:])
