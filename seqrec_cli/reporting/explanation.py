"""Which past events carried a score: a table an item, and one picture."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from seqrec_cli.reporting.curves import BLUE, GREY, ORANGE
from seqrec_cli.reporting.figures import new_figure, save_png

BAR = 20  # characters of the longest bar


@dataclass(frozen=True)
class Explained:
    """An item's score and the events that weighed most in it, heaviest first; ids are raw, times in seconds."""

    item: str
    score: float
    events: list[str]
    times: list[int] | None
    weights: list[float]

    def labels(self) -> list[str]:
        """The events with their times."""
        if self.times is None:
            return self.events
        return [f"{event}  {_moment(time)}" for event, time in zip(self.events, self.times, strict=True)]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def explanation_table(user: str, explained: Explained, events: int) -> Table:
    """One row an event; of `events` in the history the heaviest are shown."""
    table = Table(
        title=escape(f"user {user}, item {explained.item}: logit {explained.score:.3f}"),
        caption=f"the heaviest of {events} events; times in UTC",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("item", *(() if explained.times is None else ("time",)), "weight", ""):
        table.add_column(name, justify="right" if name == "weight" else "left")
    heaviest = max(map(abs, explained.weights), default=0.0) or 1.0
    for row, (event, weight) in enumerate(zip(explained.events, explained.weights, strict=True)):
        time = [] if explained.times is None else [_moment(explained.times[row])]
        table.add_row(escape(event), *time, f"{weight:.4f}", "#" * round(BAR * abs(weight) / heaviest))
    return table


def draw_explanation(user: str, explanations: list[Explained], png: Path) -> None:
    """Bars of the events' weights, a panel an item; negative ones in another colour."""
    tallest = max(len(explained.events) for explained in explanations)
    figure = new_figure(5.2 * len(explanations), 1.2 + 0.3 * tallest)
    for axes, explained in zip(figure.subplots(1, len(explanations), squeeze=False)[0], explanations, strict=True):
        colours = [BLUE if weight >= 0 else ORANGE for weight in explained.weights]
        axes.barh(range(len(explained.events)), explained.weights, color=colours)
        axes.set_yticks(range(len(explained.events)), explained.labels(), fontsize=8)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=GREY, labelsize=8)
        axes.set_title(f"item {explained.item}: {explained.score:.3f}", loc="left", fontsize=10)
        axes.set_xlabel("weight", color=GREY)
    figure.suptitle(f"what user {user}'s scores looked at", x=0.01, ha="left", fontsize=11, fontweight="bold")
    png.parent.mkdir(parents=True, exist_ok=True)
    save_png(figure, png)
