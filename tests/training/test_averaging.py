"""Averaged weights: by hand, where they are kept, and what a checkpoint needs of them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_toys import ToyRows, settings, toy_model, train

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.training.averaging import EpochAverage, MovingAverage
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
    with average.applied():
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


def test_the_mean_of_the_last_epochs_by_hand() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = EpochAverage(layer, 3)
    for epoch, weight in enumerate([8.0, 4.0, 2.0, 0.5], 1):
        layer.weight.data.fill_(weight)
        average.keep(epoch)
    average.keep(4)  # the end of an epoch that was cut short before
    assert list(average.kept) == [2, 3, 4]
    with average.applied():
        assert layer.weight.item() == pytest.approx((4 + 2 + 0.5) / 3)
    assert layer.weight.item() == 0.5


@pytest.mark.parametrize(("last", "kept"), [(9.0, True), (0.5, False)], ids=["better", "worse"])
def test_the_epochs_mean_is_kept_only_if_validation_says_so(tmp_path: Path, last: float, kept: bool) -> None:
    ends: list[Tensor] = []
    model = toy_model()

    def scores() -> Iterator[float]:
        for value in (1.0, 2.0, 3.0, 4.0, last):
            ends.append(model.layer.weight.detach().clone())
            yield value

    result, _, told = train(tmp_path, settings(swa_epochs=3), model=model, scores=scores())
    assert len(ends) == 5
    torch.testing.assert_close(ends[4], torch.stack(ends[1:4]).mean(0))
    assert [(row["split"], row["epoch"], row["step"]) for row in told.rows[-2:]] == [("val", 4, 20), ("val_swa", 4, 20)]
    assert result.best_metrics["ndcg@10"] == (9.0 if kept else 4.0)
    torch.testing.assert_close(model.layer.weight.detach(), ends[4] if kept else ends[3])
    assert torch.equal(load_checkpoint(tmp_path / LAST)["model"]["layer.weight"], ends[3])  # the run's own course


def test_a_resumed_run_averages_the_same_epochs_and_only_once(tmp_path: Path) -> None:
    for name in ("whole", "half"):
        (tmp_path / name).mkdir()
    cfg = settings(swa_epochs=3, schedule="constant")
    train(tmp_path / "whole", cfg)
    rows = ToyRows(at={(3, 2): lambda: os.kill(os.getpid(), signal.SIGINT)})
    assert train(tmp_path / "half", cfg, rows=rows)[0].reason == "interrupted"
    resumed, model, _ = train(tmp_path / "half", cfg, resume_from=load_checkpoint(tmp_path / "half" / LAST))
    for name in (BEST, LAST):
        ours, theirs = (load_checkpoint(tmp_path / folder / name)["model"] for folder in ("half", "whole"))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    _, again, told = train(tmp_path / "half", cfg, resume_from=load_checkpoint(tmp_path / "half" / LAST))
    assert told.rows == []
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert resumed.reason == "finished"


def test_patience_makes_an_epoch_the_last_and_a_resumed_run_stays_stopped(tmp_path: Path) -> None:
    cfg = settings(swa_epochs=2, patience=1)
    result, _, told = train(tmp_path, cfg, scores=iter([3.0, 2.0, 7.0]))
    assert (result.reason, result.epochs, result.best_metrics["ndcg@10"]) == ("patience", 2, 7.0)
    assert [row["split"] for row in told.rows] == ["val", "val", "val_swa"]
    again, _, told = train(tmp_path, cfg, resume_from=load_checkpoint(tmp_path / LAST))
    assert (again.reason, again.epochs, told.rows) == ("patience", 2, [])


def test_averages_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"swa_epochs and trainer\.ema are two averages"):
        settings(swa_epochs=2, ema=0.9)
    with pytest.raises(ValueError, match=r"swa_epochs=5 averages more epochs than trainer\.max_epochs=4"):
        settings(swa_epochs=5)
