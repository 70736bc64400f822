"""Users' vectors are kept: the same answers, from fewer histories that the model reads."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.user_vectors import UserVectors
from tests.serving.test_recommending import CPU, WINDOW, Encoder

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.served import Served


def test_those_that_are_kept_are_not_made_again() -> None:
    asked: list[list[int]] = []

    def encode(rows_M: np.ndarray) -> torch.Tensor:
        asked.append(rows_M.tolist())
        return torch.stack([torch.full((2,), 10.0 * len(asked) + row) for row in rows_M.tolist()])

    kept = UserVectors(most=2)
    assert kept.of([1, 0, 2], encode)[:, 0].tolist() == [10, 11, 12]
    assert kept.of([0, 2, 0, 1], encode)[:, 0].tolist() == [20, 12, 22, 10]
    assert kept.of([1], encode)[:, 0].tolist() == [10]
    assert kept.of([3], encode)[:, 0].tolist() == [40 - 10]  # the third call of encode; user 2, unasked longest, goes
    assert kept.of([1, 2], encode)[:, 0].tolist() == [10, 41]
    kept.forget()
    assert kept.of([1], encode)[:, 0].tolist() == [50]
    assert asked == [[0, 1, 2], [0, 2], [0], [1], [0]]


class Counting(Encoder):
    read = 0

    def last(self, batch):  # type: ignore[no-untyped-def]
        Counting.read += len(batch)
        return super().last(batch)


def test_a_user_who_is_asked_about_twice_is_read_once(saved_log: PackedLog, tmp_path: Path) -> None:
    recommending = Recommending(Counting(saved_log), saved_log, name="mine", max_length=WINDOW, precision=CPU)
    served = Served(recommending)
    Counting.read = 0
    first = served.post("/recommend", {"user": 3}, {"user": 4})
    assert Counting.read == 2
    again = served.post("/recommend", {"user": 3}, {"user": 4}, {"user": 5})
    assert Counting.read == 3
    for (_, before), (_, after) in zip(first, again[:2], strict=True):
        for one, other in zip(before["recommendations"], after["recommendations"], strict=True):
            assert one["item_id"] == other["item_id"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    alone = recommending.score(recommending.logged([3]), recommending.indices([110]), rows_at_once=1)
    read = Counting.read
    ((_, scored),) = served.post("/score", {"user": 3, "candidates": [110]})
    assert scored["scores"][0]["score"] == pytest.approx(float(alone[0, 0]), abs=1e-5)
    assert Counting.read == read
    own = {"user": 3, "user_history": [110, 111]}  # what a request brings is read as often as it is asked
    served.post("/recommend", own)
    served.post("/recommend", own)
    assert Counting.read == read + 2
    ((_, explained),) = served.post("/explain", {"user": 3, "candidates": [110]})
    assert len({event["contribution"] for event in explained["explained"][0]["events"]}) > 1
    # The shortened histories are not taken for the user's.
    ((_, after),) = served.post("/score", {"user": 3, "candidates": [110]})
    assert after["scores"][0]["score"] == pytest.approx(scored["scores"][0]["score"], abs=1e-5)
    served.batcher.close()
