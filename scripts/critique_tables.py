"""The tables of docs/critique as Markdown, from kept results, and their place in the pages.

A page has a table between two comments, `<!-- table: NAME, LOG -->` and `<!-- end of table -->`; what stands between is
written here and nowhere else. `NAME, LOG, ALSO` is the table of what else was measured of the same runs, where ALSO is
one or more of what `also` in arms.yaml asks for, with blanks between them; `NAME, LOG, pairs` that of other arms beside
each other.

Legend: A arms, S seeds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scripts.critique_arms import (
    CHOOSES,
    Arm,
    Results,
    Row,
    Run,
    Tables,
    arms_of,
    read_lines,
    read_results,
    seeds_of,
)
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.intervals import TWO_SIDED, holm, normal_p

MARKED = re.compile(r"(<!-- table: ([^>]*?) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)
SIGNIFICANT = 0.05


class Kept(NamedTuple):
    """What the tables are written from."""

    results: Results
    pairs: Sequence[Row]


def read_kept(folder: Path) -> Kept:
    return Kept(read_results(folder / "results.jsonl"), read_lines(folder / "paired.jsonl"))


def rewritten(text: str, tables: Tables, kept: Kept) -> str:
    """A page with its tables as the results give them. Raises SeqrecError for a table that arms.yaml lacks."""

    def table(found: re.Match[str]) -> str:
        name, log, *asked = found[2].replace(",", " ").split()
        if name not in tables or log not in tables[name]["logs"]:
            raise SeqrecError(f"<!-- table: {found[2]} -->: no such table; there are {', '.join(tables)}")
        also = tables[name].get("also", [])
        if asked == ["pairs"]:
            lines = pair_lines(tables, name, log=log, kept=kept)
        elif unknown := [each for each in asked if each not in also]:
            raise SeqrecError(f"<!-- table: {found[2]} -->: {unknown[0]} is not in the table's `also`")
        elif asked:
            lines = also_lines(tables, name, log=log, asked=asked, kept=kept)
        else:
            lines = main_lines(tables, name, log=log, kept=kept)
        return "\n".join([found[1], *lines, found[3]])

    return MARKED.sub(table, text)


def write_pages(folder: Path, tables: Tables, kept: Kept) -> list[Path]:
    """Rewrite the pages whose tables have changed; which they are. Raises SeqrecError where a page is missing."""
    pages = dict.fromkeys(folder / table["page"] for table in tables.values())
    return [page for page in pages if has_changed(page, lambda text: rewritten(text, tables, kept))]


def has_changed(page: Path, rewrite: Callable[[str], str]) -> bool:
    """Whether the page had to be rewritten. Raises SeqrecError where there is none."""
    try:
        before = page.read_text(encoding="utf-8")
    except OSError as error:
        raise SeqrecError(f"{page}: {error.strerror}; a table is to be written there") from error
    after = rewrite(before)
    if after != before:
        page.write_text(after, encoding="utf-8")
    return after != before


def main_lines(tables: Tables, name: str, *, log: str, kept: Kept) -> list[str]:
    """A line an arm: how good, how far from the first arm, at which cost."""
    arms_A = arms_of(tables, name, log=log, results=kept.results)
    beside, clear = comparisons(tables, name, log=log, kept=kept)
    rates = "rates" in tables[name]
    head = ["arm", "seeds", *(["rate"] if rates else []), "validation NDCG@10", "test NDCG@10"]
    head += ["less the first arm's", "seeds above", "test HR@10", "best epoch", "CPU s", "TFLOP"]
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    open_arms = []
    for each, arm in arms_A.items():
        rows_S = rows_of(arm, kept.results)
        if not rows_S:
            open_arms.append(each)
            continue
        seeds = ", ".join(str(row["seed"]) for row in rows_S)
        rate = [f"{rows_S[0]['lr']:g}"] if rates else []
        lines.append(f"| {' | '.join([each, seeds, *rate, *cells_of(rows_S, beside[each], clear=each in clear)])} |")
    return with_open(lines, open_arms)


def also_lines(tables: Tables, name: str, *, log: str, asked: Sequence[str], kept: Kept) -> list[str]:
    """A line an arm: the other numbers of these kinds that its runs have."""
    rows_A = {
        each: rows_of(arm, kept.results) for each, arm in arms_of(tables, name, log=log, results=kept.results).items()
    }
    found_A = {
        each: [
            (row["seed"], {name: value for kind in asked for name, value in row["also"][kind].items()}) for row in whole
        ]
        for each, rows in rows_A.items()
        if (whole := [row for row in rows if {*asked} <= {*row.get("also", {})}])
    }
    columns = list(dict.fromkeys(key for found in found_A.values() for _, numbers in found for key in numbers))
    lines = [f"| arm | seeds | {' | '.join(columns)} |", f"|---|--:|{'--:|' * len(columns)}"]
    for each, found in found_A.items():
        told = [spread([numbers[key] for _, numbers in found if key in numbers]) for key in columns]
        lines.append(f"| {' | '.join([each, ', '.join(str(seed) for seed, _ in found), *told])} |")
    return with_open(lines, [each for each in rows_A if each not in found_A])


def pair_lines(tables: Tables, name: str, *, log: str, kept: Kept) -> list[str]:
    """A line for each of the table's `pairs`: how far the second arm is from the first one. None is bold: they are
    chosen by hand, and no correction counts them."""
    lines, missing = ["| arm | less | seeds | test NDCG@10 | seeds above |", "|---|---|--:|--:|--:|"], []
    arms_A = arms_of(tables, name, log=log, results=kept.results)
    for before, after in tables[name].get("pairs", ()):
        if (row := paired(kept, name, arms_A[after], first=arms_A[before])) is None:
            missing.append(f"{after} less {before}")
        else:
            seeds = ", ".join(map(str, row["seeds"]))
            lines.append(f"| {after} | {before} | {seeds} | {' | '.join(difference_cells(row, clear=False))} |")
    return with_open(lines, missing)


def comparisons(tables: Tables, name: str, *, log: str, kept: Kept) -> tuple[dict[str, Row | None], set[str]]:
    """Each arm of a table beside its first one, None where the two have no seed in common; and those that are told
    apart, in every seed on one side."""
    arms_A = arms_of(tables, name, log=log, results=kept.results)
    first = next(iter(arms_A.values()))
    beside = {each: paired(kept, name, arm, first=first) for each, arm in arms_A.items()}
    return beside, clearly_apart({each: row for each, row in beside.items() if row is not None})


def rows_of(arm: Arm, results: Results) -> list[Row]:
    """An arm's results by seed."""
    return [results[Run(arm, seed)] for seed in seeds_of(arm, results)]


def with_open(lines: list[str], open_arms: Sequence[str]) -> list[str]:
    """The table, and below it which arms have no result; that alone where none has one."""
    if len(lines) == 2:
        return ["Not yet measured."]
    return [*lines, "", f"Not yet measured: {'; '.join(open_arms)}."] if open_arms else lines


def cells_of(rows_S: Sequence[Row], beside: Row | None, *, clear: bool) -> list[str]:
    """From validation to cost; empty where no row has the number."""
    difference, above = ("", "") if beside is None else difference_cells(beside, clear=clear)
    half_S, hits_S = every(rows_S, "half", CHOOSES), every(rows_S, "test", "hr@10")
    epochs_S, seconds_S = every(rows_S, "best_epoch"), every(rows_S, "cpu_s")
    flops_S = [row["tflop_epoch"] * row["epochs"] for row in rows_S if "tflop_epoch" in row]
    return [
        spread(every(rows_S, "val", CHOOSES)),
        spread(every(rows_S, "test", CHOOSES)) + (f" ± {short(fmean(half_S))}" if half_S else ""),
        difference,
        above,
        spread(hits_S),
        f"{fmean(epochs_S):.0f} of {max(row['epochs'] for row in rows_S)}" if epochs_S else "",
        f"{fmean(seconds_S):.0f}" if seconds_S else "",
        f"{fmean(flops_S):.2g}" if flops_S else "",
    ]


def difference_cells(beside: Row, *, clear: bool) -> tuple[str, str]:
    """How far from the first arm, bold where `clear`, and in how many seeds above it."""
    difference = f"{beside['difference']:+.4f} ± {beside['half']:.4f}".replace("0.", ".")
    above = f"{sum(each > 0 for each in beside['each'])} of {len(beside['each'])}"
    return f"**{difference}**" if clear else difference, above


def every(rows_S: Sequence[Row], *keys: str) -> list[float]:
    """The number of each row that has it."""
    found: list[Any] = list(rows_S)
    for key in keys:
        found = [row[key] for row in found if key in row]
    return found


def paired(kept: Kept, table: str, arm: Arm, *, first: Arm) -> Row | None:
    """The comparison of just these settings, over just the seeds that both arms have results of."""
    both = sorted({*seeds_of(arm, kept.results)} & {*seeds_of(first, kept.results)})
    for row in kept.pairs:
        named = [Arm(*each[:3], tuple(each[3])) for each in (row["arm"], row["first"])]
        if row["table"] == table and named == [arm, first] and row["seeds"] == both:
            return row
    return None


def clearly_apart(beside: Mapping[str, Row]) -> set[str]:
    """Arms whose difference is not by chance at 5 %, corrected for the number of arms (Holm), and of one sign in every
    seed: what a seed does to all users alike is in no interval over users."""
    values = holm([normal_p(row["difference"], row["half"] / TWO_SIDED) for row in beside.values()])
    return {
        name
        for (name, row), value in zip(beside.items(), values, strict=True)
        if value < SIGNIFICANT and all(each * row["difference"] > 0 for each in row["each"])
    }


def spread(values_S: Sequence[float]) -> str:
    """The mean and, of several seeds, the standard deviation over them in brackets; nothing of none."""
    if not values_S:
        return ""
    return short(fmean(values_S)) + (f" ({short(stdev(values_S))})" if len(values_S) > 1 else "")


def short(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.1f}"
