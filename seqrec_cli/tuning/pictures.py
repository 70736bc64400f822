"""A study in pictures: its history, which settings mattered, and how the metric goes along one or two of them."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_cli.config.tuning import SpaceEntry
from seqrec_cli.reporting.curves import BLUE, GREY, ORANGE
from seqrec_cli.reporting.figures import new_figure, save_png
from seqrec_cli.tuning.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # half a second to import: only when something is drawn

LEAST = 4  # complete trials, of which importance and a plane say something
ACROSS = 3  # slices in a row


def importance(study: Study) -> dict[str, float]:
    """How much each setting tells good trials from bad ones (PED-ANOVA), the largest first; none of too few trials."""
    from optuna.importance import get_param_importances

    complete = [record for record in study.records() if record.state == "complete"]
    if len(complete) < LEAST or len({record.value for record in complete}) < 2:
        return {}
    try:
        return {key: float(value) for key, value in get_param_importances(study.optuna).items()}
    except (RuntimeError, ValueError):  # no setting that every trial has
        return {}


def draw_study(study: Study, folder: Path) -> list[Path]:
    """Write the pictures that the trials allow; their paths."""
    weights = importance(study)
    found = [_history(study, folder / "history.png")]
    complete = [record for record in study.records() if record.value is not None]
    if weights:
        found.append(_bars(weights, folder / "importance.png"))
    if len(complete) > 1:
        found.append(_slices(study, folder / "slices.png"))
    two = [key for key in (weights or study.space.entries) if _spread(study, key) > 1][:2]
    if len(complete) >= LEAST and len(two) == 2:
        found.append(_contour(study, (two[0], two[1]), folder / "contour.png"))
    return found


def _prepare(axes: "Axes", title: str, *, x: str = "", y: str = "") -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=GREY)
    axes.set_ylabel(y, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#BBBBBB")
    axes.tick_params(colors=GREY, labelsize=9)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)


def _history(study: Study, png: Path) -> Path:
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(8, 4)
    axes = figure.subplots()
    _prepare(axes, f"validation {study.metric} of {len(study.records())} trials", x="trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    whole = [(record.number, record.value) for record in study.records() if record.value is not None]
    early = [(each.number, each.best.value) for each in study.records() if each.state == "pruned" and each.best]
    better = max if study.maximise else min
    if early:
        numbers, values = zip(*early, strict=True)
        axes.scatter(numbers, values, color=GREY, s=18, marker="x", label="ended early (best so far)")
    if whole:
        numbers, values = zip(*whole, strict=True)
        axes.scatter(numbers, values, color=BLUE, s=22, label="run to its end")
        best = [better(value for _, value in whole[: nth + 1]) for nth in range(len(whole))]
        axes.step([number for number, _ in whole], best, where="post", color=ORANGE, linewidth=1.8, label="best")
    if whole or early:
        axes.legend(frameon=False, fontsize=9)
    save_png(figure, png)
    return png


def _bars(weights: dict[str, float], png: Path) -> Path:
    figure = new_figure(8, 0.9 + 0.34 * len(weights))
    axes = figure.subplots()
    _prepare(axes, "what tells good trials from bad ones (PED-ANOVA)")
    names = list(reversed(weights))
    axes.barh(names, [weights[name] for name in names], color=BLUE)
    axes.grid(visible=False)
    save_png(figure, png)
    return png


def _slices(study: Study, png: Path) -> Path:
    keys = list(study.space.entries)
    rows = math.ceil(len(keys) / ACROSS)
    figure = new_figure(10, 2.6 * rows)
    for axes, key in zip(figure.subplots(rows, ACROSS, squeeze=False).flat, keys, strict=False):
        _prepare(axes, "", x=key)
        having = [record for record in study.records() if record.value is not None and key in record.settings]
        values, ticks = _positions(study.space.entries[key], [record.settings[key] for record in having])
        numbers = [record.number for record in having]
        axes.scatter(
            values, [record.value for record in having], c=numbers, cmap="Blues", s=20, edgecolors=GREY, lw=0.4
        )
        _scale(axes, study.space.entries[key], ticks, along="x")
    for axes in list(figure.axes)[len(keys) :]:
        axes.set_visible(False)
    figure.suptitle(f"validation {study.metric} by setting (dark: later trials)", x=0.01, ha="left", fontsize=11)
    save_png(figure, png)
    return png


def _contour(study: Study, keys: tuple[str, str], png: Path) -> Path:
    """The metric over the two settings that matter most: by triangles between the trials where these span a plane."""
    having = [each for each in study.records() if each.value is not None and all(key in each.settings for key in keys)]
    figure = new_figure(7, 5)
    axes = figure.subplots()
    _prepare(axes, f"validation {study.metric}", x=keys[0], y=keys[1])
    points: list[list[float]] = []
    for key, along in zip(keys, "xy", strict=True):
        entry = study.space.entries[key]
        positions, ticks = _positions(entry, [record.settings[key] for record in having])
        points.append(positions)
        _scale(axes, entry, ticks, along=along)
    values = [record.value or 0.0 for record in having]
    with contextlib.suppress(ValueError, RuntimeError):  # fewer than three different points, or all on a line
        axes.tricontourf(points[0], points[1], values, levels=12, cmap="Blues", alpha=0.8)
    drawn = axes.scatter(points[0], points[1], c=values, cmap="Blues", edgecolors=GREY, s=28)
    figure.colorbar(drawn, ax=axes)
    save_png(figure, png)
    return png


def _positions(entry: SpaceEntry, values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """Where values stand on an axis: numbers at themselves, choices side by side, with their names."""
    if entry.type != "choice":
        return [float(value) for value in values], []
    names = [_name(value) for value in entry.values or ()]
    return [float(names.index(_name(value))) for value in values], names


def _name(value: Any) -> str:
    return str(list(value)) if isinstance(value, list | tuple) else str(value)


def _scale(axes: "Axes", entry: SpaceEntry, ticks: list[str], *, along: str) -> None:
    """An axis over all values that the space has, tried or not."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    axis, limits = (axes.xaxis, axes.set_xlim) if along == "x" else (axes.yaxis, axes.set_ylim)
    if ticks:
        axis.set_ticks(range(len(ticks)), ticks)
        limits(-0.5, len(ticks) - 0.5)
        return
    low, high = entry.ends
    if entry.log:
        (axes.set_xscale if along == "x" else axes.set_yscale)("log")
        axis.set_minor_formatter(NullFormatter())
        limits(low / 1.15, high * 1.15)
        return
    if entry.type == "int":
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    margin = (high - low) * 0.05 or 0.5
    limits(low - margin, high + margin)


def _spread(study: Study, key: str) -> int:
    """How many values of a setting complete trials have."""
    return len(
        {_name(each.settings[key]) for each in study.records() if each.value is not None and key in each.settings}
    )
