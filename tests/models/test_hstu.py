"""HSTU: its equations by hand, what each time bias sees, and its masks."""

import dataclasses

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models import hstu
from seqrec_cli.models.layers import time_bias
from seqrec_cli.models.layers.positions import age_buckets
from seqrec_cli.models.layers.time_bias import query_times, time_buckets

TIMES = ("none", "past", "target")


def small(**changes: object) -> hstu.Model:
    model = toy.toy_model("hstu", **changes).eval()
    assert isinstance(model, hstu.Model)
    with torch.no_grad():  # biases that can be seen
        for name, parameter in model.named_parameters():
            if "by_" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def norm(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def by_hand(model: hstu.Model, batch: Batch, row: int, heads: int, time: str) -> np.ndarray:
    """States of one row in float64, pair by pair."""
    weight = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    n, D = int(batch.lengths_B[row]), 16
    assert batch.times_BL is not None
    assert batch.request_times_B is not None
    times = [*batch.times_BL[row, :n].tolist(), batch.request_times_B[row].item()]
    x = weight["items.weight"][batch.items_BL[row, :n].numpy()] * D**0.5 + weight["places.table.weight"][:n]
    for block in (f"blocks.{number}." for number in range(len(model.blocks))):
        u, q, k, v = np.split(silu(norm(x) @ weight[block + "project.weight"].T), 4, axis=1)
        attended = np.zeros((n, D))
        for i in range(n):
            for j in range(i + 1):
                bias = weight[block + "by_distance.table.weight"][i - j + 11, 0]
                if time != "none":
                    seconds = times[i + (time == "target")] - times[j]
                    bias += weight[block + "by_time.table.weight"][int(age_buckets(torch.tensor(seconds), 64)), 0]
                for h in np.split(np.arange(D), heads):
                    attended[i, h] += silu(q[i, h] @ k[j, h] + bias) * v[j, h] / 12
        x = x + norm(attended) * u @ weight[block + "out.weight"].T + weight[block + "out.bias"]
    return x / np.linalg.norm(x, axis=1, keepdims=True) / 0.05


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("time", TIMES)
def test_the_published_equations_by_hand(time: str, heads: int) -> None:
    model, batch = small(time_bias=time, heads=heads), toy.toy_batch()
    for row in (0, 5):
        expected = torch.from_numpy(by_hand(model, batch, row, heads, time)).float()
        torch.testing.assert_close(model.encode(batch)[row, : len(expected)], expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(model.last(batch)[row], expected[-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("time", TIMES)
def test_what_each_bias_sees_and_says_so(time: str) -> None:
    model, batch = small(time_bias=time), toy.toy_batch()
    assert model.sees_target_time is (time == "target")
    before = model.encode(batch)
    assert batch.times_BL is not None
    assert batch.request_times_B is not None
    day = 86400

    def differs(**changes: Tensor) -> list[bool]:
        after = model.encode(dataclasses.replace(batch, **changes))
        return [not torch.allclose(after[-1, place], before[-1, place], atol=1e-4) for place in range(10)]

    later = batch.times_BL.clone()
    later[-1, 6:] += 900 * day
    n = int(batch.lengths_B[-1])
    assert n == 10
    expected = {"none": [False] * n, "past": [p >= 6 for p in range(n)], "target": [p >= 5 for p in range(n)]}
    asked = {"none": [False] * n, "past": [False] * n, "target": [p == n - 1 for p in range(n)]}
    assert differs(times_BL=later) == expected[time]
    assert differs(request_times_B=batch.request_times_B + 900 * day) == asked[time]
    scores, moved = (model.last(b) for b in (batch, dataclasses.replace(batch, times_BL=later)))
    assert torch.allclose(scores[-1], moved[-1], atol=1e-4) is (time == "none")


def test_data_without_times_are_refused_by_name() -> None:
    bare = dataclasses.replace(toy.toy_batch(), times_BL=None, request_times_B=None)
    small().score_corpus(bare)
    for time in ("past", "target"):
        with pytest.raises(SeqrecError, match=r"time_bias needs event times, .* use model\.time_bias=none") as refusal:
            small(time_bias=time).score_corpus(bare)
        assert "\n" not in str(refusal.value)


def test_time_buckets_are_those_of_the_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = toy.toy_batch()
    for limit in (time_bias.CACHED, 150):  # at once, and some rows at a time
        monkeypatch.setattr(time_bias, "CACHED", limit)
        asked_BL, times_BL = query_times(batch, True), batch.times_BL
        assert times_BL is not None
        for b, n in enumerate(batch.lengths_B.tolist()):
            ages = asked_BL[b, :n, None] - times_BL[b, None, :n]
            assert torch.equal(time_buckets(asked_BL, times_BL, 64)[b, :n, :n], age_buckets(ages, 64).int())


@pytest.mark.parametrize("changes", [{"time_bias": "past"}, {"positions": "rotary"}, {"temperature": None}])
def test_variants_learn(changes: dict[str, object]) -> None:
    course = list(toy.losses(toy.toy_model("hstu", **changes), steps=60, lr=0.01))
    assert course[-1] < 0.3 * course[0]
