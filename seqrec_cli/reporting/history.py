"""Length against quality: one checkpoint's metrics and its time, by how many of the latest events it reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from seqrec_cli.reporting.figures import new_figure, save_png
from seqrec_cli.reporting.tables import CLOSE, plain_table, shown_metrics

TIME = "ms_a_user"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"  # as in the learning curves


def history_table(rows: Sequence[Mapping[str, float]], title: str) -> Table:
    """A row a length."""
    table = plain_table(title, padding=CLOSE)
    columns = shown_metrics(_metrics(rows))
    for name in ("events", *columns, "ms/user"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(f"{row['history']:.0f}", *(f"{row[name]:.4f}" for name in columns), f"{row[TIME]:.3f}")
    return table


def draw_history(png: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """NDCG, or else the first metric that is shown, and the time beside it, over the length."""
    columns = shown_metrics(_metrics(rows))
    metric = next((name for name in columns if name.startswith("ndcg")), columns[0])
    figure = new_figure(10, 4.2)
    lengths = [row["history"] for row in rows]
    for axes, name, title, colour in zip(
        figure.subplots(1, 2), (metric, TIME), (metric, "milliseconds a user"), (ORANGE, BLUE), strict=True
    ):
        axes.plot(lengths, [row[name] for row in rows], color=colour, linewidth=2.2, marker="o")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel("latest events read", color=GREY)
        axes.set_xticks(lengths)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    save_png(figure, png)


def _metrics(rows: Sequence[Mapping[str, float]]) -> list[str]:
    return [name for name in rows[0] if name not in ("history", TIME)]
