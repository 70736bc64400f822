"""An audit for a person: a table with a verdict a line, one of what other orders change, and a picture.

Legend: U users, V items.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts
from seqrec_cli.reporting.curves import BLUE, GREEN, GREY, ORANGE, PURPLE
from seqrec_cli.reporting.figures import new_figure, save_png
from seqrec_cli.reporting.tables import CLOSE, plain_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plain = Mapping[str, Any]  # an audit as audit.json has it

STYLES = {"ok": "green", "look": "yellow", "leak": "bold red", "unknown": "dim"}
WORDS = {"unknown": "cannot tell"}
LEGEND = "ok: no trace; look: it changes what a metric means; leak: what is asked was told"


def audit_table(title: str, found: Plain) -> Table:
    """A verdict a line: the question, the answer with its number, and what to do."""
    sampled = ""
    if found["sampled_users"] < found["users"]:
        sampled = f"\norder and shortcuts: of {found['sampled_users']:,} of {found['users']:,} users, drawn at random"
    table = plain_table(f"audit of {title}", LEGEND + sampled, padding=CLOSE)
    table.add_column("", no_wrap=False, max_width=18)
    table.add_column("verdict", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    for finding in found["findings"].values():
        style, word = STYLES[finding["verdict"]], WORDS.get(finding["verdict"], finding["verdict"])
        todo = f"\n[italic]-> {escape(finding['advice'])}[/italic]" if finding["advice"] else ""
        table.add_row(escape(finding["question"]), f"[{style}]{word}[/{style}]", escape(finding["found"]) + todo)
    return table


def changes_of(found: Plain) -> list[Plain]:
    """What other orders change, of ties and of bursts."""
    effects = (found["findings"].get(f"{order}_effect") for order in ("ties", "bursts"))
    return [change for effect in effects if effect is not None for change in effect["numbers"]["changes"]]


def changes_table(changes: Sequence[Plain]) -> Table:
    """A row an order and model: each metric as logged, then in the other order, with its spread over shuffles."""
    table = plain_table("metrics on val when events change their order")
    metrics = list(changes[0]["mean"])
    for column in ("order", "model", *metrics):
        table.add_column(column, justify="right" if column in metrics else "left", overflow="fold")
    shown = ""
    for change in changes:
        if change["order"] != shown:
            table.add_section()
        cells = [
            f"{change['as_logged'][name]:.4f} > {change['mean'][name]:.4f} ± {change['std'][name]:.4f}"
            for name in metrics
        ]
        order = "" if change["order"] == shown else escape(change["order"])
        table.add_row(order, escape(change["model"]), *cells)
        shown = change["order"]
    return table


# Of a corpus, as `evaluation/audit/language.py` counts it: what stands in a row, and how it is written.
COUNTED = {
    "tokens": ("tokens", ",.0f"),
    "types": ("types", ",.0f"),
    "tokens_a_type": ("tokens a type", ".1f"),
    "seen_once": ("types seen once", ".1%"),
    "zipf_exponent": ("Zipf exponent", ".2f"),
    "entropy_bits": ("entropy, bits", ".2f"),
    "perplexity_1": ("perplexity: alone", ",.0f"),
    "perplexity_2": ("  after one token", ",.0f"),
    "perplexity_3": ("  after two", ",.0f"),
    "shuffled_3": ("  after two, shuffled", ",.0f"),
    "bits_of_order": ("bits of the order", ".2f"),
    "repeated": ("seen in the last 100", ".1%"),
    "pairs_a_token": ("distinct pairs a pair", ".2f"),
    "known_pairs": ("held-out pairs known", ".1%"),
}


def language_table(corpora: Plain) -> Table:
    """A column a corpus: events, help texts, titles."""
    table = plain_table(
        "events beside English", "perplexity: of held-out users or texts, in equally likely items or words"
    )
    for name in ("", *corpora):
        table.add_column(escape(name.replace("_", " ")), justify="left" if not name else "right")
    for key, (words, form) in COUNTED.items():
        values = [corpus[key] for corpus in corpora.values()]
        table.add_row(words, *("" if value is None else format(value, form) for value in values))
    return table


def draw_audit(png: Path, title: str, *, log: PackedLog, found: Plain) -> None:
    """Four panels: item popularity, history lengths, gaps between events, and what other orders change."""
    figure = new_figure(11, 7.4, dpi=110)
    axes = figure.subplots(2, 2)
    _popularity(axes[0, 0], log, found)
    _lengths(axes[0, 1], log)
    _gaps(axes[1, 0], log, found)
    _changes(axes[1, 1], found)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=GREY, labelsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    png.parent.mkdir(parents=True, exist_ok=True)
    save_png(figure, png)


def _popularity(axes: "Axes", log: PackedLog, found: Plain) -> None:
    counts_V = np.sort(training_counts(log)[1:])[::-1]
    counts_V = counts_V[counts_V > 0]
    axes.loglog(np.arange(1, len(counts_V) + 1), counts_V, color=BLUE, linewidth=2)
    numbers = found["findings"]["popularity"]["numbers"]
    exponent = numbers["zipf_exponent"]
    zipf = "" if exponent is None else f", Zipf exponent {exponent:.2f}"
    axes.set_title(f"popularity: Gini {numbers['gini']:.2f}{zipf}", loc="left", fontsize=10)
    axes.set_xlabel("item, by rank", color=GREY)
    axes.set_ylabel("training events", color=GREY)


def _lengths(axes: "Axes", log: PackedLog) -> None:
    lengths_U = np.diff(log.offsets_U1)
    bins = np.unique(np.geomspace(1, max(int(lengths_U.max(initial=1)), 2) + 1, 40).round())
    axes.hist(lengths_U, bins=bins.tolist(), color=GREEN)
    axes.set_xscale("log")
    axes.set_title(f"history length: median {np.median(lengths_U):,.0f}", loc="left", fontsize=10)
    axes.set_xlabel("events", color=GREY)
    axes.set_ylabel("users", color=GREY)


def _gaps(axes: "Axes", log: PackedLog, found: Plain) -> None:
    if log.times_N is None or found["findings"]["clock"]["numbers"]["kind"] != "real":
        axes.text(0.5, 0.5, "no common clock", ha="center", color=GREY, transform=axes.transAxes)
        axes.set_title("time between events", loc="left", fontsize=10)
        return
    end = int(log.offsets_U1[min(log.num_users, int(np.searchsorted(log.offsets_U1, 4_000_000)))])
    gaps = np.diff(np.asarray(log.times_N[:end]))
    first = np.zeros(end, bool)
    first[np.asarray(log.offsets_U1[:-1])[np.asarray(log.offsets_U1[:-1]) < end]] = True
    gaps = gaps[~first[1:]]
    axes.hist(
        np.maximum(gaps, 0.5), bins=np.geomspace(0.5, max(float(gaps.max(initial=1)), 2), 60).tolist(), color=PURPLE
    )
    axes.set_xscale("log")
    axes.set_title("time between a user's events (0 is drawn at 0.5)", loc="left", fontsize=10)
    axes.set_xlabel("seconds", color=GREY)
    axes.set_ylabel("pairs", color=GREY)


def _changes(axes: "Axes", found: Plain) -> None:
    axes.set_title("what another order does to a metric", loc="left", fontsize=10)
    changes = changes_of(found)
    if not changes:
        axes.text(0.5, 0.5, "no ties, no bursts", ha="center", color=GREY, transform=axes.transAxes)
        return
    metric = next(iter(changes[0]["mean"]))
    labels = [f"{change['order']}: {change['model']}" for change in changes]
    bars = np.arange(len(labels))
    axes.barh(bars - 0.2, [change["as_logged"][metric] for change in changes], 0.4, color=GREY, label="as logged")
    errors, means = ([change[kind][metric] for change in changes] for kind in ("std", "mean"))
    axes.barh(bars + 0.2, means, 0.4, xerr=errors, color=ORANGE, label="reordered")
    axes.set_yticks(bars, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(metric, color=GREY)
    axes.legend(frameon=False, fontsize=8)
