"""A sweep as pictures: parallel coordinates of its settings, and the learning curves of its jobs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.reporting.curves import GREY, ORANGE
from seqrec_cli.reporting.figures import new_figure, save_png
from seqrec_cli.reporting.run_folder import RunFolder, read_rows
from seqrec_cli.reporting.sweep_folder import Row
from seqrec_cli.reporting.sweep_rank import best_of, monitors_of, ranked, scored, settings_of, short, varying

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NONE = "–"  # of a job that was not told the key
NAMED = 10  # curves that have a line of the legend
HEIGHT = 4.4  # inches
LABEL = 18  # characters of a value on an axis


def draw_coordinates(rows: Sequence[Row], png: Path) -> bool:
    """An axis a setting that varies, the last is the metric, a line a job; False where there is nothing to draw.

    Values stand in their order, one distance from each other: a grid's are few, and often powers of something.
    """
    monitors, keys = monitors_of(rows), varying(rows)
    done = [row for row in rows if scored(row)]
    if len(monitors) != 1 or not keys or len(done) < 2:
        return False
    values = [row["val"] for row in done]
    low, high = min(values), max(values)
    best = best_of(done, monitors)
    columns = [_places([settings_of(row).get(key, NONE) for row in done]) for key in keys]
    figure = new_figure(max(6.0, 1.9 * (len(keys) + 1)), HEIGHT)
    axes = figure.subplots()
    for row, value in sorted(zip(done, values, strict=True), key=lambda pair: pair[0] is best):
        at = [places[settings_of(row).get(key, NONE)] for key, places in zip(keys, columns, strict=True)]
        height = (value - low) / (high - low) if high > low else 0.5
        strong = row is best
        colour = ORANGE if strong else _shade(height)
        axes.plot(range(len(keys) + 1), [*at, height], color=colour, linewidth=2.8 if strong else 1.2, alpha=0.9)
    for nth, places in enumerate(columns):
        _axis(axes, nth, places)
    _axis(axes, len(keys), {f"{low:.4f}": 0.0, f"{high:.4f}": 1.0} if high > low else {f"{low:.4f}": 0.5})
    names = [*(key.rpartition(".")[2] for key in keys), f"val {monitors[0]}"]
    axes.set_xticks(range(len(names)), names, fontsize=10)
    axes.set_xlim(-0.15, len(keys) + 0.35)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    assert best is not None
    axes.set_title(f"best: job {best['job']}, {best['val']:.4f}", loc="left", fontsize=10, color=ORANGE)
    save_png(figure, png)
    return True


def _places(values: Sequence[str]) -> dict[str, float]:
    """Each value's height on its axis, numbers by size, words by name."""
    different = sorted(set(values), key=_order)
    if len(different) == 1:
        return {different[0]: 0.5}
    return {value: nth / (len(different) - 1) for nth, value in enumerate(different)}


def _order(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), ""
    except ValueError:
        return True, 0.0, value


def _axis(axes: "Axes", nth: int, labels: dict[str, float]) -> None:
    axes.axvline(nth, color="#BBBBBB", linewidth=1, zorder=0)
    for value, place in labels.items():
        shown = value if len(value) <= LABEL else f"{value[: LABEL - 1]}…"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
        axes.text(nth + 0.03, place, shown, fontsize=9, color=GREY, va="center", bbox=box)


def _shade(height: float) -> tuple[float, float, float]:
    """From light to dark blue, the better the darker."""
    light, dark = (0.78, 0.86, 0.92), (0.0, 0.36, 0.60)
    return tuple(a + (b - a) * height for a, b in zip(light, dark, strict=True))  # type: ignore[return-value]


def draw_job_curves(rows: Sequence[Row], png: Path) -> bool:
    """The monitored metric of each job by epoch, also of jobs that did not end well (dashed); False without any."""
    monitors, keys = monitors_of(rows), varying(rows)
    if len(monitors) != 1:
        return False
    monitor, best = monitors[0], best_of(rows, monitors)
    curves = [(row, points) for row in rows if (points := curve_of(row, monitor))]
    if not curves:
        return False
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(9.0, HEIGHT)
    axes = figure.subplots()
    order = [row["job"] for row in ranked(rows, monitors)]
    for row, points in sorted(curves, key=lambda pair: pair[0] is best):
        strong, broken = row is best, bool(row["error"])
        colour = ORANGE if strong else GREY if broken else _shade(1 - order.index(row["job"]) / len(order))
        label = f"{row['job']}: {short(row, keys)}" if strong or len(curves) <= NAMED else None
        epochs, values = zip(*points, strict=True)
        style = "--" if broken else "-"
        marker = "o" if len(points) == 1 else None
        axes.plot(epochs, values, style, color=colour, label=label, marker=marker, markersize=4,
                  linewidth=2.6 if strong else 1.3)  # fmt: skip
    axes.set_xlabel("epoch", color=GREY)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(f"validation {monitor}", loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, loc="best")
    save_png(figure, png)
    return True


def curve_of(row: Row, monitor: str) -> list[tuple[int, float]]:
    """Epochs and values of a job's validations; of several seeds their mean, where every one has come so far."""
    if not row["run_dir"]:
        return []
    top = Path(row["run_dir"])
    folders = sorted(top.glob("seed_*")) or [top]
    found = [_points(RunFolder(folder), monitor) for folder in folders]
    shared = [epoch for epoch in found[0] if all(epoch in each for each in found)]
    return [(epoch, sum(each[epoch] for each in found) / len(found)) for epoch in shared]


def _points(run: RunFolder, monitor: str) -> dict[int, float]:
    try:
        rows: list[dict[str, Any]] = read_rows(run.metrics_jsonl)
    except (OSError, SeqrecError):  # of a job that was killed while it wrote
        return {}
    return {row["epoch"]: row[monitor] for row in rows if row["split"] == "val" and row.get(monitor) is not None}
