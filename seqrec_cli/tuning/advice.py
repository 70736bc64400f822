"""What proposers report at a study's end: reasons trial by trial, an adviser's final word, how horizons agree."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.board import markdown_row
from seqrec_cli.reporting.html_page import heading, html_table, note
from seqrec_cli.tuning.adviser import FALLBACK, Adviser, FinalWord
from seqrec_cli.tuning.horizons import Horizons
from seqrec_cli.tuning.proposers import LOG
from seqrec_cli.tuning.records import Proposer, TrialRecord
from seqrec_cli.tuning.telling import outcome, settings_in_words

FINAL, REPORT = "final_word.json", "advice.md"


def final_word(proposers: Sequence[Proposer], records: list[TrialRecord], folder: Path) -> FinalWord | None:
    """The adviser's, where there is one. For the same trials it is asked once: the study's folder has its answer."""
    adviser = next((each for each in proposers if isinstance(each, Adviser)), None)
    if adviser is None:
        return None
    path, ended = folder / FINAL, [[each.number, each.state] for each in records]
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["trials"] == ended:
            return FinalWord(next(each for each in records if each.number == told["trial"]), told["reasons"])
    found = adviser.conclude(records)
    if found is not None:
        told = {"trial": found.trial.number, "reasons": found.reasons, "trials": ended}
        write_atomically(path, json.dumps(told, ensure_ascii=False) + "\n")
    return found


def lines_of(proposers: Sequence[Proposer], records: list[TrialRecord]) -> list[str]:
    """How runs of different lengths agree, and how many trials an adviser named, where there are such."""
    horizons = next((each for each in proposers if isinstance(each, Horizons)), None)
    lines = [] if horizons is None else horizons.lines(records)
    adviser = next((each for each in proposers if isinstance(each, Adviser)), None)
    if adviser is not None:
        new = [each for each in records if each.proposed_by != Horizons.name]
        named = sum(each.proposed_by == adviser.name for each in new)
        lines.append(
            f"the adviser named {named} of {len(new)} trials" + (f", {FALLBACK} the others" if named < len(new) else "")
        )
    return lines


@dataclass(frozen=True)
class Advice:
    """All that is told of reasons."""

    records: list[TrialRecord]
    best: TrialRecord  # by validation
    metric: str
    _: KW_ONLY
    lines: list[str]
    final: FinalWord | None
    unused: Counter[str]  # answers of the adviser, by what was wrong with them

    def all_lines(self) -> list[str]:
        """What is printed."""
        if self.final is None:
            return self.lines
        trial = self.final.trial
        beside = "" if trial.number == self.best.number else f"; the best by validation is trial {self.best.number}"
        final = (
            f"the adviser's final configuration: trial {trial.number} ({outcome(trial, self.metric)}{beside}): "
            f"{settings_in_words(trial.settings)}; because: {self.final.reasons}"
        )
        return [*self.lines, final]

    def markdown(self) -> str:
        """A file of its own, which can be read without a browser."""
        parts = [f"# {len(self.records)} trials, by validation {self.metric}", ""]
        parts += [*(f"- {line}" for line in self.all_lines()), ""]
        if self.unused:
            parts += ["## Answers that were not used", "", *(f"- {line}" for line in self._faults()), ""]
        titles, rows = self._table()
        parts += [
            "## Trial by trial",
            "",
            markdown_row(titles),
            markdown_row(["---"] * len(titles)),
            *map(markdown_row, rows),
        ]
        return "\n".join(parts) + "\n"

    def html(self) -> list[str]:
        """Parts of the study's page."""
        parts = [heading("Who named which trial, and why"), *map(note, self.all_lines())]
        if self.unused:
            parts += [heading("Answers that were not used"), *map(note, self._faults())]
        titles, rows = self._table()
        return [*parts, html_table(titles, rows, text=len(titles))]

    def _faults(self) -> list[str]:
        return [f"{why}" + (f" ({times} times)" if times > 1 else "") for why, times in self.unused.items()]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for each in self.records:
            follows = f"; longer than trial {each.continues}" if each.continues is not None else ""
            cells = [str(each.number), each.proposed_by, outcome(each, self.metric), f"{each.followed}{follows}"]
            rows.append([*cells, settings_in_words(each.settings), each.rationale])
        return ["trial", "by", "result", "epochs", "settings", "why"], rows


def unused(folder: Path) -> Counter[str]:
    """Why answers were refused, by the adviser's log; a row that a killed process left cut is none."""
    log, found = folder / LOG, Counter[str]()
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        with contextlib.suppress(ValueError):
            found.update(filter(None, [json.loads(line)["refused"]]))
    return found
