"""Models ranked among the corpus, among sampled items, and corrected: their numbers, and which change places.

    seqrec evaluate ckpt=RUN candidates='[full,uniform:100,popularity:100]' run_dir=FOLDER      # once for each model
    python -m scripts.sampled_table FOLDER FOLDER ...

Markdown on standard output, from the metrics.json of each folder. What stands first in `candidates` is what the other
columns' orders are compared with.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.refusing import exit_code
from seqrec_cli.evaluation.candidates import orders

METRICS = ("hr@10", "ndcg@10", "mrr")


def columns(
    found: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """`table[metric][column][model]`, of each model's `candidates`; a corrected column is named `uniform:100, CLS`."""
    table: dict[str, dict[str, dict[str, float]]] = {metric: {} for metric in METRICS}
    for model, kinds in found.items():
        for kind, measured in kinds.items():
            rows = {kind: measured["metrics"]}
            rows |= {f"{kind}, {label}": values for label, values in measured["corrected"].items()}  # type: ignore[dict-item]
            for column, values in rows.items():
                for metric in METRICS:
                    table[metric].setdefault(column, {})[model] = values[metric]
    return table


def lines(metric: str, table: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Markdown of one metric, a row for each kind of candidates."""
    first = next(iter(table))
    models, changed = list(table[first]), orders(table)
    text = [
        f"| {metric}, among | {' | '.join(f'`{model}`' for model in models)} | ahead here, behind among {first} |",
        f"|---|{'---|' * len(models)}---|",
    ]
    for column, values in table.items():
        best = max(values.values())
        cells = [f"{value:.4f}".removeprefix("0") for value in (values[model] for model in models)]
        cells = [f"**{cell}**" if values[model] == best else cell for cell, model in zip(cells, models, strict=True)]
        pairs = ", ".join(f"{a} of {b}" for a, b in changed[column].changed) or "none"
        text.append(f"| {column} | {' | '.join(cells)} | {'' if column == first else pairs} |")
    return [*text, ""]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="what `seqrec evaluate` wrote; named as the models")
    asked = parser.parse_args()
    read = {folder.name: json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in asked.folders}
    for metric, table in columns({name: metrics["candidates"] for name, metrics in read.items()}).items():
        print("\n".join(lines(metric, table)))


if __name__ == "__main__":
    sys.exit(exit_code(main))
