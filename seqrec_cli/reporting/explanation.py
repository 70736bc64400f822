"""Which past events carried a score: a table an item, and one picture; and what the deletion test found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from seqrec_cli.reporting.curves import BLUE, GREY, ORANGE
from seqrec_cli.reporting.figures import new_figure, save_png

BAR = 20  # characters of the longest bar
LONGEST_LABEL = 40  # characters of an event in the picture
WEIGHT = {  # what a weight is, by method and scale
    (
        "attention",
        "normalised",
    ): "attention, normalised over this history: shares, which compare with no other history's",
    ("attention", "raw"): "attention, raw: signed, not normalised",
    ("leave_one_out", "raw"): "raw: the score less the score without the event",
    ("integrated_gradients", "raw"): "raw: integrated gradients, which add up to the score less its baseline",
}


@dataclass(frozen=True)
class Shown:
    """An item's score and the events that are shown of its history; ids are raw, times in seconds."""

    item: str
    score: float
    events: list[str]
    titles: list[str] | None
    times: list[int] | None
    weights: list[float]
    read: int  # how many events the model read
    note: str  # what a weight is, of `WEIGHT`, and how it was found

    def labels(self) -> list[str]:
        """The events with their times."""
        names = self.events if self.titles is None else self.titles
        short = [name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…" for name in names]
        if self.times is None:
            return short
        return [f"{event}  {_moment(time)}" for event, time in zip(short, self.times, strict=True)]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def explanation_table(whose: str, shown: Shown, order: str) -> Table:
    """One row an event, in the order given; `order` is that order in a word: weight or time."""
    first = "the heaviest first" if order == "weight" else "the oldest first"
    table = Table(
        title=escape(f"{whose}, item {shown.item}: score {shown.score:.3f}"),
        caption=escape(f"{len(shown.events)} of {shown.read} events, {first}; times in UTC; {shown.note}"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    columns = ("item", *(() if shown.titles is None else ("title",)), *(() if shown.times is None else ("time",)))
    for name in (*columns, "weight", ""):
        table.add_column(name, justify="right" if name == "weight" else "left")
    heaviest = max(map(abs, shown.weights), default=0.0) or 1.0
    signed = min(shown.weights, default=0.0) < 0
    for row, (event, weight) in enumerate(zip(shown.events, shown.weights, strict=True)):
        title = [] if shown.titles is None else [escape(shown.titles[row])]
        time = [] if shown.times is None else [_moment(shown.times[row])]
        mark = "-" if weight < 0 else "#"
        number = f"{weight:+.4f}" if signed else f"{weight:.4f}"
        table.add_row(escape(event), *title, *time, number, mark * round(BAR * abs(weight) / heaviest))
    return table


def draw_explanation(whose: str, explanations: list[Shown], png: Path) -> None:
    """Bars of the events' weights, a panel an item; negative ones in another colour."""
    tallest = max(len(shown.events) for shown in explanations)
    figure = new_figure(5.2 * len(explanations), 1.4 + 0.3 * tallest)
    for axes, shown in zip(figure.subplots(1, len(explanations), squeeze=False)[0], explanations, strict=True):
        colours = [BLUE if weight >= 0 else ORANGE for weight in shown.weights]
        axes.barh(range(len(shown.events)), shown.weights, color=colours)
        labels = [label.replace("$", r"\$") for label in shown.labels()]  # which begins a formula
        axes.set_yticks(range(len(shown.events)), labels, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=GREY, labelsize=8)
        axes.set_title(f"item {shown.item}: {shown.score:.3f}".replace("$", r"\$"), loc="left", fontsize=10)
        axes.set_xlabel(shown.note.partition(":")[0], color=GREY)
    title = f"what carried {whose}'s scores".replace("$", r"\$")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    png.parent.mkdir(parents=True, exist_ok=True)
    save_png(figure, png)


def deletion_table(rows: Sequence[tuple[str, float, float, float]], removed: int, draws: int) -> Table:
    """A row a history and item, or a mean: how much the score changed without the events named, random ones, and the
    least."""
    table = Table(
        title=f"the score's change without {removed} events",
        caption=f"absolute; random: other events, the mean of {draws} draws; least: those of the smallest weight",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("", "named", "random", "least"):
        table.add_column(name, justify="right" if name else "left")
    for label, *changes in rows:
        table.add_row(escape(label), *(f"{change:.4f}" for change in changes))
    return table
