"""Answers and explanations on a device that stands in for a GPU are the CPU's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.models.build import build_model
from seqrec_cli.serving.attribution.gradients import Path
from seqrec_cli.serving.attribution.methods import How, attribute
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Request
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.precision import Precision
from tests.models.toy import small_config
from tests.rehearsal.parts import CPU
from tests.rehearsal.standin import DEVICE, POSSIBLE, standing_in

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="this torch cannot stand in for a device from Python")
LENGTH = 8


@pytest.fixture(scope="module", autouse=True)
def operators_of_torch() -> Iterator[None]:
    with standing_in():
        yield


def both(name: str, log: Any) -> list[Recommending]:
    made = []
    for device in (CPU, DEVICE):
        model = build_model(small_config(name, max_length=LENGTH), log.catalog, 0)
        fit_closed_form(model, log)
        precision = Precision(device, "fp32")
        left_out = np.array([3, 4])
        made.append(Recommending(model, log, name=name, max_length=LENGTH, precision=precision, left_out=left_out))
    return made


def request(history: list[int] | None, user: int | None = None) -> Request:
    times = None if history is None else list(range(0, 60 * len(history), 60))
    return Request(user=user, history=history, times=times, asked_at=None, context={}, top=5, repeats=False)


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "dien", "markov", "itemknn"])
def test_answers(name: str, saved_log: Any) -> None:
    for asked in (request([101, 105, 110, 111]), request(None, user=4)):
        here, there = (recommending.answer(asked) for recommending in both(name, saved_log))
        assert there.items == here.items
        assert there.scores == pytest.approx(here.scores, rel=1e-4, abs=1e-5)
        assert len(here.items) == 5


@pytest.mark.parametrize(
    ("name", "method"), [("sasrec", "leave_one_out"), ("sasrec", "integrated_gradients"), ("din", "attention")]
)
def test_explanations(name: str, method: Any, saved_log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grad, found = torch.autograd.grad, []

    def in_this_thread(*args: Any, **kwargs: Any) -> Any:  # which the end of an inference mode makes many again
        with torch.autograd.set_multithreading_enabled(False):
            return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", in_this_thread)
    for recommending in both(name, saved_log):
        asked, _ = recommending.given(request([101, 105, 110, 111]))
        how = How(method=method, path=Path(gap=1.0, points=4))
        found.append(attribute(recommending, asked, [1, 2], how=how))
    assert found[1].weights_LC == pytest.approx(found[0].weights_LC, rel=1e-3, abs=1e-4)
    assert np.abs(found[0].weights_LC).max() > 0
