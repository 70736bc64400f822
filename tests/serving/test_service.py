"""The recommend service over HTTP."""

from collections.abc import Iterator

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.recommending import Recommended, Request
from seqrec_cli.serving.service import build_service
from tests.serving.live import ask, listening

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("uvicorn", reason="the development extras bring uvicorn")
FACTS = {"model_version": "epoch_83", "vocab_size": 25}


class Answering:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.titles: list[str] | None = None

    def answer(self, request: Request) -> Recommended:
        self.asked.append(request)
        if request.history == [666]:
            raise SeqrecError("no item of the history is in the data")
        return Recommended(["a", 7], self.titles, [2.5, -1.0], 3, ["x"], False)


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
def address(answering: Answering) -> Iterator[str]:
    with listening(build_service(answering, 4, FACTS)) as found:  # type: ignore[arg-type]
        yield found


def test_health_tells_what_answers(address: str) -> None:
    assert ask(f"{address}/health") == (200, {"status": "ok", "model_version": "epoch_83", "vocab_size": 25})


def test_a_history_is_answered_with_items_and_scores(address: str, answering: Answering) -> None:
    status, answered = ask(f"{address}/recommend", {"user_history": [42, "17"], "top_k": 2})
    assert status == 200
    assert answered == {
        "recommendations": [{"item_id": "a", "score": 2.5}, {"item_id": 7, "score": -1.0}],
        "model_version": "epoch_83",
        "num_input_items": 3,
        "unknown_items": ["x"],
        "known_user": False,
    }
    assert answering.asked == [Request(None, [42, "17"], None, None, {}, 2, None)]
    answering.titles = ["A", "Seven"]
    titles = [found["title"] for found in ask(f"{address}/recommend", {"user": 3})[1]["recommendations"]]
    assert titles == ["A", "Seven"]


def test_every_field_reaches_the_model(address: str, answering: Answering) -> None:
    body = {
        "user": "u1",
        "user_history": [1],
        "times": [5],
        "asked_at": 9,
        "context": {"city": "Rome"},
        "repeats": True,
    }
    assert ask(f"{address}/recommend", body)[0] == 200
    assert answering.asked == [Request("u1", [1], [5], 9, {"city": "Rome"}, 4, True)]  # top_k: the service's own


@pytest.mark.parametrize(
    "body",
    [{"top_k": 0}, {"top_k": 101}, {"top_k": "3"}, {"history": [1]}, {"user_history": 5}, {"user_history": [1.5]}],
)
def test_a_malformed_request_never_reaches_the_model(address: str, answering: Answering, body: dict) -> None:
    assert ask(f"{address}/recommend", body)[0] == 422
    assert answering.asked == []


def test_a_refusal_says_why(address: str) -> None:
    answered = ask(f"{address}/recommend", {"user_history": [666]})
    assert answered == (422, {"detail": "no item of the history is in the data"})
