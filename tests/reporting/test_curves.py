"""The learning curves' picture: it is one, it shows the rows, it marks the best epoch."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from seqrec_cli.reporting.curves import BLUE, GREEN, ORANGE, PURPLE, draw_curves, rising_loss

pytestmark = pytest.mark.usefixtures("painted")


def write(path: Path, values: list[float], **constant: float) -> Path:
    rows = [
        {"epoch": n, "step": 10 * n, "split": "val", "train_loss": 5.0 / n, "ndcg@10": v, "hr@10": v + 0.1, **constant}
        for n, v in enumerate(values, start=1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def places(image: np.ndarray, colour: str) -> np.ndarray:
    """Columns of the right half with pixels of that colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    hits = np.abs(image[:, image.shape[1] // 2 :, :3] - wanted).max(axis=2) < 0.02
    return hits.sum(axis=0)


def draw(tmp_path: Path, name: str, values: list[float], monitor: str = "ndcg@10", **constant: float) -> np.ndarray:
    png = tmp_path / f"{name}.png"
    assert draw_curves(write(tmp_path / f"{name}.jsonl", values, **constant), png, monitor)
    return imread(png)


def test_picture_has_both_panels_and_their_lines(tmp_path):
    image = draw(tmp_path, "a", [0.1, 0.2, 0.3, 0.25])
    assert image.shape[0] > 400
    assert image.shape[1] > 1000
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 20
    assert places(image, ORANGE).sum() > 300  # the monitored metric
    assert places(image, BLUE).sum() > 100  # hr@10 beside it
    assert places(image[:, ::-1], BLUE).sum() > 100  # the loss, in the other half
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_other_data_give_another_picture_and_the_mark_moves(tmp_path):
    early, late = draw(tmp_path, "e", [0.1, 0.3, 0.1, 0.1, 0.1]), draw(tmp_path, "l", [0.1, 0.1, 0.1, 0.3, 0.1])
    assert not np.array_equal(early, late)
    marks = [int((image[:, 650:, :3].max(axis=2) < 0.6).sum(axis=0).argmax()) for image in (early, late)]
    assert marks[0] + 100 < marks[1]  # the darkest column is the dashed line at the best epoch
    assert np.array_equal(draw(tmp_path, "again", [0.1, 0.3, 0.1, 0.1, 0.1]), early)


def test_the_best_epoch_of_a_falling_metric_is_its_lowest(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, label, **_: titles.append(label))
    draw(tmp_path, "a", [0.1, 0.3, 0.2])
    path = tmp_path / "b.jsonl"
    path.write_text(
        "".join(
            json.dumps({"epoch": n, "step": n, "split": "val", "train_loss": 1.0, "logloss": v}) + "\n"
            for n, v in enumerate([0.5, 0.4, 0.6], start=1)
        )
    )
    assert draw_curves(path, tmp_path / "b.png", "logloss")
    assert "best ndcg@10 0.3000, epoch 2" in titles
    assert "best logloss 0.4000, epoch 2" in titles


def test_a_line_is_drawn_only_for_metrics_that_are_there(tmp_path):
    assert places(draw(tmp_path, "a", [0.1, 0.2]), GREEN).sum() == 0
    assert places(draw(tmp_path, "b", [0.1, 0.2], mrr=0.15), GREEN).sum() > 100


@pytest.mark.parametrize("rows", [None, ""])
def test_nothing_to_draw(tmp_path, rows):
    source, png = tmp_path / "rows.jsonl", tmp_path / "curves.png"
    if rows is not None:
        source.write_text(rows)
    assert not draw_curves(source, png, "mrr")
    assert not png.exists()


def test_pyplot_and_its_global_state_stay_out(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    draw(tmp_path, "a", [0.1, 0.2])
    assert "matplotlib.pyplot" not in sys.modules


def rows_of(path: Path, ndcgs: list[float], losses: list[float]) -> Path:
    rows = [
        {"epoch": n, "step": n, "split": "val", "train_loss": 1 / n, "ndcg@10": v, "loss": loss, "logloss": 1 - v}
        for n, (v, loss) in enumerate(zip(ndcgs, losses, strict=True), start=1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_both_losses_are_drawn(tmp_path):
    png = tmp_path / "a.png"
    assert draw_curves(rows_of(tmp_path / "a.jsonl", [0.1, 0.2, 0.3], [2.0, 1.5, 1.8]), png, "ndcg@10")
    left = imread(png)[:, ::-1]
    assert places(left, BLUE).sum() > 100
    assert places(left, PURPLE).sum() > 100


def test_a_run_chosen_by_its_loss_shows_a_metric_and_marks_the_lowest_loss(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, label, **_: titles.append(label))
    source = rows_of(tmp_path / "a.jsonl", [0.1, 0.2, 0.3], [2.0, 1.5, 1.8])
    assert draw_curves(source, tmp_path / "a.png", "loss")
    assert "best loss 1.5000, epoch 2" in titles
    assert places(imread(tmp_path / "a.png"), ORANGE).sum() > 100


def test_a_loss_that_rises_while_the_metric_improves_is_told(tmp_path):
    source = rows_of(tmp_path / "a.jsonl", [0.1, 0.2, 0.3], [2.0, 1.5, 1.8])
    says = "validation loss was lowest at epoch 2 (1.5000) and rose to 1.8000, while ndcg@10 still rose until epoch 3"
    assert rising_loss(source, "ndcg@10") == (
        f"{says} (0.2000 to 0.3000); trainer.monitor=loss would have kept epoch 2"
    )
    assert rising_loss(source, "loss") == f"{says} (0.2000 to 0.3000)"
    assert "logloss still fell until epoch 3" in str(rising_loss(source, "logloss"))
    assert rising_loss(rows_of(tmp_path / "b.jsonl", [0.1, 0.3, 0.2], [2.0, 1.5, 1.8]), "ndcg@10") is None
    assert rising_loss(rows_of(tmp_path / "c.jsonl", [0.1, 0.3, 0.2], [2.0, 1.5, 1.2]), "ndcg@10") is None
    assert rising_loss(tmp_path / "none.jsonl", "ndcg@10") is None
