"""`seqrec compare`: runs of one protocol side by side, and what the difference between their users is worth."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.commands.compare_online import compare_arms
from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.records import CompareConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.evaluation.compare import same_protocol
from seqrec_cli.evaluation.paired import DELONG, Stored, compared, corrected, same_targets
from seqrec_cli.evaluation.segments import Segment, needs_log, segments
from seqrec_cli.evaluation.stored import StoredClicks, StoredRanks, is_click_metric
from seqrec_cli.files import write_atomically
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.comparison import DIFFERENCES, Part, comparison_csv, comparison_page, comparison_table
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.run_search import settings_of
from seqrec_cli.reporting.tables import print_table

CUTOFFS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 200, 500, 1000)  # of the page's curve


def main(cfg: CompareConfig) -> dict[str, Any]:
    """Print a table of all users and, with `segments`, one of each part of them; the same as plain values.

    With `log` the arms of an online experiment.
    """
    if cfg.runs is None:
        assert cfg.log is not None
        return compare_arms(Path(cfg.log).expanduser(), cfg.output)
    names, folders = _names(cfg.runs), [RunFolder.open_measured(run) for run in cfg.runs]
    rows = [folder.read_metrics() for folder in folders]
    first: dict[str, Any] = rows[0].get("protocol", {})
    for field in cfg.may_differ:
        if field not in first:
            raise SeqrecError(f"may_differ: no field '{field}' of a protocol{nearest(field, first)}")
    rules = same_protocol(rows, names, cfg.may_differ)
    clicks = any(map(is_click_metric, cfg.metrics))
    runs = [
        Stored(
            StoredRanks.read(folder.ranks(cfg.split)),
            StoredClicks.read(folder.clicks(cfg.split)) if clicks else None,
        )
        for folder in folders
    ]
    same_targets(runs, names)
    log = _log_of(folders[0], cfg.data_dir) if any(map(needs_log, cfg.segments)) else None
    parts = _parts(cfg, runs, log)
    for part in parts:
        print_table(comparison_table(names, part.found, part.title))
    differing = f"; the protocols may differ in {', '.join(cfg.may_differ)}" if cfg.may_differ else ""
    say(DIFFERENCES.format(first=names[0]) + differing)
    if DELONG in parts[0].found:
        say("auc resamples users; auc (DeLong) takes every candidate as independent of the others of its user")
    if cfg.output is not None:
        _write(Path(cfg.output).expanduser(), names, parts, runs=runs, title=" and ".join(names), rules=rules)
    return {
        "runs": _plain(names, parts[0]),
        "segments": [
            {"kind": part.kind, "label": part.label, "users": part.users, "runs": _plain(names, part)}
            for part in parts[1:]
        ],
    }


def _names(runs: tuple[str, ...]) -> list[str]:
    """The folders' own names where they tell the runs apart, else their paths."""
    short = [Path(run).expanduser().resolve().name for run in runs]
    return short if len(set(short)) == len(short) else list(runs)


def _log_of(folder: RunFolder, data_dir: str | None) -> PackedLog:
    """The data of a run, for segments."""
    plain = settings_of(folder)
    if not plain:
        raise SeqrecError(f"{folder.path}: the run that it measures is gone, and segments need its data")
    cfg = validate_plain("train", plain if data_dir is None else {**plain, "data_dir": data_dir})
    assert isinstance(cfg, TrainConfig)
    return with_view(prepare(cfg.dataset, Path(cfg.data_dir), say), cfg.protocol, say)


def _parts(cfg: CompareConfig, runs: list[Stored], log: PackedLog | None) -> list[Part]:
    """All users first. The p-values of each way to part the users are a family of their own."""
    everything = np.ones(len(runs[0].ranks.users_T), bool)
    all_clicks = None if runs[0].clicks is None else np.ones(len(runs[0].clicks.users_N), bool)
    families = {"": [Segment(cfg.split, everything, all_clicks)]}
    families |= {kind: segments(kind, runs[0], log) for kind in cfg.segments}
    found = []
    for kind, of_kind in families.items():
        inside = [[segment.of(run) for run in runs] for segment in of_kind]
        tables = corrected([compared(each, cfg.metrics, resamples=cfg.resamples, seed=cfg.seed) for each in inside])
        for segment, each, table in zip(of_kind, inside, tables, strict=True):
            plain = {metric: [asdict(run) for run in of_runs] for metric, of_runs in table.items()}
            found.append(Part(kind, segment.label, _users(each[0]), plain))
    return found


def _users(run: Stored) -> int:
    return len(np.unique(run.ranks.users_T))


def _plain(names: list[str], part: Part) -> list[dict[str, Any]]:
    return [
        {"run": name, **{metric: values[number] for metric, values in part.found.items()}}
        for number, name in enumerate(names)
    ]


def _write(
    folder: Path, names: list[str], parts: list[Part], *, runs: list[Stored], title: str, rules: dict[str, Any]
) -> None:
    """`compare.csv` and `compare.html`."""
    most = int(runs[0].ranks.candidates_T.max())
    cutoffs = [cutoff for cutoff in CUTOFFS if cutoff <= most]
    shares = [[float((run.ranks.ranks_T <= cutoff).mean()) for cutoff in cutoffs] for run in runs]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "compare.csv", comparison_csv(names, parts))
    text = comparison_page(names, parts, title=title, protocol=rules, cutoffs=cutoffs, shares=shares)
    write_atomically(folder / "compare.html", text)
    say(str(folder / "compare.html"))
