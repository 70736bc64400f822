"""Dynamic micro-batches: questions that wait at the same moment are answered together, in a thread of their own.

The event loop goes on reading and refusing requests while the model works.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

Answers = list[tuple[Any, Any]]  # items and scores of each question


class Work(Protocol):
    """Answers questions, those of one `kind` together."""

    def rows_of(self, question: Any) -> int:
        """How many of its kind are best answered at once."""
        ...

    def answer(self, questions: list[Any]) -> Answers:
        """Of each question, in their order."""
        ...


@dataclass(frozen=True)
class _Waiting:
    kind: Hashable
    work: Work
    question: Any
    answer: "asyncio.Future[tuple[Any, Any]]"


class Batcher:
    """A queue, and the thread that empties it.

    `rows`: questions answered together at most. `wait_s`: how long a question waits for others at most, and only while
    some that have been let in are not here yet (`coming` says how many requests are under way).
    """

    def __init__(
        self, *, rows: int, wait_s: float, coming: Callable[[], int], tell: Callable[[int, float], None]
    ) -> None:
        self._rows, self._wait_s, self._coming, self._tell = rows, wait_s, coming, tell
        self._queue: deque[_Waiting] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    async def answer(self, work: Work, question: Any) -> tuple[Any, Any]:
        """The answer of `work`; what it raises, too. Who stops waiting takes the question back."""
        future: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
        with self._ready:
            if self._closed:
                raise RuntimeError("the service has ended")
            self._queue.append(_Waiting((id(work), question.kind), work, question, future))
            self._ready.notify()
        return await future

    def close(self) -> None:
        """End the thread, when what waits has been answered."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            started = time.perf_counter()
            answers: Answers | BaseException
            try:
                answers = batch[0].work.answer([each.question for each in batch])
            except BaseException as error:  # of the model: it is whoever asked that is told
                answers = error
            self._tell(len(batch), time.perf_counter() - started)
            # They may have given up, and their loop ended with them.
            loop = batch[0].answer.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, batch, answers)
            del batch, answers  # not kept until the next question

    def _next(self) -> list[_Waiting]:
        """Those to answer now, of one kind; none at the end."""
        with self._ready:
            while True:
                while not self._queue:
                    if self._closed:
                        return []
                    self._ready.wait()
                first = self._queue[0]
                rows = min(self._rows, first.work.rows_of(first.question))
                self._wait_for(rows)
                if taken := self._taken(first.kind, rows):
                    return taken

    def _wait_for(self, rows: int) -> None:
        """Until so many are here, or all that come, or the time is over."""
        until = time.monotonic() + self._wait_s
        while len(self._queue) < min(rows, self._coming()) and not self._closed:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._ready.wait(left)

    def _taken(self, kind: Hashable, rows: int) -> list[_Waiting]:
        """The first of a kind, out of the queue; others keep their places, and who gave up is forgotten."""
        taken, others = list[_Waiting](), list[_Waiting]()
        while self._queue and len(taken) < rows:
            each = self._queue.popleft()
            if not each.answer.done():
                (taken if each.kind == kind else others).append(each)
        self._queue.extendleft(reversed(others))
        return taken


def _deliver(batch: list[_Waiting], answers: Answers | BaseException) -> None:
    if isinstance(answers, BaseException):
        for each in batch:
            if not each.answer.done():
                each.answer.set_exception(answers)
        return
    for each, answer in zip(batch, answers, strict=True):
        if not each.answer.done():
            each.answer.set_result(answer)
