"""`seqrec leaderboard [FOLDER]`: all runs under a folder, those of one protocol together."""

import textwrap
from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.config.records import LeaderboardConfig
from seqrec_cli.config.stages import TWO_STAGE
from seqrec_cli.evaluation.compare import PROTOCOL_KEY, flat
from seqrec_cli.evaluation.leaderboard import Entry, Group, chosen, grouped
from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.board import BoardGroup, board_csv, board_markdown, board_page, board_table
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.run_search import run_folders, settings_of
from seqrec_cli.reporting.tables import print_table, shown_metrics

WIDTH = 120  # of lines that name many fields
MOST_NAMED = 3  # folders that are named where they were left out


def main(cfg: LeaderboardConfig) -> dict[str, Any]:
    """Print a table a protocol; with `output` write Markdown, CSV and a page. The groups as plain values."""
    top = Path(cfg.folder).expanduser()
    if not top.is_dir():
        raise SeqrecError(f"{top} is no folder; name the one that runs were written to: seqrec leaderboard FOLDER")
    entries, baselines, left_out = _read(top, cfg.split)
    for reason, paths in left_out.items():
        more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
        say(f"left out, {reason}: {len(paths)} ({', '.join(paths[:MOST_NAMED])}{more})")
    if not entries:
        raise SeqrecError(f"{top} holds no run with numbers of split={cfg.split}; train one, or name another folder")
    kept = [
        entry
        for entry in chosen(entries, cfg.where or {})
        if (cfg.models is None or entry.model in cfg.models) and (cfg.datasets is None or entry.dataset in cfg.datasets)
    ]
    if not kept:
        raise SeqrecError(f"none of {len(entries)} runs is of those models, datasets and where; leave one of these out")
    groups = grouped(kept, baselines, sort=cfg.sort, may_differ=cfg.may_differ)
    names = dict.fromkeys(name for entry in kept for name in entry.metrics)
    metrics = cfg.metrics or tuple(dict.fromkeys([cfg.sort, *shown_metrics(names)]))
    boards = [_board(group, cfg.split) for group in groups]
    for board in boards:
        print_table(board_table(board, metrics))
        if board.differs:
            for line in textwrap.wrap(f"differs from the first of its dataset: {board.differs}", WIDTH):
                say(line)
    say("±: half of the 95 % interval, users resampled")
    if cfg.output is not None:
        folder = Path(cfg.output).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "leaderboard.md", board_markdown(boards, metrics))
        write_atomically(folder / "leaderboard.csv", board_csv(boards, metrics))
        write_atomically(folder / "leaderboard.html", board_page(boards, metrics, sort=cfg.sort))
        say(str(folder / "leaderboard.html"))
    return {"groups": [board._asdict() for board in boards], "left_out": left_out}


def _read(top: Path, split: str) -> tuple[list[Entry], list[Entry], dict[str, list[str]]]:
    """The runs' numbers, the baselines measured with them, and by reason which folders have none."""
    entries: list[Entry] = []
    baselines: list[Entry] = []
    left_out: dict[str, list[str]] = {}
    for path in run_folders(top):
        run, name = RunFolder(path), str(path.relative_to(top))
        if not run.metrics_json.is_file():
            left_out.setdefault("unfinished", []).append(name)
            continue
        try:
            found = _entries(run, path.name if name == "." else name, split)
        except Exception as error:  # a torn or foreign file raises many kinds; one folder is no reason to show nothing
            left_out.setdefault("damaged", []).append(f"{name}: {one_line(error)}")
            continue
        if found is None:
            left_out.setdefault(f"no {split} numbers", []).append(name)
            continue
        entries.append(found[0])
        baselines += found[1:]
    return entries, baselines, left_out


def _entries(run: RunFolder, name: str, split: str) -> list[Entry] | None:
    """A run's entry, then those of its baselines (of test); None where it has no numbers of the split."""
    metrics = run.read_metrics()
    if not metrics.get(split):
        return None
    if PROTOCOL_KEY not in metrics:
        raise SeqrecError("its numbers carry no protocol")
    plain, rules = settings_of(run), metrics[PROTOCOL_KEY]
    model = plain["model"]["name"] if plain else "?"
    model = TWO_STAGE if "stages" in metrics else model  # its settings are the ranker's
    seed = plain["trainer"]["seed"] if plain else None
    intervals = metrics.get("intervals", {}).get(split, {})
    data = str(rules["dataset"])
    found = [Entry(name, model, data, seed, metrics[split], intervals, rules, flat(plain))]
    if split == "test":
        for baseline, values in metrics.get("baselines", {}).items():
            found.append(Entry("", baseline, data, None, values, {}, rules))
    return found


def _board(group: Group, split: str) -> BoardGroup:
    rules = group.protocol
    asked = rules.get("name") or flat(rules).get("clicks.protocol", "")  # the second: as runs of before have it
    count = f"{len(group.entries)} run{'s' if len(group.entries) > 1 else ''}"
    words = [str(rules["dataset"]), str(asked), split, f"protocol {group.key}", count]
    rows = [[vars(entry) for entry in part] for part in (group.entries, group.baselines)]
    return BoardGroup(group.key, ", ".join(filter(None, words)), group.differs, rules, *rows)
