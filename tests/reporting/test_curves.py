"""The learning curves' picture: it is one, it shows the rows, it marks the best epoch."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from seqrec_cli.reporting.curves import BLUE, GREEN, ORANGE, draw_curves


def write(path: Path, values: list[float], **constant: float) -> Path:
    rows = [
        {"epoch": n, "step": 10 * n, "train_loss": 5.0 / n, "ndcg@10": v, "hr@10": v + 0.1, **constant}
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
            json.dumps({"epoch": n, "step": n, "train_loss": 1.0, "logloss": v}) + "\n"
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
