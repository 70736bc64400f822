"""Learning curves of a run as a picture: both losses beside validation metrics, the best epoch marked."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.metrics.table import LOSS, lower_is_better
from seqrec_cli.reporting.figures import new_figure, save_png
from seqrec_cli.reporting.run_folder import read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # half a second to import: only when something is drawn

TRAIN_LOSS = "train_loss"
# Drawn with the monitored metric: those of a like scale. Logloss has one of its own and is drawn alone.
ALIKE = (("hr@10", "ndcg@10", "mrr"), ("auc", "gauc", "corpus_auc"), ("logloss",))
BESIDE_LOSS = ("ndcg@10", "hr@10", "auc", "mrr")
# Okabe and Ito's palette: distinct with every common kind of colour blindness.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#666666"
FEW = 15  # fewer points than this are marked one by one


def draw_curves(metrics_jsonl: Path, png: Path, monitor: str) -> bool:
    """Draw the rows of `metrics_jsonl` to `png`; False, and no picture, when no row has the `monitor` metric."""
    rows = [row for row in read_rows(metrics_jsonl) if monitor in row]
    if not rows:
        return False

    best = (min if lower_is_better(monitor) else max)(rows, key=lambda row: row[monitor])
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    for axes, title in ((left, "loss"), (right, "validation")):
        _prepare(axes, title, best["epoch"])

    _line(left, rows, TRAIN_LOSS, colour=BLUE, width=2.2)
    _line(left, rows, LOSS, colour=PURPLE, width=2.2)
    if any(LOSS in row for row in rows):
        left.legend(["training", "validation"], frameon=False, fontsize=9, loc="best")
    metric = _metric(rows, monitor) or monitor
    _line(right, rows, metric, colour=ORANGE, width=2.4)
    right.plot(best["epoch"], best[metric], "o", color=ORANGE, markersize=9, markeredgecolor="white", zorder=3)
    alike = next((names for names in ALIKE if metric in names), ALIKE[0])
    others = [name for name in alike if name != metric and name in rows[0]]
    for name, colour in zip(others, (BLUE, GREEN, PURPLE), strict=False):
        _line(right, rows, name, colour=colour, width=1.4)
    right.set_title(f"best {monitor} {best[monitor]:.4f}, epoch {best['epoch']}", loc="right", fontsize=9, color=GREY)
    right.legend(frameon=False, fontsize=9, loc="best")

    save_png(figure, png)
    return True


def rising_loss(metrics_jsonl: Path, monitor: str) -> str | None:
    """One line where the validation loss was lowest before the metric was best: the two choose different epochs.

    A run that is chosen by its loss is told of the metric that its picture shows.
    """
    rows = [row for row in read_rows(metrics_jsonl) if row["split"] == "val" and LOSS in row]
    metric = _metric(rows, monitor)
    if metric is None:
        return None
    lowest = min(rows, key=lambda row: row[LOSS])
    best = (min if lower_is_better(metric) else max)(rows, key=lambda row: row[metric])
    if lowest["epoch"] >= best["epoch"]:
        return None
    still = "fell" if lower_is_better(metric) else "rose"
    kept = "" if monitor == LOSS else f"; trainer.monitor=loss would have kept epoch {lowest['epoch']}"
    return (
        f"validation loss was lowest at epoch {lowest['epoch']} ({lowest[LOSS]:.4f}) and rose to {best[LOSS]:.4f}, "
        f"while {metric} still {still} until epoch {best['epoch']} ({lowest[metric]:.4f} to {best[metric]:.4f}){kept}"
    )


def _metric(rows: list[dict[str, Any]], monitor: str) -> str | None:
    """The monitored metric, or for a run chosen by its loss the first of `BESIDE_LOSS` that it has."""
    names = BESIDE_LOSS if monitor == LOSS else (monitor,)
    return next((name for name in names if rows and name in rows[0]), None)


def _prepare(axes: "Axes", title: str, best_epoch: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("epoch", color=GREY)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#BBBBBB")
    axes.tick_params(colors=GREY, labelsize=9)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=(0, (4, 3)))


def _line(axes: "Axes", rows: list[dict[str, Any]], name: str, *, colour: str, width: float) -> None:
    points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None and math.isfinite(row[name])]
    if points:
        epochs, values = zip(*points, strict=True)
        marker = "o" if len(points) < FEW else None
        axes.plot(epochs, values, color=colour, linewidth=width, label=name, marker=marker, markersize=4)
