"""Exposure by owner for a person: a table with a row a strength, the owners' prices as Parquet, and a picture.

Legend: O owners.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from seqrec_cli.data.arrow import from_numpy
from seqrec_cli.data.owners import Owners
from seqrec_cli.files import atomic_file
from seqrec_cli.reporting.curves import BLUE, GREY
from seqrec_cli.reporting.figures import new_figure, save_png
from seqrec_cli.reporting.tables import plain_table

WORDS = {"distance": "distance", "gini": "gini", "never_shown": "never\nshown"}


def exposure_table(result: Mapping[str, Any]) -> Table:
    """A row a strength: what is found, and how owners are shown."""
    table = plain_table(
        f"{result['model']} on {result['dataset']}, {result['split']}, lists of {result['cutoff']}",
        f"{result['owners']:,} owners of {result['owned_items']:,} of {result['items']:,} items; strength: the most "
        f"that an owner's price may be, in standard deviations of a list's scores ({result['unit']:.3f})\n"
        "distance: the part of the exposure (places discounted by 1 / log2(1 + r)) that would have to change owners to "
        "be in proportion to their training events; gini: how unevenly owners are shown; never shown: owners in no "
        "list",
    )
    for name in result["rows"][0]:
        table.add_column(WORDS.get(name, name), justify="right", vertical="bottom")
    for row in result["rows"]:
        table.add_row(f"{row['strength']:g}", *(f"{row[name]:.4f}" for name in row if name != "strength"))
    return table


def save_prices(path: Path, *, ids: np.ndarray, owners: Owners, prices: Mapping[float, np.ndarray]) -> None:
    """A row an owner: the user's raw id, the target, and the price at each strength, in units of score."""
    columns = {"owner": ids, "owner_index": owners.users_O, "target": owners.target_O}
    columns |= {f"price_{strength:g}": price_O for strength, price_O in prices.items()}
    with atomic_file(path) as temporary:
        pq.write_table(pa.table({name: from_numpy(values) for name, values in columns.items()}), temporary)


def draw_exposure(png: Path, result: Mapping[str, Any]) -> None:
    """NDCG against the distance, a point a strength."""
    rows, ndcg = result["rows"], f"ndcg@{result['cutoff']}"
    figure = new_figure(5, 3.4, dpi=110)
    axes = figure.subplots()
    axes.plot([row["distance"] for row in rows], [row[ndcg] for row in rows], color=BLUE, marker="o", markersize=4)
    for row in rows:
        axes.annotate(f"{row['strength']:g}", (row["distance"], row[ndcg]), color=GREY, fontsize=8)
    axes.set_xlabel("distance of owners' exposure from what they interact", color=GREY)
    axes.set_ylabel(ndcg, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY, labelsize=8)
    axes.set_title(f"{result['model']} on {result['dataset']}, a point a strength", loc="left", fontsize=10)
    save_png(figure, png)
