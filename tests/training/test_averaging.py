"""Averaged weights: by hand, where they are kept, and what a checkpoint needs of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_toys import settings, toy_model, train

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.training.averaging import MovingAverage
from seqrec_cli.training.checkpoint import BEST, LAST, load_checkpoint


def test_the_average_by_hand() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(8.0)
    average, expected = MovingAverage(layer, 0.25), 8.0
    for step, weight in enumerate([4.0, 2.0, 1.0], 1):
        layer.weight.data.fill_(weight)
        average.update(step)
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    with average.in_place():
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == 1.0


def test_the_average_is_validated_and_kept_as_best_and_the_run_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    seen: list[Tensor] = []
    model = toy_model()

    def look() -> Iterator[float]:
        while True:
            seen.append(model.layer.weight.detach().clone())
            yield float(len(seen))

    for name in ("plain", "averaged"):
        (tmp_path / name).mkdir()
    train(tmp_path / "plain", settings())
    train(tmp_path / "averaged", settings(ema=0.8), model=model, scores=look())
    plain, averaged = (load_checkpoint(tmp_path / name / LAST)["model"] for name in ("plain", "averaged"))
    assert all(torch.equal(plain[key], averaged[key]) for key in plain)  # the path of the weights is untouched
    best = load_checkpoint(tmp_path / "averaged" / BEST)["model"]["layer.weight"]
    assert torch.equal(best, seen[-1])
    assert not torch.equal(best, averaged["layer.weight"])
    assert torch.equal(model.layer.weight, best)


def test_a_checkpoint_without_an_average_cannot_go_on_with_one(tmp_path: Path) -> None:
    train(tmp_path, settings())
    with pytest.raises(SeqrecError, match=r"trainer\.ema"):
        train(tmp_path, settings(ema=0.9), resume_from=load_checkpoint(tmp_path / LAST))
