"""How a portfolio's minutes are shared: the end is kept back, encoders get parts by what they need."""

from pathlib import Path

import pytest

from seqrec_cli.commands import minutes
from seqrec_cli.commands.minutes import ENOUGH, KEPT_BACK, Minutes, needed_seconds, shared
from seqrec_cli.commands.settle import settle
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.training.precision import resolve_precision


@pytest.mark.parametrize(
    ("needs", "left", "seconds"),
    [
        ([30, 60], 90, 30),  # all that it needs, and so will the other
        ([30, 60], 60, 20),  # two thirds each
        ([60, 60], 50, 25),  # more than a third
        ([60, 60], 30, 30),  # a quarter each would teach neither
        ([60], 30, 30),
        ([0, 0], 30, 0),  # both are trained already
    ],
)
def test_an_encoder_has_its_part_or_all_where_parts_are_too_small(
    needs: list[float], left: float, seconds: float
) -> None:
    assert shared(needs, left) == pytest.approx(seconds)
    assert pytest.approx(1 / 3) == ENOUGH


def test_what_measuring_took_is_kept_back_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(minutes.time, "perf_counter", lambda: now)
    sealed, opened = (Minutes(3.0, opened=opened, began=now) for opened in (False, True))
    nothing_measured = sealed.left(0)
    assert 150 < nothing_measured < 180 * (1 - KEPT_BACK)
    for each in (sealed, opened):
        each.measured_in(2.0)
        each.measured_in(4.0)
    assert sealed.left(0) == pytest.approx(nothing_measured - 4 * 6)
    assert opened.left(0) == pytest.approx(nothing_measured - 5 * 6)
    sealed.counting = 7.0
    assert sealed.left(0) == pytest.approx(nothing_measured - 4 * 6 - 7)
    assert sealed.left(2) < sealed.left(1) < sealed.left(0) - 4 * 3  # an encoder is measured too
    now = 200.0
    assert sealed.left(0) == pytest.approx(nothing_measured - 4 * 6 - 7 - 100)
    assert not sealed.over
    now = 280.0
    assert sealed.over


def test_without_a_limit_there_is_always_time() -> None:
    endless = Minutes(None, opened=True, began=-1e9)
    assert endless.left(2) == float("inf")
    assert not endless.over


def test_an_encoders_need_grows_with_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["dataset=synthetic", "dataset.users=40", "dataset.items=50", "dataset.max_events=12"]
    asked = validate("train", compose("train", [*words, f"data_dir={tmp_path}", "trainer.max_epochs=3"]))
    assert isinstance(asked, TrainConfig)
    log = with_view(prepare(asked.dataset, tmp_path, str), asked.protocol, str)
    cfg = settle(asked, log, tell=str)
    rows = -(-40 // cfg.trainer.batch_size)
    timed: list[float] = []

    def steps(*_: object, **__: object) -> tuple[list[float], list[float], list[float]]:
        timed.append(1)
        return [1, 1, 1], [1, 1, 1], [0.5, 0.1, 9.0]

    monkeypatch.setattr(minutes, "timed_steps", steps)
    precision = resolve_precision(cfg.hardware)
    assert needed_seconds(cfg, log, precision) == pytest.approx(0.5 * 3 * rows)
    shorter = cfg.model_copy(update={"trainer": cfg.trainer.model_copy(update={"max_steps": 2})})
    assert needed_seconds(shorter, log, precision) == pytest.approx(0.5 * 2)
    assert len(timed) == 2
