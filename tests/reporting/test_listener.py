"""The listener's three outputs: lines, TensorBoard events, rows."""

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.reporting.listener import TrainingListener
from seqrec_cli.reporting.run_folder import RunFolder, read_rows

STEPS_PER_EPOCH = 4


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.allocate(str(tmp_path / "run"), "sasrec")


def row(step: int, ndcg: float) -> dict:
    return {
        "epoch": step // STEPS_PER_EPOCH,
        "step": step,
        "split": "val",
        "seconds": 0.5 * step,
        "train_loss": 8.0 / step,
        "hr@10": 2 * ndcg,
        "ndcg@10": ndcg,
        "logloss": 1 - ndcg,
    }


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, highlight=False)


def train(listener: TrainingListener, ndcgs: list[float], first_step: int = 0, total_steps: int = 12) -> str:
    listener.on_start(total_steps, first_step)
    step = first_step
    for ndcg in ndcgs:
        for _ in range(STEPS_PER_EPOCH):
            step += 1
            listener.on_step(step, 4.0 / step if step % 2 == 0 else None, lr=1e-3 / step, targets=100)
        listener.on_validation(row(step, ndcg))
    listener.on_end()
    return listener.console.file.getvalue()  # type: ignore[attr-defined]


def scalars(folder: RunFolder, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def test_plain_lines_where_there_is_no_terminal(folder):
    text = train(TrainingListener(folder, "ndcg@10", STEPS_PER_EPOCH, console=console()), [0.1, 0.3, 0.2])
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1  step 4/12  train loss 2.0000  val ndcg@10 0.1000 (best)")
    assert "0.3000 (best)" in lines[1]
    assert "0.2000" in lines[2]
    assert "best" not in lines[2]
    assert all(re.search(r"\dk? targets/s", line) for line in lines)
    assert "\x1b" not in text


def test_a_falling_metric_is_better_where_it_should_be(folder):
    text = train(TrainingListener(folder, "logloss", STEPS_PER_EPOCH, console=console()), [0.1, 0.3, 0.2])
    assert ["best" in line for line in text.splitlines()] == [True, True, False]


def test_progress_bar_on_a_terminal(folder):
    text = train(TrainingListener(folder, "ndcg@10", STEPS_PER_EPOCH, console=console(terminal=True)), [0.1, 0.3, 0.2])
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    last = [line for line in plain.replace("\r", "\n").splitlines() if line.strip()][-1]
    for fact in ("epoch 3/3", "12/12", "loss 0.3333", "lr 8.3e-05", "targets/s", "left"):
        assert fact in last
    assert len(last) <= 80
    assert "val ndcg@10 0.3000 (best)" in plain


def test_rows_and_first_step_reach_the_folder(folder):
    train(TrainingListener(folder, "ndcg@10", STEPS_PER_EPOCH, console=console()), [0.1, 0.3])
    assert read_rows(folder.metrics_jsonl) == [row(4, 0.1), row(8, 0.3)]
    manifest = json.loads(folder.manifest.read_text())
    if sys.platform.startswith("linux"):
        assert manifest["first_step_seconds"] > 0


def test_tensorboard_scalars(folder):
    train(TrainingListener(folder, "ndcg@10", STEPS_PER_EPOCH, console=console()), [0.1, 0.3])
    assert scalars(folder, "train/loss") == [(step, 4.0 / step) for step in (2, 4, 6, 8)]
    assert scalars(folder, "train/lr") == [(step, 1e-3 / step) for step in (2, 4, 6, 8)]
    assert scalars(folder, "val/ndcg@10") == [(4, 0.1), (8, 0.3)]
    assert scalars(folder, "val/hr@10") == [(4, 0.2), (8, 0.6)]
    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    tags = {"train/loss", "train/lr", "val/hr@10", "val/ndcg@10", "val/logloss"}
    assert set(events.Tags()["scalars"]) == tags


def test_resume_goes_on_with_rows_best_and_events(folder):
    train(TrainingListener(folder, "ndcg@10", STEPS_PER_EPOCH, console=console()), [0.3, 0.4])
    time.sleep(1.1)  # TensorBoard reads files in the order of their names, which hold the second
    # The first run's second epoch was not saved: the resumed run goes over it again.
    listener = TrainingListener(folder, "ndcg@10", STEPS_PER_EPOCH, console=console())
    text = train(listener, [0.2, 0.5], first_step=4)
    assert ["best" in line for line in text.splitlines()] == [False, True]  # 0.2 < 0.3, which counts; 0.4 does not
    assert [r["ndcg@10"] for r in read_rows(folder.metrics_jsonl)] == [0.3, 0.2, 0.5]
    assert scalars(folder, "val/ndcg@10") == [(4, 0.3), (8, 0.2), (12, 0.5)]


def test_a_metric_that_is_not_finite_is_refused(folder):
    listener = TrainingListener(folder, "ndcg@10", STEPS_PER_EPOCH, console=console())
    listener.on_start(4, 0)
    with pytest.raises(SeqrecError, match="not finite"):
        listener.on_validation(row(4, float("nan")))
    listener.on_end()
    assert not folder.metrics_jsonl.exists()


def test_tensorboard_is_not_imported_before_the_first_step(tmp_path):
    code = f"""
import sys
from seqrec_cli.reporting.listener import TrainingListener
from seqrec_cli.reporting.run_folder import RunFolder
listener = TrainingListener(RunFolder.allocate({str(tmp_path / "run")!r}, "x"), "mrr", 1)
listener.on_start(1, 0)
slow = [name for name in ("tensorboard", "matplotlib", "torch") if name in sys.modules]
print(slow)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
