"""`seqrec compare`: runs of one protocol side by side, with the difference that their users make."""

from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.records import CompareConfig
from seqrec_cli.evaluation.compare import same_protocol
from seqrec_cli.evaluation.paired import UserRanks, by_history, compared, picked, same_targets
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.tables import comparison_table, print_table


def main(cfg: CompareConfig) -> dict[str, Any]:
    """Print a table of all users and, with `segments`, one of each part of them; the same as plain values."""
    names, folders = _names(cfg.runs), [RunFolder.open(run) for run in cfg.runs]
    rows = [folder.read_metrics() for folder in folders]
    first: dict[str, Any] = rows[0].get("protocol", {})
    for field in cfg.may_differ:
        if field not in first:
            raise SeqrecError(f"may_differ: no field '{field}' of a protocol{nearest(field, first)}")
    same_protocol(rows, names, cfg.may_differ)
    ranks = [UserRanks.read(folder.ranks(cfg.split)) for folder in folders]
    same_targets(ranks, names)
    found = _each(ranks, cfg.metrics)
    print_table(comparison_table(names, found, f"{cfg.split}, {len(ranks[0].users_R):,} users"))
    parts = []
    for shortest, longest, places_R in by_history(ranks, cfg.segments) if cfg.segments > 1 else []:
        of_part = _each([picked(run, places_R) for run in ranks], cfg.metrics)
        title = f"{len(places_R):,} users of {shortest} to {longest} events"
        print_table(comparison_table(names, of_part, title))
        parts.append({"history": [shortest, longest], "users": len(places_R), "runs": _plain(names, of_part)})
    differing = f"; the protocols may differ in {', '.join(cfg.may_differ)}" if cfg.may_differ else ""
    say(f"differences to {names[0]}, user by user, with their standard errors{differing}")
    return {"runs": _plain(names, found), "segments": parts}


def _names(runs: tuple[str, ...]) -> list[str]:
    """The folders' own names where they tell the runs apart, else their paths."""
    short = [Path(run).expanduser().resolve().name for run in runs]
    return short if len(set(short)) == len(short) else list(runs)


def _each(ranks: list[UserRanks], metrics: tuple[str, ...]) -> dict[str, list[dict[str, float]]]:
    return {metric: [vars(run) for run in compared(ranks, metric)] for metric in metrics}


def _plain(names: list[str], found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    return [
        {"run": name, **{metric: values[place] for metric, values in found.items()}} for place, name in enumerate(names)
    ]
