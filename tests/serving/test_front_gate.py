"""What stands before the application: sizes, places, times, the token; and what is told of it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_recommending import CPU, WINDOW, Encoder

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.served import LIMITS, Served


class Slow:
    """Work that waits until it is let go."""

    def __init__(self, served: Served) -> None:
        self._work, self._served = served.answering.loaded.scoring.answer, served
        self.go, self.error = threading.Event(), None
        served.answering.loaded.scoring.answer = self.answer  # type: ignore[method-assign]

    def answer(self, questions: Any) -> Any:
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        return self._work(questions)


@pytest.fixture
def recommending(saved_log: PackedLog) -> Recommending:
    return Recommending(Encoder(saved_log), saved_log, name="mine", max_length=WINDOW, precision=CPU)


@pytest.fixture
def served(recommending: Recommending) -> Iterator[Served]:
    found = Served(recommending, wait_s=0)
    yield found
    found.batcher.close()


async def never() -> dict[str, Any]:
    await asyncio.sleep(60)
    raise AssertionError


def test_too_large_a_body_is_refused_before_it_is_read(served: Served) -> None:
    reads: list[int] = []

    def sending(*sizes: int) -> Any:
        left = list(sizes)

        async def receive() -> dict[str, Any]:
            reads.append(left[0])
            return {"type": "http.request", "body": b" " * left.pop(0), "more_body": bool(left)}

        return receive

    ask = served.ask("POST", "/recommend", None, {"content_length": "50000000"}, receive=sending(10, 10))
    status, headers, body = asyncio.run(ask)
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body) == {"detail": "the body is larger than 20,000 bytes"}
    # A length that is not told is counted; what is read on for the sender's sake is bounded.
    reads.clear()
    ask = served.ask("POST", "/recommend", None, {}, receive=sending(*[15_000] * 100))
    assert asyncio.run(ask)[0] == 413
    assert len(reads) <= 9
    assert served.batches == []


def test_a_flood_is_refused_at_once_and_what_was_let_in_is_answered(recommending: Recommending) -> None:
    served = Served(recommending, limits=replace(LIMITS, waiting=10), wait_s=0)
    slow = Slow(served)

    async def flood() -> tuple[list[Any], list[Any], Any]:
        inside = [asyncio.create_task(served.ask("POST", "/recommend", {"user": 3}, {})) for _ in range(10)]
        await asyncio.sleep(0.05)
        refused = [await served.ask("POST", "/recommend", {"user": 3}, {}) for _ in range(30)]
        health = await served.ask("GET", "/health", b"", {})
        slow.go.set()
        return await asyncio.gather(*inside), refused, health

    answered, refused, health = asyncio.run(flood())
    assert {status for status, _, _ in answered} == {200}
    assert {(status, headers["retry-after"]) for status, headers, _ in refused} == {(503, "1")}
    assert json.loads(refused[0][2]) == {"detail": "10 requests are waiting already; try again later"}
    assert health[0] == 200
    took = sorted(line["ms"] for line in served.journal.lines if line.get("status") == 503)
    assert len(took) == 30
    assert took[15] < 50  # milliseconds; a busy machine may take longer over one
    assert served.post("/recommend", {"user": 3})[0][0] == 200  # places are given back
    served.batcher.close()


def test_late_answers_and_late_bodies_end(recommending: Recommending) -> None:
    served = Served(recommending, limits=replace(LIMITS, timeout_s=0.1), wait_s=0)
    slow = Slow(served)
    status, headers, body = asyncio.run(served.ask("POST", "/recommend", {"user": 3}, {}))
    assert (status, headers["retry-after"], json.loads(body)["detail"]) == (503, "1", "no answer within 0.1 s")
    slow.go.set()
    status, headers, body = asyncio.run(served.ask("POST", "/recommend", None, {}, receive=never))
    assert (status, headers["connection"], json.loads(body)["detail"]) == (
        408,
        "close",
        "the body did not arrive within 0.1 s",
    )
    assert served.gate.inside == 0
    served.batcher.close()


def test_a_body_that_is_under_way_takes_nobody_s_place(recommending: Recommending) -> None:
    served = Served(recommending, limits=replace(LIMITS, waiting=1, timeout_s=1.0), wait_s=0)

    async def together() -> int:
        slow = [asyncio.create_task(served.ask("POST", "/recommend", None, {}, receive=never)) for _ in range(20)]
        await asyncio.sleep(0.01)
        status, _, _ = await served.ask("POST", "/recommend", {"user": 3}, {})
        for task in slow:
            task.cancel()
        return status

    assert asyncio.run(together()) == 200
    served.batcher.close()


def test_a_token_is_asked_for_everywhere_but_of_who_asks_for_health(recommending: Recommending) -> None:
    served = Served(recommending, token="s3cret")
    assert served.get("/health")[0] == 200
    for given in ({}, {"authorization": "Bearer s3cre"}, {"authorization": "s3cret"}, {"authorization": "Bearer \xff"}):
        status, headers, body = asyncio.run(served.ask("POST", "/recommend", {"user": 3}, given))
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body) == {"detail": "no valid bearer token"}
        assert served.get("/metrics", **given)[0] == served.get("/openapi.json", **given)[0] == 401
    assert served.post("/recommend", {"user": 3}, authorization="Bearer s3cret")[0][0] == 200
    served.batcher.close()


def test_every_request_has_an_id_and_a_line(served: Served) -> None:
    _, headers, _ = asyncio.run(served.ask("POST", "/recommend", {"user": 3}, {"x_request_id": "from-client.1"}))
    assert headers["x-request-id"] == "from-client.1"
    _, headers, _ = asyncio.run(served.ask("GET", "/health", b"", {"x_request_id": 'no good"id'}))
    made = headers["x-request-id"]
    assert len(made) == 16
    first, second = served.journal.lines
    assert (first["event"], first["request_id"], first["path"], first["status"]) == (
        "request",
        "from-client.1",
        "/recommend",
        200,
    )
    assert (second["request_id"], second["method"], second["client"]) == (made, "GET", "127.0.0.1")


def test_a_fault_of_ours_is_in_the_log_and_the_next_request_is_answered(served: Served) -> None:
    slow = Slow(served)
    slow.go.set()
    slow.error = ZeroDivisionError("of the model")  # type: ignore[assignment]
    status, headers, body = asyncio.run(served.ask("POST", "/recommend", {"user": 3}, {}))
    assert status == 500
    assert "of the model" not in body.decode()
    fault = next(line for line in served.journal.lines if line["event"] == "error")
    assert fault["request_id"] == headers["x-request-id"]
    assert "ZeroDivisionError: of the model" in fault["traceback"]
    slow.error = None
    assert served.post("/recommend", {"user": 3})[0][0] == 200


def test_counters_are_there_for_prometheus(served: Served) -> None:
    served.post("/recommend", {"user": 3}, {"user": 4}, {"user_history": []}, b"?")
    served.get("/nowhere/../../etc/passwd")
    status, page = served.get("/metrics")
    assert status == 200
    for line in (
        'seqrec_requests_total{route="/recommend",status="200"} 3.0',
        'seqrec_requests_total{route="/recommend",status="422"} 1.0',
        'seqrec_requests_total{route="other",status="404"} 1.0',
        'seqrec_request_seconds_count{route="/recommend"} 4.0',
        'seqrec_answers_total{answered_by="model"} 2.0',
        'seqrec_answers_total{answered_by="popularity"} 1.0',
        "seqrec_requests_waiting 0.0",
    ):
        assert line in page.splitlines(), line


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_of_a_token_has_no_case_and_the_token_has(recommending: Recommending, scheme: str) -> None:
    served = Served(recommending, token="Secret")
    for words, status in (("Secret", 200), (" Secret", 200), ("secret", 401), ("", 401), ("Secret x", 401)):
        assert served.get("/metrics", authorization=f"{scheme} {words}")[0] == status, words
    for words in ("Basic Secret", "Secret", "BearerSecret", ""):
        assert served.get("/metrics", authorization=words)[0] == 401, words
    served.batcher.close()
