"""Questions that wait at the same moment are answered together, those of a kind, in their order."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from seqrec_cli.serving.batching import Batcher


@dataclass(frozen=True)
class Question:
    number: int
    kind: str = "a"


class Doubling:
    """Doubles numbers; begins when it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def rows_of(self, question: Question) -> int:
        return 2 if question.kind == "narrow" else 100

    def answer(self, questions: list[Question]) -> list[tuple[Any, Any]]:
        self.go.wait(5)
        self.batches.append([question.number for question in questions])
        if any(question.number < 0 for question in questions):
            raise ValueError("below zero")
        return [(question.number, 2 * question.number) for question in questions]


def asked(
    *questions: Question, rows: int = 4, coming: int = 0, given_up: int | None = None
) -> tuple[list[Any], Doubling]:
    work = Doubling()
    batcher = Batcher(rows=rows, wait_s=0.5, coming=lambda: coming, tell=lambda rows, seconds: None)

    async def together() -> list[Any]:
        tasks = [asyncio.create_task(batcher.answer(work, question)) for question in questions]
        await asyncio.sleep(0.02)
        if given_up is not None:
            tasks[given_up].cancel()
            await asyncio.sleep(0)
        work.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(together())
    batcher.close()
    return found, work


def test_the_first_goes_alone_and_the_rest_in_batches() -> None:
    found, work = asked(*map(Question, range(10)))
    assert [double for _, double in found] == [2 * number for number in range(10)]
    assert [number for batch in work.batches for number in batch] == list(range(10))
    assert max(map(len, work.batches)) == 4
    assert len(work.batches) <= 4


def test_who_is_on_the_way_is_waited_for() -> None:
    _, work = asked(*map(Question, range(4)), coming=4)
    assert work.batches == [[0, 1, 2, 3]]


def test_kinds_stay_apart_and_keep_their_places() -> None:
    kinds = ["a", "b", "a", "narrow", "narrow", "b", "narrow", "a"]
    _, work = asked(*(Question(n, kind) for n, kind in enumerate(kinds)), rows=8, coming=8)
    assert work.batches == [[0, 2, 7], [1, 5], [3, 4], [6]]


def test_who_gave_up_is_not_computed() -> None:
    found, work = asked(*map(Question, range(6)), given_up=5)
    assert isinstance(found[5], asyncio.CancelledError)
    assert 5 not in [number for batch in work.batches for number in batch]


def test_an_error_is_told_to_its_batch_alone() -> None:
    found, _ = asked(Question(-1, "b"), Question(1), Question(2), coming=3)
    assert isinstance(found[0], ValueError)
    assert found[1:] == [(1, 2), (2, 4)]


def test_nothing_is_taken_after_the_end() -> None:
    batcher = Batcher(rows=1, wait_s=0, coming=lambda: 0, tell=lambda rows, seconds: None)
    batcher.close()
    with pytest.raises(RuntimeError, match="ended"):
        asyncio.run(batcher.answer(Doubling(), Question(1)))
