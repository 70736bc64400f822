"""What a run is told when it ends: below a baseline, still rising, too long."""

import json
from pathlib import Path

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.reporting.advice import Course, advice, what_to_cut

BASELINES = {
    "oracle": {"ndcg@10": 0.9},
    "random": {"ndcg@10": 0.01},
    "popular": {"ndcg@10": 0.1},
    "markov": {"ndcg@10": 0.2},
}
WELL = Course(best_epoch=5, epochs=20, steps=4000, stopped_by="patience", events=90_000)


def config(*overrides: str) -> TrainConfig:
    fixed = ["trainer=next_item", "trainer.max_epochs=20", "trainer.warmup_steps=100", "trainer.patience=15"]
    cfg = validate("train", compose("train", [*fixed, *overrides]))
    assert isinstance(cfg, TrainConfig)
    return cfg


def told(tmp_path: Path, course: Course, ndcg: float, *, test: bool = False) -> list[str]:
    rows = [{"epoch": n, "step": n, "split": "val", "ndcg@10": 0.01 * n, "train_loss": 1.0} for n in range(1, 21)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if test:  # validation alone would be content
        metrics = {"val": {"ndcg@10": 0.5}, "test": {"ndcg@10": ndcg}, "baselines": BASELINES}
    else:
        metrics = {"val": {"ndcg@10": ndcg}, "baselines_val": BASELINES}
    return advice(config(), course, metrics=metrics, metrics_jsonl=path)


def test_a_run_above_its_baselines_is_told_nothing(tmp_path: Path) -> None:
    assert told(tmp_path, WELL, 0.21) == []


@pytest.mark.parametrize("test", [False, True])
def test_the_best_baseline_is_named(tmp_path: Path, test: bool) -> None:
    (line,) = told(tmp_path, WELL, 0.15, test=test)
    assert "sasrec is below last-item Markov in ndcg@10 (0.1500 < 0.2000)" in line
    assert "model=auto" in line


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps": 150}, "150 steps, 100 of them warm-up: trainer.max_epochs higher"),
        ({"stopped_by": "finished", "best_epoch": 20}, "still rising at its end: trainer.max_epochs=40 (now 20)"),
        ({"epochs": 8}, "stopped by patience at epoch 8 of 20: trainer.patience=30"),
        ({"events": 300}, "only 300 training events"),
    ],
)
def test_the_likely_reason_comes_with_its_setting(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    course = Course(**{**vars(WELL), **changed})  # type: ignore[arg-type]
    (line,) = told(tmp_path, course, 0.1)
    assert words in line


def test_below_random_is_said_and_a_model_is_not_its_own_rival(tmp_path: Path) -> None:
    cfg = validate("train", compose("train", ["model=popular"]))
    assert isinstance(cfg, TrainConfig)
    counted = Course(best_epoch=1, epochs=1, steps=0, stopped_by="finished", events=90_000)
    found = {"random": {"ndcg@10": 0.02}, "popular": {"ndcg@10": 0.01}}
    (line,) = advice(
        cfg, counted, metrics={"val": found["popular"], "baselines_val": found}, metrics_jsonl=tmp_path / "none"
    )
    assert "popular is below random in ndcg@10 (0.0100 < 0.0200): few users are ranked" in line
    assert not advice(
        cfg, counted, metrics={"val": found["random"], "baselines_val": found}, metrics_jsonl=tmp_path / "none"
    )


def test_a_limit_of_time_is_what_is_told_to_change(tmp_path: Path) -> None:
    course = Course(best_epoch=20, epochs=20, steps=4000, stopped_by="finished", events=90_000)
    found = {"val": {"ndcg@10": 0.1}, "baselines_val": BASELINES}
    (line,) = advice(config("trainer.minutes=2"), course, metrics=found, metrics_jsonl=tmp_path / "none")
    assert "trainer.minutes=4 (now 2), or leave it out" in line


def test_a_run_that_stops_while_it_rises_is_told_to_go_on(tmp_path: Path) -> None:
    course = Course(best_epoch=20, epochs=20, steps=4000, stopped_by="finished", events=90_000)
    (line,) = told(tmp_path, course, 0.3)
    assert "still improved at the run's end (0.1900, then 0.2000): trainer.max_epochs=40 (now 20)" in line


def test_a_long_run_is_told_what_to_cut_in_order() -> None:
    assert what_to_cut(config(), 60) is None
    line = what_to_cut(config("model.embed_dim=64", "model.max_length=200"), 7200)
    assert line is not None
    assert line.startswith(
        "slow: about 2.0 hours; cut in this order: model.max_length (now 200), model.embed_dim (now 64)"
    )
    assert line.index("model.heads") < line.index("trainer.max_epochs")


def said(course: Course, ndcg: float, *, cold: int = 0, error: float = 0.0, best: float = 0.2, words: str = "") -> str:
    """The one line, of a run whose best baseline is last-item Markov."""
    rivals = {"popular": {"ndcg@10": 0.1}, "markov": {"ndcg@10": best}, "graph": {"ndcg@10": 0.12}}
    metrics = {
        "val": {"ndcg@10": ndcg},
        "baselines_val": rivals,
        "intervals": {"val": {"ndcg@10": [ndcg - 1.96 * error, ndcg + 1.96 * error]}},
        "protocol": {"counts": {"cold_targets": cold, "targets": 100}},
    }
    (line,) = advice(config(*words.split()), course, metrics=metrics, metrics_jsonl=Path("none"))
    return line


def test_a_remedy_is_better_in_the_runs_own_table() -> None:
    few = Course(**{**vars(WELL), "events": 300})
    assert "model=graph did better here, model=auto" in said(few, 0.11)
    assert "model=graph" not in said(few, 0.15)
    assert "itemknn" not in said(few, 0.05)  # not in the table


def test_cold_targets_are_the_only_reason() -> None:
    assert said(Course(**{**vars(WELL), "events": 300}), 0.05, cold=80).endswith(": 80.0% of the targets never trained")


def test_what_lies_within_the_error_is_not_called_weak() -> None:
    line = said(WELL, 0.19, error=0.02)
    assert "within one standard error in ndcg@10 (0.1900 and 0.2000, error 0.0200)" in line
    assert "WARNING" not in line
    assert "WARNING" in said(WELL, 0.15, error=0.02)


def test_most_popular_is_named_where_it_is_above() -> None:
    assert "below last-item Markov in ndcg@10 (0.0500 < 0.2000) and most popular (0.0500 < 0.1000)" in said(WELL, 0.05)
    assert "most popular" not in said(WELL, 0.15)
    assert said(WELL, 0.05, error=0.03, best=0.12).endswith("the log seems to hold little beyond popularity")


def test_candidates_without_time_are_counted() -> None:
    course = Course(best_epoch=1, epochs=1, steps=0, stopped_by="finished", events=9, untried=6)
    line = said(course, 0.19, error=0.02, words="model=auto trainer.minutes=0.001")
    assert line.endswith("6 candidates had no time: raise trainer.minutes (now 0.001)")
