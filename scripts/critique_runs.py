"""The runs behind the tables of docs/critique, and the tables: what has no result yet is trained, in one process.

    python -m scripts.critique_runs --archive ml-100k=ml-100k.zip --archive lastfm=LastFM.txt
    python -m scripts.critique_runs --archive ml-100k=ml-100k.zip --only padding --seeds 0
    python -m scripts.critique_runs --list
    python -m scripts.critique_runs --tables-only

docs/critique/arms.yaml lists the tables' arms. A run takes about 20 to 60 CPU seconds on these logs; its metrics are
added to docs/critique/results.jsonl as it ends, so that a run that was stopped costs itself alone. Each arm's users are
then compared with those of its table's first arm (paired.jsonl), and the tables are rewritten in their pages. Ranks and
checkpoints stay in --work: a comparison needs those of both arms, its table does not. A wrong name, a missing file: one
line and exit code 2. A run that fails is told, the others go on, and the exit code is 1.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.critique_arms import (
    PAGES,
    Run,
    Tables,
    arm_of,
    chosen,
    compared_arms,
    read_lines,
    read_results,
    read_tables,
    run_of,
    seeds_of,
    wanted,
)
from scripts.critique_summary import write_summary
from scripts.critique_tables import read_kept, write_pages
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.files import write_atomically

RESULTS, PAIRED = "results.jsonl", "paired.jsonl"


class Asked(NamedTuple):
    only: Sequence[str]  # tables
    archives: dict[str, str]  # a log's file, by the log
    seeds: Sequence[int]
    arms: Sequence[str]  # none: all


def train_missing(pages: Path, tables: Tables, asked: Asked, work: Path) -> list[str]:
    """Train what has no result, one after another; a line for each run that failed."""
    from scripts.critique_training import trained

    failed: dict[Run, str] = {}
    while True:
        results = read_results(pages / RESULTS)
        logs = list(asked.archives)
        runs = wanted(tables, results, only=asked.only, logs=logs, seeds=asked.seeds, arms=asked.arms)
        run = next((each for each in runs if each not in results and each not in failed), None)
        if run is None:
            return list(failed.values())
        flops = next((row["tflop_epoch"] for each, row in results.items() if each.arm == run.arm), None)
        print(f"{run.arm.table}, {run.arm.log}: {run.arm.name}, seed {run.seed}", flush=True)
        try:
            row = trained(run, tables, asked.archives[run.arm.log], work=work, known_flops=flops)
        except SeqrecError as error:
            failed[run] = f"{run.arm.table}, {run.arm.log}, {run.arm.name}, seed {run.seed}: {error}"
            continue
        kept = {row["data"] for each, row in results.items() if each.arm[:2] == run.arm[:2] and "data" in row}
        if kept and row["data"] not in kept:
            given = f"--archive {run.arm.log}={asked.archives[run.arm.log]}"
            other = f"other data ({row['data']}) than this log's kept results ({', '.join(kept)})"
            failed[run] = f"{run.arm.table}, {run.arm.log}: {given} holds {other}; nothing is added"
            return list(failed.values())
        with (pages / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def logs_of(tables: Tables) -> list[str]:
    """The logs that some table has."""
    return sorted({each for table in tables.values() for each in table["logs"]})


def compare_users(pages: Path, tables: Tables, work: Path) -> None:
    """Rewrite paired.jsonl: each arm beside its table's first one, and the table's `pairs`, where the ranks of both are
    in `work`."""
    from scripts.critique_pairs import compared, has_ranks

    results = read_results(pages / RESULTS)
    before = {(row["table"], json.dumps([row["first"], row["arm"]])): row for row in read_lines(pages / PAIRED)}
    kept = []
    for name, table in tables.items():
        for log in table["logs"]:
            for first, arm in compared_arms(tables, name, log=log, results=results):
                seeds = sorted({*seeds_of(first, results)} & {*seeds_of(arm, results)})
                row = before.get((name, json.dumps([[*each[:3], list(each.settings)] for each in (first, arm)])))
                current = row is not None and row["seeds"] == seeds
                runs = [Run(each, seed) for each in (first, arm) for seed in seeds]
                if seeds and not current and all(has_ranks(run, work) for run in runs):
                    row = {"table": name, **compared(first, arm, seeds, work)}
                kept += [] if row is None else [row]
    if kept or before:
        write_atomically(pages / PAIRED, "".join(json.dumps(row) + "\n" for row in kept))


def measure_more(pages: Path, tables: Tables, work: Path) -> None:
    """What else a table asks of its runs, for those whose checkpoint is in `work` and that have not been asked."""
    rows = read_lines(pages / RESULTS)
    for nth, row in enumerate(rows):
        also = row.get("also", {})
        asked = [each for each in tables.get(row["table"], {}).get("also", ()) if each not in also]
        if asked:
            from scripts.critique_also import measured
            from scripts.critique_training import folder_of

            folder = folder_of(run_of(row), work)
            if (folder / "metrics.json").is_file():
                rows[nth] = {**row, "also": also | measured(folder, asked)}
                write_atomically(pages / RESULTS, "".join(json.dumps(each) + "\n" for each in rows))


def listed(pages: Path, tables: Tables, only: Sequence[str]) -> list[str]:
    """A line an arm: which seeds have results."""
    results = read_results(pages / RESULTS)
    found = []
    for name in only:
        for log in tables[name]["logs"]:
            for each in tables[name]["arms"]:
                arm = chosen(tables, arm_of(tables, name, log=log, arm=each), results)
                seeds = ", ".join(map(str, seeds_of(arm, results))) or "none"
                found.append(f"{name}, {log}: {each}: {' '.join(arm.settings)}: seeds {seeds}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", action="append", default=[], help="LOG=FILE, or LOG alone where it needs no file")
    parser.add_argument("--only", action="append", default=[], metavar="TABLE", help="may be given several times")
    parser.add_argument(
        "--arm", action="append", default=[], help="by its name in the table; may be given several times"
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--work", type=Path, default=Path("outputs/critique"), help="where runs and prepared data lie")
    parser.add_argument("--pages", type=Path, default=PAGES, help="the folder of arms.yaml, results and pages")
    parser.add_argument("--list", action="store_true", help="the arms and which of their seeds have results")
    parser.add_argument("--tables-only", action="store_true", help="train nothing: compare, and write the tables")
    asked = parser.parse_args(arguments)
    failed: list[str] = []
    try:
        tables = read_tables(asked.pages / "arms.yaml")
        if unknown := {*asked.only} - tables.keys():
            raise SeqrecError(f"--only {unknown.pop()}: no such table; there are {', '.join(tables)}")
        only, seeds = asked.only or list(tables), [int(seed) for seed in asked.seeds.split(",")]
        archives = {name: file for name, _, file in (each.partition("=") for each in asked.archive)}
        for log, file in archives.items():
            if log not in logs_of(tables):
                raise SeqrecError(f"--archive {log}: no table has this log; there are {', '.join(logs_of(tables))}")
            if file and not Path(file).is_file():
                raise SeqrecError(f"--archive {log}={file}: {'a folder' if Path(file).is_dir() else 'no such file'}")
        if asked.list:
            print("\n".join(listed(asked.pages, tables, only)))
            return 0
        with contextlib.redirect_stdout(sys.stderr):
            if not asked.tables_only:
                failed = train_missing(asked.pages, tables, Asked(only, archives, seeds, asked.arm), asked.work)
                measure_more(asked.pages, tables, asked.work)
            compare_users(asked.pages, tables, asked.work)
            print("\n".join(failed), end="\n" if failed else "")
        kept = read_kept(asked.pages)
        for page in [*write_pages(asked.pages, tables, kept), *write_summary(asked.pages, tables, kept)]:
            print(page)
    except (SeqrecError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what has ended is kept, the same command goes on", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
