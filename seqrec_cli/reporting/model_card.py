"""A model card: what a trained model is, what it was measured on and what not, as Markdown and as a page of its own.

After Mitchell et al. 2019 (arXiv 1810.03993): model, data, metrics with their spread, limits. Everything is read from
the run: its manifest, its metrics, its data's manifest. What a run did not record is said to be missing, or left out.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts, user_training_counts, view_of
from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.energy import energy
from seqrec_cli.reporting.html_page import page, picture
from seqrec_cli.reporting.openings import opened_words
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.tables import BASELINES, ORACLE, protocol_line, shown_metrics

CARD, PAGE, PICTURE = "README.md", "card.html", "model.svg"
MEGABYTE = 2**20
FAMILIES = {
    "encoder": "a next-item encoder: a history becomes a vector, which is multiplied with every item's",
    "ranker": "a click ranker: a history and one candidate become one logit",
    "generator": "a generative retriever: an item is a tuple of codes, and the next one's are predicted one by one",
    "closed_form": "a model in closed form: it counts, and takes no training steps",
}


@dataclass(frozen=True)
class Subject:
    """The run that a card is of."""

    cfg: TrainConfig
    log: PackedLog
    folder: RunFolder
    parameters: int  # trained numbers
    weights: int  # bytes of all of the model's tensors
    sees_target_time: bool
    repeat: str  # the command


@dataclass(frozen=True)
class Section:
    """A title and Markdown lines."""

    title: str
    lines: Sequence[str]


def plain(text: object) -> str:
    """A text that Markdown shows as it is: of a data set's or a run's own, not of ours."""
    one_line = " ".join(str(text).split())
    return re.sub(r"[\\`*\[\]<>|&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", one_line)


def sections_of(subject: Subject) -> list[Section]:
    """What a run's card says, in order."""
    manifest = subject.folder.read_manifest()
    metrics = subject.folder.read_metrics() if subject.folder.metrics_json.is_file() else {}
    of_manifest = partial(_lines_of, subject.folder.manifest, subject.folder.again)
    of_metrics = partial(_lines_of, subject.folder.metrics_json, subject.folder.again)
    found = [
        Section("", of_manifest(lambda: _head(subject, manifest))),
        Section("Data and protocol", of_metrics(lambda: _data(subject, metrics))),
        Section("Metrics", of_metrics(lambda: _metrics(subject, metrics))),
        Section("Parts of the targets", of_metrics(lambda: _parts(metrics))),
        Section("Size", _size(subject)),
        Section("Training", of_manifest(lambda: _training(manifest))),
        Section("Energy", energy(subject.folder.path)),
        Section("Limits", of_metrics(lambda: _limits(subject, metrics))),
        Section("To repeat it", fenced(subject.repeat, "sh")),
    ]
    return [section for section in found if section.lines]


def _lines_of(path: Path, mend: str, made: Callable[[], list[str]]) -> list[str]:
    """Lines of what a file of the run holds. Raises SeqrecError where a value is missing or of another kind, since
    somebody has changed it."""
    try:
        return made()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise SeqrecError(f"{path} is damaged, or was changed by hand ({what}); {mend}") from error


def title_of(subject: Subject) -> str:
    """The card's title."""
    return f"{subject.cfg.model.name} on {subject.cfg.dataset.name}"


def write_card(folder: Path, title: str, sections: Sequence[Section], *, picture_svg: Path | None = None) -> list[Path]:
    """README.md and card.html in a folder; a picture of the model stands in the page, and is linked in the Markdown."""
    from markdown_it import MarkdownIt  # of rich's, where pages are asked for

    folder.mkdir(parents=True, exist_ok=True)
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    alt = f"The modules of {title}, and the shapes of what they hand on"
    lines, parts = [f"# {plain(title)}", ""], []
    for nth, section in enumerate(sections):
        text = [*([f"## {section.title}", ""] if section.title else []), *section.lines, ""]
        lines += text
        parts.append(reader.render("\n".join(text)))
        if nth == 0 and picture_svg is not None:
            lines += [f"![{plain(alt)}]({PICTURE})", ""]
            parts.append(picture(picture_svg, alt))
    written = [folder / CARD, folder / PAGE]
    write_atomically(written[0], "\n".join(lines).rstrip() + "\n")
    write_atomically(written[1], page(title, parts))
    return written


def fenced(code: str, language: str) -> list[str]:
    """Code in a fence that it cannot end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return [f"{fence}{language}", *code.splitlines(), fence]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, its first column words and the others numbers."""
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def _head(subject: Subject, manifest: dict[str, Any]) -> list[str]:
    cfg, versions, git = subject.cfg, manifest.get("versions", {}), manifest.get("git")
    by = f"seqrec {versions['seqrec']} and torch {versions['torch']}" if versions else "seqrec"
    at = f", at commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''} of {git['of']}" if git else ""
    family = FAMILIES[cfg.model.capabilities.family]
    lines = [f"`{cfg.model.name}` is {family}. It was trained by {by}{at}."]
    if "mixed" in manifest:
        members = ", ".join(f"{plain(name)} ({plain(path)})" for name, path in manifest["mixed"].items())
        lines += ["", f"It is the mean of runs that were trained apart: {members}."]
    return lines


def _data(subject: Subject, metrics: dict[str, Any]) -> list[str]:
    log, cfg = subject.log, subject.cfg
    counts = f"{len(log.items_N):,} events of {log.num_users:,} users and {log.num_items:,} items"
    lines = [f"- Data: {plain(cfg.dataset.name)}, {counts} (fingerprint `{log.fingerprint[:12]}`)."]
    span = log.manifest.get("time_span")
    if span:
        first, last = (datetime.fromtimestamp(moment, UTC).date().isoformat() for moment in span)
        lines.append(f"- Time: {first} to {last} (UTC).")
    removed = [step for step in log.manifest.get("filters", []) if step.get("removed_events")]
    for step in removed:
        lines.append(f"- Filter {plain(step['filter'])}: {step['removed_events']:,} events removed.")
    if "protocol" in metrics:
        lines.append(f"- Protocol: {plain(protocol_line(metrics['protocol']))}.")
        lines.append(f"- Weights were chosen by {plain(metrics['protocol']['chosen_by'])} on validation.")
    else:
        lines.append(f"- Protocol: {plain(cfg.protocol.name)}; no numbers were stored with the run.")
    return lines


def _metrics(subject: Subject, metrics: dict[str, Any]) -> list[str]:
    splits = [split for split in ("test", "val") if split in metrics]
    if not splits:
        return ["None were stored with the run."]
    lines: list[str] = []
    for split in splits:
        columns = shown_metrics(metrics[split])
        rows = [[f"**{plain(subject.cfg.model.name)}**", *(_number(metrics[split].get(name)) for name in columns)]]
        intervals = metrics.get("intervals", {}).get(split, {})
        if intervals:
            rows.append(["95 % interval", *(_interval(intervals.get(name)) for name in columns)])
        baselines = metrics.get("baselines" if split == "test" else "baselines_val", {})
        known = [name for name in (*BASELINES, ORACLE) if name in baselines]
        for name in [*known, *(name for name in baselines if name not in known)]:
            label = plain(BASELINES.get(name, name))
            rows.append([label, *(_number(baselines[name].get(column)) for column in columns)])
        lines += [f"On {'test' if split == 'test' else 'validation'}:", ""]
        lines += [*table(["", *map(plain, columns)], rows), ""]
    return [*lines, "Intervals are of the mean over users. `seqrec metrics` says what each metric is."]


def _parts(metrics: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for split, parts in metrics.get("parts", {}).items():
        if not parts:
            continue
        columns = [name for name in shown_metrics(next(iter(parts.values()))) if name != "targets"]
        rows = [
            [plain(label), f"{int(row['targets']):,}", *(_number(row.get(name)) for name in columns)]
            for label, row in parts.items()
        ]
        lines += [f"On {plain(split)}:", "", *table(["", "targets", *map(plain, columns)], rows), ""]
    return lines[:-1]


def _size(subject: Subject) -> list[str]:
    lines = [
        f"- {subject.parameters:,} trained parameters; {subject.weights / MEGABYTE:,.2f} MB of tensors in memory.",
        f"- Reads at most {subject.cfg.model.max_length} of a user's latest events.",
    ]
    if subject.folder.best.is_file():
        size = subject.folder.best.stat().st_size / MEGABYTE
        lines.append(f"- Its checkpoint `{subject.folder.best.name}` has {size:,.2f} MB.")
    return lines


def _training(manifest: dict[str, Any]) -> list[str]:
    lines, fit, hardware = [], manifest.get("fit"), manifest.get("hardware")
    if fit:
        chosen = f"; the weights are those after epoch {fit['best_epoch']}" if fit["steps"] else ""
        lines.append(
            f"- {fit['seconds']:,} s of training: {fit['steps']:,} steps in {fit['epochs']} epochs "
            f"({fit['stopped_by']}){chosen}."
        )
    if "targets_per_second" in manifest:
        lines.append(f"- {manifest['targets_per_second']:,} targets learned from a second.")
    if "wall_seconds" in manifest:
        peak = f", at most {manifest['peak_memory_mb']:,} MB of memory" if "peak_memory_mb" in manifest else ""
        lines.append(f"- {manifest['wall_seconds']:,} s from start to end, with measuring{peak}.")
    if hardware:
        where = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} of {hardware['cores']} cores"
        lines.append(f"- On {plain(where)}, in {plain(manifest.get('precision', 'fp32'))}.")
    if "seed" in manifest:
        lines.append(f"- Seed {manifest['seed']}.")
    return lines


def _limits(subject: Subject, metrics: dict[str, Any]) -> list[str]:
    log, cfg = subject.log, subject.cfg
    cold_items = int((training_counts(log)[1:] == 0).sum())
    cold_users = int((user_training_counts(log)[1 : log.num_users + 1] == 0).sum())
    lines = [
        f"- Items: {cold_items:,} of {log.num_items:,} had no training event, and no item that the data lack can be "
        "recommended at all.",
        f"- Users: {cold_users:,} of {log.num_users:,} had no training event. Of whom nothing is known gets what is "
        "popular.",
        f"- History: events beyond the latest {cfg.model.max_length} are not read.",
    ]
    seen = "may come back" if view_of(log).seen == "keep" else "are never recommended again"
    lines.append(f"- Items of a history {seen} (protocol.seen={view_of(log).seen}).")
    if subject.sees_target_time:
        lines.append("- It reads the time of the event that it predicts: a different protocol from those that do not.")
    if not metrics:
        lines.append(
            "- Test: not known here. What was measured lies in the run's folder, and this is its checkpoint alone."
        )
    elif "test" in metrics:
        lines.append(f"- Test: {plain(opened_words(metrics.get('test_opened')))}.")
    else:
        lines.append("- Test: sealed. No number here is of the test set.")
    lines.append(
        "- It was trained on these data and measured on them: other items, other people or a later time may give other "
        "numbers, and nothing here says how it treats groups of people that were not measured apart."
    )
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
