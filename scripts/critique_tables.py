"""The tables of docs/critique as Markdown, from kept results, and their place in the pages.

A page has a table between two comments, `<!-- table: NAME, LOG -->` and `<!-- end of table -->`; what stands between is
written here and nowhere else. `NAME, LOG, also` is the table of what else was measured of the same runs.

Legend: A arms, S seeds.
"""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.critique_arms import CHOOSES, Arm, Results, Row, Run, Tables, arm_of, chosen, seeds_of
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.intervals import TWO_SIDED, holm, normal_p

MARKED = re.compile(r"(<!-- table: ([^>]*?) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)
SIGNIFICANT = 0.05


def rewritten(text: str, tables: Tables, results: Results, pairs: Sequence[Row]) -> str:
    """A page with its tables as the results give them. Raises SeqrecError for a table that arms.yaml lacks."""

    def table(found: re.Match[str]) -> str:
        name, log, *kind = (part.strip() for part in found[2].split(","))
        if name not in tables or log not in tables[name]["logs"]:
            raise SeqrecError(f"<!-- table: {found[2]} -->: no such table; there are {', '.join(tables)}")
        lines = (
            also_lines(tables, name, log, results)
            if kind
            else main_lines(tables, name, log, results=results, pairs=pairs)
        )
        return "\n".join([found[1], *lines, found[3]])

    return MARKED.sub(table, text)


def write_pages(folder: Path, tables: Tables, results: Results, pairs: Sequence[Row]) -> list[Path]:
    """Rewrite the pages whose tables have changed; which they are."""
    changed = []
    for page in dict.fromkeys(folder / table["page"] for table in tables.values()):
        before = page.read_text(encoding="utf-8")
        after = rewritten(before, tables, results, pairs)
        if after != before:
            page.write_text(after, encoding="utf-8")
            changed.append(page)
    return changed


def main_lines(tables: Tables, name: str, log: str, *, results: Results, pairs: Sequence[Row]) -> list[str]:
    """A line an arm: how good, how far from the first arm, at which cost."""
    arms_A = {each: chosen(tables, arm_of(tables, name, log=log, arm=each), results) for each in tables[name]["arms"]}
    rows_A = {each: [results[Run(arm, seed)] for seed in seeds_of(arm, results)] for each, arm in arms_A.items()}
    first = next(iter(arms_A.values()))
    beside = {each: paired(pairs, name, arm, first=first, results=results) for each, arm in arms_A.items()}
    clear = clearly_apart({each: row for each, row in beside.items() if row is not None})
    rates = "rates" in tables[name]
    head = ["arm", "seeds", *(["rate"] if rates else []), "validation NDCG@10", "test NDCG@10"]
    head += ["less the first arm's", "seeds above", "test HR@10", "best epoch", "CPU s", "TFLOP"]
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    for each, rows_S in rows_A.items():
        rate = [f"{rows_S[0]['lr']:g}"] if rates and rows_S else []
        if rows_S:
            lines.append(line(each, rows_S, [*rate, *cells_of(rows_S, beside[each], clear=each in clear)]))
    return with_open(lines, [each for each, rows_S in rows_A.items() if not rows_S])


def line(name: str, rows_S: Sequence[Row], cells: Sequence[str]) -> str:
    return f"| {' | '.join([name, ', '.join(str(row['seed']) for row in rows_S), *cells])} |"


def with_open(lines: list[str], open_arms: Sequence[str]) -> list[str]:
    """The table, and below it which arms have no result; that alone where none has one."""
    if len(lines) == 2:
        return ["Not yet measured."]
    return [*lines, "", f"Not yet measured: {'; '.join(open_arms)}."] if open_arms else lines


def cells_of(rows_S: Sequence[Row], beside: Row | None, *, clear: bool) -> list[str]:
    difference, above = "", ""
    if beside is not None:
        difference = f"{beside['difference']:+.4f} ± {beside['half']:.4f}".replace("0.", ".")
        difference = f"**{difference}**" if clear else difference
        above = f"{sum(each > 0 for each in beside['each'])} of {len(beside['each'])}"
    half = statistics.fmean(row["half"][CHOOSES] for row in rows_S)
    epochs = f"{mean(rows_S, lambda row: row['best_epoch']):.0f} of {max(row['epochs'] for row in rows_S)}"
    return [
        spread(rows_S, lambda row: row["val"][CHOOSES]),
        f"{spread(rows_S, lambda row: row['test'][CHOOSES])} ± {short(half)}",
        difference,
        above,
        spread(rows_S, lambda row: row["test"]["hr@10"]),
        epochs,
        f"{mean(rows_S, lambda row: row['cpu_s']):.0f}",
        f"{mean(rows_S, lambda row: row['tflop_epoch'] * row['epochs']):.2g}",
    ]


def also_lines(tables: Tables, name: str, log: str, results: Results) -> list[str]:
    """A line an arm: each of the other numbers that its runs have."""
    arms_A = {each: chosen(tables, arm_of(tables, name, log=log, arm=each), results) for each in tables[name]["arms"]}
    rows_A = {each: [results[Run(arm, seed)] for seed in seeds_of(arm, results)] for each, arm in arms_A.items()}
    rows_A = {each: [row for row in rows if row.get("also")] for each, rows in rows_A.items()}
    columns = list(dict.fromkeys(key for rows in rows_A.values() for row in rows for key in row["also"]))
    lines = [f"| arm | seeds | {' | '.join(columns)} |", f"|---|--:|{'--:|' * len(columns)}"]
    for each, rows in rows_A.items():
        if rows:
            told = ([row["also"][key] for row in rows if key in row["also"]] for key in columns)
            lines.append(line(each, rows, list(map(spread_of, told))))
    return with_open(lines, [each for each, rows in rows_A.items() if not rows])


def paired(pairs: Sequence[Row], table: str, arm: Arm, *, first: Arm, results: Results) -> Row | None:
    """The comparison of just these settings, over just the seeds that both arms have results of."""
    both = sorted({*seeds_of(arm, results)} & {*seeds_of(first, results)})
    for row in pairs:
        named = [Arm(*each[:3], tuple(each[3])) for each in (row["arm"], row["first"])]
        if row["table"] == table and named == [arm, first] and row["seeds"] == both:
            return row
    return None


def clearly_apart(beside: Mapping[str, Row]) -> set[str]:
    """Arms whose difference is not by chance at 5 %, corrected for the number of arms (Holm)."""
    values = holm([normal_p(row["difference"], row["half"] / TWO_SIDED) for row in beside.values()])
    return {each for each, value in zip(beside, values, strict=True) if value < SIGNIFICANT}


def mean(rows_S: Sequence[Row], value: Callable[[Row], float]) -> float:
    return statistics.fmean(map(value, rows_S))


def spread(rows_S: Sequence[Row], value: Callable[[Row], float]) -> str:
    return spread_of([value(row) for row in rows_S])


def spread_of(values_S: Sequence[float]) -> str:
    """The mean and, of several seeds, the standard deviation over them in brackets; nothing of none."""
    if not values_S:
        return ""
    told = f" ({short(statistics.stdev(values_S))})" if len(values_S) > 1 else ""
    return short(statistics.fmean(values_S)) + told


def short(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.4f}"
