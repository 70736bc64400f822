"""A rollout for a person: a table with a row a step, the sequences as Parquet, and a picture.

Legend: R requests, n steps.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from seqrec_cli.data.arrow import from_numpy
from seqrec_cli.files import atomic_file
from seqrec_cli.reporting.curves import BLUE, GREEN, GREY, ORANGE
from seqrec_cli.reporting.figures import new_figure, save_png
from seqrec_cli.reporting.tables import plain_table

COLOURS = {"rollout": ORANGE, "plain": BLUE, "truth": GREY, "given_truth": GREEN}
WORDS = {"rollout": "rollout", "plain": "top n", "truth": "truth", "given_truth": "given truth"}
SHORT = {"rollout": "own", "plain": "top", "truth": "true", "given_truth": "given"}  # 80 characters hold all columns
COLUMNS = {"hit": "hit", "in_set": "in\nset", "popularity": "pop", "different_items": "vary"}


def rollout_table(result: Mapping[str, Any]) -> Table:
    """A row a step, the rollout beside the plain top n of the first step; below, the overlap of all steps."""
    by = result["by"] + "".join(
        f", {name} {result[name]:g}" for name in ("temperature", "top_p", "width") if name in result
    )
    overlap, error = result["overlap"], result["overlap_difference_error"]
    table = plain_table(
        f"{result['model']} on {result['dataset']}, {result['steps']} steps, {by}",
        (
            f"{result['requests']:,} users, {result['targets']:,} events held out; of a user's held-out events the "
            f"rollout has {overlap['rollout']:.4f}, the top {result['steps']} of the first step {overlap['plain']:.4f} "
            f"(difference {result['overlap_difference']:+.4f} ± {error:.4f}, one standard error)\n"
            "own: the rollout; top: the list of the first step; true: what came; given: after the true events\n"
            f"hit: the event of that very step; in set: any held-out event; found: it is among the {result['cutoff']} "
            "best of the step; pop: the share of items trained on less; vary: different items, per user"
        ),
        padding=(0,),
    )
    columns = [(metric, kind) for metric, kinds in result["by_step"].items() for kind in kinds]
    table.add_column("", justify="right")
    for metric, kind in columns:
        table.add_column(f"{COLUMNS.get(metric, 'found')}\n{SHORT[kind]}", justify="right", vertical="bottom")
    for step in range(result["steps"]):
        cells = [f"{result['by_step'][metric][kind][step]:.3f}".removeprefix("0") for metric, kind in columns]
        table.add_row(str(step + 1), *cells)
    return table


def save_rollouts(
    path: Path, *, rows_R: np.ndarray, items_Rn: np.ndarray, targets_Rn: np.ndarray, ids: tuple[np.ndarray, np.ndarray]
) -> None:
    """A row a user and step: the item said and the one that came, by index from 1 (0: a repeat that could not) and,
    with the raw ids `ids` of users [R] and said items [R * n], by these."""
    steps = items_Rn.shape[1]
    columns = {
        "user": np.repeat(ids[0], steps),
        "user_index": np.repeat(rows_R + 1, steps),
        "step": np.tile(np.arange(1, steps + 1), len(items_Rn)),
        "item": ids[1],
        "item_index": items_Rn.ravel(),
        "target_index": targets_Rn.ravel(),
    }
    with atomic_file(path) as temporary:
        pq.write_table(pa.table({name: from_numpy(values) for name, values in columns.items()}), temporary)


def draw_rollout(png: Path, result: Mapping[str, Any]) -> None:
    """A panel a metric, along the steps."""
    panels = dict(result["by_step"])
    panels |= {f"pairs alike by {name}": kinds for name, kinds in result["pairs_alike"].items()}
    columns = 3
    rows = -(-len(panels) // columns)
    figure = new_figure(4 * columns, 3.1 * rows, dpi=110)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for each, (name, kinds) in zip(axes, panels.items(), strict=False):
        for kind, values in kinds.items():
            first = 1 + result["steps"] - len(values)  # likeness begins with the second step
            steps = range(first, first + len(values))
            each.plot(steps, values, color=COLOURS[kind], label=WORDS[kind], marker="o", markersize=3)
        each.set_title(name.replace("_", " "), loc="left", fontsize=10)
        each.set_xlabel("step", color=GREY)
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=GREY, labelsize=8)
        each.legend(frameon=False, fontsize=8)
    for each in axes[len(panels) :]:
        each.set_visible(False)
    figure.suptitle(f"{result['model']} on {result['dataset']}, {result['by']}", x=0.01, ha="left", fontsize=11)
    save_png(figure, png)
