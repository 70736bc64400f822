"""Validation quality against training time, of several runs in one picture.

    python -m scripts.draw_convergence outputs/sasrec outputs/hstu=HSTU --metric ndcg@10 --out convergence.png

A run is a folder that `seqrec train` wrote; its curve is called as what follows `=`, or as the folder. Times are those
of each run, validation included: on one machine, beside the same other work, they can be compared. With `--steady`
every epoch of a run takes its median epoch's time, for runs that other work held up now and then.
"""

import argparse
import itertools
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.metrics.table import lower_is_better
from seqrec_cli.reporting.curves import BLUE, GREEN, ORANGE, PURPLE
from seqrec_cli.reporting.run_folder import read_rows

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#000000")  # the rest of the same palette


def curve(folder: Path, metric: str, steady: bool = False) -> list[tuple[float, float]]:
    """(minutes of training, the metric) of every validation. Raises SeqrecError where there is none.

    `steady`: minutes are epochs of the median length.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise SeqrecError(f"{folder}: no metrics.jsonl in it; give a folder that seqrec train wrote")
    rows = [row for row in read_rows(path) if row["split"] == "val"]
    if steady:
        before = [{"epoch": 0, "seconds": 0.0}, *rows]
        epochs = [
            (b["seconds"] - a["seconds"]) / (b["epoch"] - a["epoch"])
            for a, b in itertools.pairwise(before)
            if b["epoch"] > a["epoch"]
        ]
        length = statistics.median(epochs or [0.0])
        rows = [{**row, "seconds": row["epoch"] * length} for row in rows]
    points = [(row["seconds"] / 60, row[metric]) for row in rows if metric in row and math.isfinite(row[metric])]
    if not points:
        have = sorted(name for name, value in (rows or [{}])[-1].items() if isinstance(value, float))
        raise SeqrecError(f"{folder}: no validation has --metric {metric} (have: {', '.join(have) or 'none'})")
    return points


def draw(curves: dict[str, list[tuple[float, float]]], metric: str, out: Path) -> None:
    """One line a run, with its best value in the legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    best = min if lower_is_better(metric) else max
    figure = Figure(figsize=(8, 4.6), dpi=120, layout="constrained")
    axes: Any = figure.subplots()
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        minutes, values = zip(*points, strict=True)
        axes.plot(minutes, values, color=colour, linewidth=2, label=f"{name}, best {best(values):.4f}")
    axes.set_xlabel("minutes of training, validation included")
    axes.set_title(f"validation {metric}", loc="left", fontsize=11, fontweight="bold")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.legend(frameon=False, loc="lower right")
    FigureCanvasAgg(figure).print_png(str(out))


def main(argv: list[str] | None = None) -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN[=NAME]", help=f"run folders, {len(COLOURS)} at most")
    parser.add_argument("--metric", default="ndcg@10", help="default: %(default)s")
    parser.add_argument("--steady", action="store_true", help="count epochs of each run's median length")
    parser.add_argument("--out", type=Path, default=Path("convergence.png"), help="default: %(default)s")
    asked = parser.parse_args(argv)
    try:
        if len(asked.runs) > len(COLOURS):
            raise SeqrecError(f"{len(asked.runs)} runs are more than a picture can tell apart; give {len(COLOURS)}")
        curves = {}
        for run in asked.runs:
            folder, _, name = run.partition("=")
            curves[name or Path(folder).name] = curve(Path(folder), asked.metric, asked.steady)
        if not asked.out.absolute().parent.is_dir():
            raise SeqrecError(f"--out {asked.out}: no such folder")
        draw(curves, asked.metric, asked.out)
    except SeqrecError as error:
        print(f"draw_convergence.py: {error}", file=sys.stderr)
        return 2
    print(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
