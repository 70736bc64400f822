"""What a study says of its trials: a line as each ends, and the table at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from seqrec_cli.config.describe import value_in_words
from seqrec_cli.config.quoting import literal
from seqrec_cli.reporting.tables import plain_table
from seqrec_cli.tuning.records import TrialRecord
from seqrec_cli.tuning.study import Study

SHOWN = 20  # trials of the printed table, the best first; all are in trials.csv


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """As they can be given on a command line."""
    return " ".join(f"{key}={literal(key, value)}" for key, value in settings.items())


def trial_line(study: Study, number: int) -> str:
    """`trial 3: ndcg@10 .0812 (best .0850, trial 1), 41 epochs, 18.2 s: trainer.lr=0.001 ...`"""
    record = next(each for each in study.records() if each.number == number)
    best = study.best()
    beside = f" (best {best.value:.4f}, trial {best.number})" if best is not None and best.number != number else ""
    if best is not None and best.number == number:
        beside = " (best)"
    said = f"trial {number}: {outcome(record, study.metric)}{beside}, {_course(record)}: "
    why = f" ({record.proposed_by}: {record.rationale})" if record.rationale else ""
    return said + settings_in_words(record.settings) + why


def outcome(record: TrialRecord, metric: str) -> str:
    """How a trial ended."""
    if record.state == "failed":
        return f"failed ({record.error})"
    if record.state == "pruned":
        return f"ended early at {metric} {record.best.value:.4f}" if record.best else "ended early"
    return f"{metric} {record.value:.4f}" if record.value is not None else record.state


def _course(record: TrialRecord) -> str:
    epochs = record.curve[-1].epoch if record.curve else 0
    return f"{epochs} epoch{'' if epochs == 1 else 's'}, {record.seconds:,.1f} s"


def ordered(records: Sequence[TrialRecord], maximise: bool) -> list[TrialRecord]:
    """The complete ones, the best first, then the others by number."""
    sign = -1 if maximise else 1
    return sorted(records, key=lambda record: (record.value is None, sign * (record.value or 0.0), record.number))


def trials_table(study: Study) -> Table:
    """The best trials with their settings, and how the others ended."""
    records = ordered(study.records(), study.maximise)
    table = plain_table(f"{len(records)} trials, by validation {study.metric}")
    for title in ("trial", study.metric, "epochs", "seconds"):
        table.add_column(Text(title), justify="right")
    table.add_column("by")
    table.add_column("settings", overflow="fold")
    for nth, record in enumerate(records[:SHOWN]):
        value = f"{record.value:.4f}" if record.value is not None else record.state
        epochs = str(record.curve[-1].epoch) if record.curve else ""
        said = " ".join(f"{key.rpartition('.')[2]}={value_in_words(each)}" for key, each in record.settings.items())
        cells = [str(record.number), value, epochs, f"{record.seconds:,.1f}", record.proposed_by, said]
        table.add_row(*map(Text, cells), style="bold" if nth == 0 else None)
    return table
