"""What the tables of docs/critique are made of: arms from arms.yaml, kept results from results.jsonl and paired.jsonl.

A line of results.jsonl is one run: its arm, seed, settings, metrics, cost. A line of paired.jsonl compares an arm with
its table's first one, user by user. Both hold metrics alone, and a line counts only for the very settings it names: an
arm whose settings change in arms.yaml has no results until it has run again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seqrec_cli.config.errors import SeqrecError

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "critique"
CHOOSES = "ndcg@10"  # of validation: the epoch, and the rate where a table has several


class Arm(NamedTuple):
    """What is trained: an arm of a table on a log. `settings` are overrides, without the log's file."""

    table: str
    log: str
    name: str
    settings: tuple[str, ...]


class Run(NamedTuple):
    arm: Arm
    seed: int


Tables = Mapping[str, Mapping[str, Any]]
Row = Mapping[str, Any]
Results = Mapping[Run, Row]


def read_tables(path: Path) -> Tables:
    """Raises SeqrecError for a file that is missing or has other keys than a table's."""
    try:
        tables = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SeqrecError(f"{path}: {error}".replace("\n", " ")) from error
    for name, table in tables.items():
        missing = {"page", "logs", "arms"} - table.keys()
        extra = table.keys() - {"page", "logs", "arms", "rates", "also", "pairs"}
        if missing or extra:
            raise SeqrecError(
                f"{path}: table '{name}' has {sorted(extra) or 'no'} and lacks {sorted(missing) or 'none'}"
            )
        for log in table["logs"]:
            for arm in [*table["arms"], *(arm for pair in table.get("pairs", ()) for arm in pair)]:
                arm_of(tables, name, log=log, arm=arm)
    return dict(tables)


def arm_of(tables: Tables, table: str, *, log: str, arm: str) -> Arm:
    """The arm that is trained: that of another table where this one is said to be the `same`."""
    try:
        settings, base = tables[table]["arms"][arm], tables[table]["logs"][log]
    except KeyError as error:
        raise SeqrecError(f"table '{table}', log '{log}', arm '{arm}': there is no {error}") from error
    if isinstance(settings, Mapping):
        other, name = settings["same"]
        return arm_of(tables, other, log=log, arm=name)
    return Arm(table, log, arm, (*base, *settings))


def tried(tables: Tables, arm: Arm) -> list[Arm]:
    """The arm at the experiment's own rate, then at each of its table's other `rates`."""
    rates = tables[arm.table].get("rates", ())
    return [arm, *(arm._replace(settings=(*arm.settings, f"trainer.lr={rate}")) for rate in rates)]


def chosen(tables: Tables, arm: Arm, results: Results) -> Arm:
    """The arm at the rate that validation prefers on seed 0; at the experiment's own until all have been tried."""
    found = [(each, results.get(Run(each, 0))) for each in tried(tables, arm)]
    measured = [(row["val"][CHOOSES], each) for each, row in found if row is not None]
    return max(measured, key=lambda pair: pair[0])[1] if len(measured) == len(found) else arm


def arms_of(tables: Tables, name: str, *, log: str, results: Results) -> dict[str, Arm]:
    """A table's arms by their names, each at its rate."""
    return {each: chosen(tables, arm_of(tables, name, log=log, arm=each), results) for each in tables[name]["arms"]}


def compared_arms(tables: Tables, name: str, *, log: str, results: Results) -> list[tuple[Arm, Arm]]:
    """Which arms of a table are set beside each other: its first one and each other, then its `pairs`."""
    arms_A = arms_of(tables, name, log=log, results=results)
    first, *others = arms_A
    pairs = [*((first, each) for each in others), *tables[name].get("pairs", ())]
    return [(arms_A[before], arms_A[after]) for before, after in pairs]


def wanted(
    tables: Tables,
    results: Results,
    *,
    only: Sequence[str],
    logs: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str] = (),
) -> list[Run]:
    """The runs behind the tables in their order: by log, table, seed and arm, each once; every rate on seed 0.

    Of `arms` alone where any are named.
    """
    found = []
    for log in logs:
        for name in only:
            table = tables[name]
            if log not in table["logs"]:
                continue
            for seed in seeds:
                for each in table["arms"]:
                    if arms and each not in arms:
                        continue
                    arm = arm_of(tables, name, log=log, arm=each)
                    found += [Run(one, seed) for one in (tried(tables, arm) if seed == 0 else ())]
                    found.append(Run(chosen(tables, arm, results), seed))
    return list(dict.fromkeys(found))


def read_results(path: Path) -> dict[Run, Row]:
    """The kept results; of two lines for one run the later one."""
    return {run_of(row): row for row in read_lines(path)}


def run_of(row: Row) -> Run:
    return Run(Arm(row["table"], row["log"], row["arm"], tuple(row["settings"])), row["seed"])


def read_lines(path: Path) -> list[Row]:
    """The rows of a file, none where there is no file. Raises SeqrecError for a line that is torn."""
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise SeqrecError(f"{path}: line {number} cannot be read ({error}); take it out") from error
    return found


def seeds_of(arm: Arm, results: Results) -> list[int]:
    """The seeds of an arm that have results."""
    return sorted(run.seed for run in results if run.arm == arm)
