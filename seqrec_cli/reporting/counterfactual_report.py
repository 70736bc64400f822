"""Counterfactual estimates for a person: a table of values, and one of the chances that places are looked at."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from seqrec_cli.reporting.tables import plain_table

PLACES = 10  # of which the chances are printed
WORDS = {
    "naive": "clicks as they are",
    "ips": "clicks over chances",
    "snips": "the same, of an average click",
    "direct": "the outcome run's probabilities",
    "dr": "doubly robust",
}


def counterfactual_tables(result: Mapping[str, Any]) -> list[Table]:
    """A row a metric and estimate; and a row a place."""
    values = plain_table(
        f"{result['model']} on {result['dataset']} ({result['split']}): the order that was shown, and the run's",
        (
            f"{result['requests']:,} requests, {result['clicks']:,} clicks, that vary as "
            f"{result['effective_clicks']:,.0f} of like weight would; {result['clipped_clicks']:,} weigh "
            f"{result['clip']:g}, the most (clip)\n"
            "difference: 95 % by users; the chances of places are taken as known"
        ),
    )
    values.add_column("metric")
    values.add_column("estimate")
    for name in ("shown", "run", "difference"):
        values.add_column(name, justify="right")
    for metric, by in result["estimates"].items():
        for nth, (name, each) in enumerate(by.items()):
            difference = f"{each['order'] - each['shown']:+.4f} [{each['low']:+.4f}, {each['high']:+.4f}]"
            cells = f"{each['shown']:.4f}", f"{each['order']:.4f}", difference
            values.add_row(metric if nth == 0 else "", f"{name}: {WORDS[name]}", *cells)
    places = plain_table("places of a list", "both beside the first place's; a naive reader takes rates for chances")
    for name in ("place", "looked at", "clicked"):
        places.add_column(name, justify="right")
    pairs = zip(result["propensities"], result["click_rates"], strict=True)
    for place, (looked, clicked) in enumerate(list(pairs)[:PLACES], 1):
        places.add_row(str(place), f"{looked:.3f}", f"{clicked:.3f}")
    return [values, places]
