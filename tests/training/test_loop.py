"""The loop: what it writes, when it stops, and that an interrupted run goes on to the same bits."""

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_toys import CPU, HEADER, ToyModel, ToyObjective, ToyRows, settings, toy_model, train

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training import loop
from seqrec_cli.training.checkpoint import BEST, KEYS, LAST, load_checkpoint
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.stopping import SIGNALS


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 8)
    start = {name: p.detach().clone() for name, p in toy_model().named_parameters()}
    result, model, listener = train(tmp_path, scores=iter([0.1, 0.4, 0.2, 0.3]))
    assert (result.reason, result.best_epoch, result.epochs, result.steps) == ("finished", 2, 4, 20)
    assert result.best_metrics == {"ndcg@10": 0.4, "logloss": 0.4}
    assert not any(torch.equal(p, start[name]) for name, p in model.named_parameters())
    assert (listener.started, listener.ended) == ((20, 0), 1)
    assert [step for step, *_ in listener.steps] == list(range(1, 21))
    assert [step for step, loss, *_ in listener.steps if loss is not None] == [8, 16, 20]
    assert [lr for *_, lr, _ in listener.steps][:2] == [0.025, 0.05]
    assert {targets for *_, targets in listener.steps} == {12}
    assert [(row["epoch"], row["step"], row["split"]) for row in listener.rows] == [
        (1, 5, "val"), (2, 10, "val"), (3, 15, "val"), (4, 20, "val"),
    ]  # fmt: skip
    assert all(math.isfinite(row["train_loss"]) and row["seconds"] > 0 for row in listener.rows)


def test_an_objective_hears_how_far_the_run_is_also_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []
    monkeypatch.setattr(ToyObjective, "at_epoch", lambda self, epochs: heard.append(epochs))
    rows = ToyRows(at={(1, 1): lambda: os.kill(os.getpid(), SIGNALS[0])})
    train(tmp_path, settings(max_epochs=3), rows=rows)
    assert heard == [step / 5 for step in range(7)]
    train(tmp_path, settings(max_epochs=3), resume_from=load_checkpoint(tmp_path / LAST))
    assert heard == [step / 5 for step in range(15)]


def test_best_and_last_are_written_and_the_best_is_in_the_model(tmp_path: Path) -> None:
    kept: list[dict[str, Tensor]] = []
    model = toy_model()
    scores = iter([0.1, 0.4, 0.2])

    def watched() -> Any:
        for value in scores:
            kept.append({name: p.detach().clone() for name, p in model.state_dict().items()})
            yield value

    train(tmp_path, settings(max_epochs=3), model=model, scores=watched())
    best, last = load_checkpoint(tmp_path), load_checkpoint(tmp_path / LAST)
    assert best.keys() == last.keys() == KEYS
    assert {key: best[key] for key in HEADER} == HEADER
    assert same(model.state_dict(), kept[1])
    assert same(best["model"], kept[1])
    assert same(last["model"], kept[2])
    assert not same(kept[1], kept[2])
    assert (best["epoch"], best["step"], best["metrics"]["ndcg@10"], best["trainer"]) == (2, 10, 0.4, None)
    assert (last["epoch"], last["step"], last["metrics"]["ndcg@10"]) == (3, 15, 0.2)
    assert sorted(os.listdir(tmp_path)) == [BEST, LAST]


def test_patience_ends_a_run(tmp_path: Path) -> None:
    cfg = settings(max_epochs=9, patience=2)
    result, _, listener = train(tmp_path, cfg, scores=iter([0.3, 0.1, 0.2, 0.9]))
    assert (result.reason, result.best_epoch, result.epochs, len(listener.rows)) == ("patience", 1, 3, 3)
    again, _, listener = train(tmp_path, cfg, scores=iter([]), resume_from=load_checkpoint(tmp_path / LAST))
    assert (again.reason, again.best_epoch, listener.steps) == ("patience", 1, [])


def test_a_falling_metric_can_be_monitored(tmp_path: Path) -> None:
    result, _, _ = train(tmp_path, settings(max_epochs=3, monitor="logloss"), scores=iter([0.7, 0.5, 0.6]))
    assert result.best_epoch == 2


@pytest.mark.parametrize(("max_steps", "validated"), [(7, [7]), (5, [5]), (12, [10, 12])])
def test_max_steps_and_rare_validation(tmp_path: Path, max_steps: int, validated: list[int]) -> None:
    result, _, listener = train(tmp_path, settings(max_steps=max_steps, evaluate_every=2))
    assert [row["step"] for row in listener.rows] == validated
    assert (result.steps, result.epochs) == (max_steps, math.ceil(max_steps / 5))


@pytest.mark.parametrize("where", [(1, 2), (1, 4), (2, 0), (3, 4)])
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, where: tuple[int, int], number: signal.Signals, ema: float | None
) -> None:
    cfg = settings(evaluate_every=2, ema=ema)
    (tmp_path / "whole").mkdir()
    whole, whole_model, whole_told = train(tmp_path / "whole", cfg)
    before = [signal.getsignal(n) for n in SIGNALS]

    folder = tmp_path / "parts"
    folder.mkdir()
    rows = ToyRows(at={where: lambda: os.kill(os.getpid(), number)})
    first, _, first_told = train(folder, cfg, rows=rows)
    assert first.reason == "interrupted"
    assert first.steps == where[0] * 5 + where[1] + 1  # the step under way is finished
    assert first_told.ended == 1
    assert [signal.getsignal(n) for n in SIGNALS] == before

    torch.manual_seed(12345)  # neither the random state nor the weights of the new process matter
    second, model, second_told = train(folder, cfg, model=ToyModel(), resume_from=load_checkpoint(folder / LAST))
    assert second_told.started == (20, first.steps)
    assert first_told.steps + second_told.steps == whole_told.steps
    assert without_seconds(first_told.rows + second_told.rows) == without_seconds(whole_told.rows)
    assert same(model.state_dict(), whole_model.state_dict())
    assert second.best_metrics == whole.best_metrics
    ends = [load_checkpoint(place / LAST) for place in (folder, tmp_path / "whole")]
    assert same(ends[0]["model"], ends[1]["model"])
    assert ends[0]["trainer"]["optimizer"]["state"].keys() == ends[1]["trainer"]["optimizer"]["state"].keys()
    for key, state in ends[0]["trainer"]["optimizer"]["state"].items():
        assert same(state, ends[1]["trainer"]["optimizer"]["state"][key])


def test_dropout_differs_from_step_to_step_and_from_seed_to_seed() -> None:
    draws = []
    for seed, step in ((0, 1), (0, 2), (1, 1), (0, 1)):
        loop.seed_step(seed, step)
        draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[3])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, rows=ToyRows(at={(0, 2): twice}))
    assert signal.getsignal(signal.SIGINT) == before
    assert os.listdir(tmp_path) == []


def test_a_killed_run_goes_on_from_the_last_epoch(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    _, whole_model, _ = train(tmp_path / "whole")

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        train(tmp_path, rows=ToyRows(at={(2, 3): fail}))
    payload = load_checkpoint(tmp_path / LAST)
    assert (payload["epoch"], payload["step"]) == (2, 10)
    _, model, _ = train(tmp_path, model=ToyModel(), resume_from=payload)
    assert same(model.state_dict(), whole_model.state_dict())


def test_resuming_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    first, model, _ = train(tmp_path)
    again, other, listener = train(tmp_path, model=ToyModel(), resume_from=load_checkpoint(tmp_path / LAST))
    assert (again.reason, again.steps, again.best_metrics) == ("finished", first.steps, first.best_metrics)
    assert listener.steps == []
    assert same(model.state_dict(), other.state_dict())


def test_resume_refuses_weights_alone_and_another_model(tmp_path: Path) -> None:
    train(tmp_path, settings(max_epochs=1))
    with pytest.raises(SeqrecError, match=r"resume from the run's last\.pt"):
        train(tmp_path, resume_from=load_checkpoint(tmp_path))
    other = toy_model()
    other.layer = torch.nn.Linear(6, 6, bias=False)
    with pytest.raises(SeqrecError, match="do not fit this model"):
        train(tmp_path, model=other, resume_from=load_checkpoint(tmp_path / LAST))


class SpoiltObjective(ToyObjective):
    """From call `at` on, the loss (or only its gradient) is NaN."""

    def __init__(self, at: int, gradient_only: bool = False) -> None:
        self.calls, self.at, self.gradient_only = 0, at, gradient_only

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        loss = super().loss(model, batch)
        self.calls += 1
        if self.calls < self.at:
            return loss
        if self.gradient_only:
            loss.register_hook(lambda gradient: gradient * float("nan"))
            return loss
        return loss * float("nan")


def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        SeqrecError, match=r"the loss became nan at step 8; lower trainer\.lr \(now 0\.05; try a tenth\), or use"
    ):
        train(tmp_path, objective=SpoiltObjective(8))
    payload = load_checkpoint(tmp_path / LAST)
    assert payload["step"] == 5
    assert all(p.isfinite().all() for p in payload["model"].values())


def test_weights_that_are_not_numbers_are_never_saved(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match="weights are no longer finite at step 10"):
        train(tmp_path, objective=SpoiltObjective(10, gradient_only=True))
    for name in (BEST, LAST):
        payload = load_checkpoint(tmp_path / name)
        assert payload["step"] == 5
        assert all(p.isfinite().all() for p in payload["model"].values())


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_mixed_precision_trains_and_resumes_to_the_same_bits(tmp_path: Path, name: Any) -> None:
    precision = Precision(torch.device("cpu"), name)
    (tmp_path / "whole").mkdir()
    cfg = settings(max_epochs=2)
    _, whole_model, told = train(tmp_path / "whole", cfg, precision=precision)
    assert told.rows[1]["train_loss"] != train(tmp_path, cfg)[2].rows[1]["train_loss"]
    rows = ToyRows(at={(1, 1): lambda: os.kill(os.getpid(), signal.SIGINT)})
    train(tmp_path, cfg, rows=rows, precision=precision)
    payload = load_checkpoint(tmp_path / LAST)
    assert ("scale" in payload["trainer"]["scaler"]) == (name == "fp16")
    _, model, _ = train(tmp_path, cfg, model=ToyModel(), precision=precision, resume_from=payload)
    assert same(model.state_dict(), whole_model.state_dict())
    assert all(p.dtype == torch.float32 for p in model.state_dict().values())


def test_fp16_that_always_overflows_is_refused(tmp_path: Path) -> None:
    objective = SpoiltObjective(1, gradient_only=True)
    with pytest.raises(SeqrecError, match="fp16 gradients overflow at every scale"):
        train(tmp_path, settings(max_epochs=9), objective=objective, precision=Precision(CPU.device, "fp16"))


def test_no_rows_is_refused(tmp_path: Path) -> None:
    rows = ToyRows()
    rows.steps = 0
    with pytest.raises(SeqrecError, match="no training rows"):
        train(tmp_path, rows=rows)


def test_the_rate_falls_on_a_plateau_and_a_resumed_run_knows(tmp_path: Path) -> None:
    cfg = settings(schedule="constant", warmup_steps=0, plateau=1, plateau_factor=0.1, max_epochs=4)
    scores = [1.0, 2.0, 2.0, 3.0]
    _, _, told = train(tmp_path, cfg, scores=iter(scores))
    assert [lr for _, _, lr, _ in told.steps] == pytest.approx([0.05] * 15 + [0.005] * 5)
    rows = ToyRows(at={(3, 2): lambda: os.kill(os.getpid(), signal.SIGINT)})
    train(tmp_path, cfg, scores=iter(scores), rows=rows)
    _, _, told = train(tmp_path, cfg, scores=iter(scores[3:]), resume_from=load_checkpoint(tmp_path / LAST))
    assert [lr for _, _, lr, _ in told.steps] == pytest.approx([0.005] * len(told.steps))
    assert told.steps


def test_a_plateau_that_patience_would_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"plateau=3 would never reduce the rate: trainer\.patience=3"):
        settings(plateau=3, patience=3)


def test_minutes_end_a_run_after_the_step_they_run_out_in_and_it_is_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Loop, "seconds", lambda self: 2.0 * self.progress.step)  # two seconds a step
    result, _, listener = train(tmp_path, scores=iter([0.1, 0.4]), cfg=settings(minutes=0.25))
    assert (result.reason, result.steps, result.epochs) == ("finished", 8, 2)
    assert [row["step"] for row in listener.rows] == [5, 8]
    rates = [lr for *_, lr, _ in listener.steps]
    assert rates[-1] < 0.5 * max(rates)  # the rate falls to this end, not to that of 20 steps
