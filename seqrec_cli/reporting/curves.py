"""Learning curves of a run as a picture: training loss and validation metrics, the best epoch marked."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.files import atomic_file
from seqrec_cli.metrics.table import lower_is_better
from seqrec_cli.reporting.run_folder import read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # half a second to import: only when something is drawn

LOSS = "train_loss"
# Drawn with the monitored metric: those of a like scale. Logloss has one of its own and is drawn alone.
ALIKE = (("hr@10", "ndcg@10", "mrr"), ("auc", "gauc", "corpus_auc"), ("logloss",))
# Okabe and Ito's palette: distinct with every common kind of colour blindness.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#666666"
FEW = 15  # fewer points than this are marked one by one


def draw_curves(metrics_jsonl: Path, png: Path, monitor: str) -> bool:
    """Draw the rows of `metrics_jsonl` to `png`; False, and no picture, when no row has the `monitor` metric."""
    rows = [row for row in read_rows(metrics_jsonl) if monitor in row]
    if not rows:
        return False

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    best = (min if lower_is_better(monitor) else max)(rows, key=lambda row: row[monitor])
    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, title in ((left, "training loss"), (right, "validation")):
        _prepare(axes, title, best["epoch"])

    _line(left, rows, LOSS, colour=BLUE, width=2.2)
    _line(right, rows, monitor, colour=ORANGE, width=2.4)
    right.plot(best["epoch"], best[monitor], "o", color=ORANGE, markersize=9, markeredgecolor="white", zorder=3)
    alike = next((names for names in ALIKE if monitor in names), ALIKE[0])
    others = [name for name in alike if name != monitor and name in rows[0]]
    for name, colour in zip(others, (BLUE, GREEN, PURPLE), strict=False):
        _line(right, rows, name, colour=colour, width=1.4)
    right.set_title(f"best {monitor} {best[monitor]:.4f}, epoch {best['epoch']}", loc="right", fontsize=9, color=GREY)
    right.legend(frameon=False, fontsize=9, loc="best")

    with atomic_file(png) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
    return True


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
