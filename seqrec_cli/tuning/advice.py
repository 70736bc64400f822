"""What proposers report at a study's end: reasons trial by trial, an adviser's final word, how horizons agree."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from seqrec_cli.files import write_atomically
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


def final_line(final: FinalWord, best: TrialRecord, *, metric: str) -> str:
    """Its configuration, beside the best by validation where that is another."""
    beside = "" if final.trial.number == best.number else f"; the best by validation is trial {best.number}"
    return (
        f"the adviser's final configuration: trial {final.trial.number} ({outcome(final.trial, metric)}{beside}): "
        f"{settings_in_words(final.trial.settings)}; because: {final.reasons}"
    )


def report(
    records: list[TrialRecord],
    best: TrialRecord,
    *,
    metric: str,
    final: FinalWord | None,
    lines: list[str],
    folder: Path,
) -> str:
    """All of it as Markdown; empty where there was nobody to give a reason."""
    if not lines:
        return ""
    parts = [f"# {len(records)} trials, by validation {metric}", ""]
    if final is not None:
        line = final_line(final, best, metric=metric)
        parts += [line[0].upper() + line[1:], ""]
    parts += [*(f"- {line}" for line in lines), ""]
    unused = _unused(folder / LOG)
    if unused:
        told = [f"- {reason}" + (f" ({times} times)" if times > 1 else "") for reason, times in unused.items()]
        parts += ["## Answers that were not used", "", *told, ""]
    parts += ["## Trial by trial", "", "| trial | by | result | epochs | settings | why |", "|---|---|---|---|---|---|"]
    for each in records:
        follows = f"; longer than trial {each.continues}" if each.continues is not None else ""
        cells = [str(each.number), each.proposed_by, outcome(each, metric), f"{each.followed}{follows}"]
        cells += [settings_in_words(each.settings), each.rationale]
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


def _unused(log: Path) -> Counter[str]:
    """Why answers were refused, by the adviser's log; a row that a killed process left cut is none."""
    found: Counter[str] = Counter()
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        with contextlib.suppress(ValueError):
            found.update(filter(None, [json.loads(line)["refused"]]))
    return found
