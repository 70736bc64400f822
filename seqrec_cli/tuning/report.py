"""What a study leaves: a table of its trials, pictures, one page of all, and its best configuration."""

import base64
import csv
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from seqrec_cli.config.describe import value_in_words
from seqrec_cli.files import atomic_file, write_atomically
from seqrec_cli.metrics.table import LOSS
from seqrec_cli.reporting.html_page import heading, html_table, note, page
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.tuning.configs import TrialConfigs
from seqrec_cli.tuning.curves import over_fit
from seqrec_cli.tuning.experiment import write_experiment
from seqrec_cli.tuning.folder import StudyFolder
from seqrec_cli.tuning.pictures import draw_study, importance
from seqrec_cli.tuning.records import TrialRecord
from seqrec_cli.tuning.study import Study
from seqrec_cli.tuning.telling import ordered, outcome

CSV, PAGE, BEST = "trials.csv", "study.html", "best"
SHOWN = ("hr@10", "ndcg@10", "mrr", "auc", "gauc", "logloss")  # of the best run, in its file's head


def write_report(study: Study, folder: StudyFolder, *, more: Sequence[str] = ()) -> None:
    """Write table, pictures and page; `more` are parts of the page, in HTML, at its end."""
    _write_csv(study, folder.path / CSV)
    pictures = draw_study(study, folder.path)
    write_atomically(folder.path / PAGE, _page(study, folder, pictures, more=more))


def write_best(study: Study, best: TrialRecord, folder: StudyFolder, *, configs: TrialConfigs) -> None:
    """`experiment/best.yaml`, with what was measured."""
    settings = best.settings | ({} if best.epochs is None else {"trainer.max_epochs": best.epochs})
    head = [
        f"Trial {best.number}, the best of {len(study.records())} by validation {study.metric}.",
        "",
        f"  {folder.experiment_command(BEST)}",
        "",
        f"Run time: {best.seconds:,.0f} s, as one of the study's trials.",
        *textwrap.wrap(f"Expect, {_measured(best)}; one seed, the best of many by validation, which flatters it.", 116),
    ]
    write_experiment(folder.path / "experiment" / f"{BEST}.yaml", configs, settings, head=head)


def _measured(best: TrialRecord) -> str:
    assert best.run_dir is not None
    metrics = RunFolder(Path(best.run_dir)).read_metrics()
    parts = []
    for split in ("val", "test"):
        shown = [f"{name.upper()} {metrics[split][name]:.4f}" for name in SHOWN if name in metrics.get(split, {})]
        if shown:
            parts.append(f"{'validation' if split == 'val' else split}: {', '.join(shown)}")
    return "; ".join(parts)


def trial_row(study: Study, record: TrialRecord) -> dict[str, Any]:
    """A trial, with the same columns as the others; None for what it does not have."""
    best, last, rise = record.best, record.curve[-1] if record.curve else None, over_fit(record)
    return {
        "trial": record.number,
        "state": record.state,
        study.metric: record.value if record.value is not None else best and best.value,
        "epoch": best and best.epoch,
        "epochs": last and last.epoch,
        "followed": record.followed,
        "loss": last and last.val_loss,
        "loss_rise": rise and round(rise.rise, 4),  # its loss at the end over its lowest, where it over-fits
        "seconds": round(record.seconds, 3),
        "by": record.proposed_by,
        **{key: record.settings.get(key) for key in study.space.entries},
        "error": record.error,
    }


def _write_csv(study: Study, path: Path) -> None:
    records = study.records()
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for record in records:
            row = trial_row(study, record) | {key: value_in_words(value) for key, value in record.settings.items()}
            if record is records[0]:
                rows.writerow(row)
            rows.writerow(["" if value is None else value for value in row.values()])


def _page(study: Study, folder: StudyFolder, pictures: Sequence[Path], *, more: Sequence[str]) -> str:
    records, best = ordered(study.records(), study.maximise), study.best()
    parts = [note(_summary(study))]
    if best is not None:
        parts += [heading("The best"), note(_measured(best))]
        rows = [[key, value_in_words(value)] for key, value in best.settings.items()]
        parts += [html_table(["setting", "value"], rows, text=1), _command(folder.train_command(best))]
        parts.append(_command(folder.experiment_command(BEST)))
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<img alt="{picture.stem}" style="max-width:100%" src="data:image/png;base64,{data}">')
    weights = importance(study)
    if weights:
        rows = [[key, f"{value:.3f}"] for key, value in weights.items()]
        parts += [heading("Importance"), html_table(["setting", "share"], rows, text=1)]
    keys = list(study.space.entries)
    table = []
    for record in records:
        values = [value_in_words(record.settings[key]) if key in record.settings else "" for key in keys]
        epochs = str(record.curve[-1].epoch) if record.curve else ""
        at = str(record.best.epoch) if record.best else ""
        said = [str(record.number), outcome(record, study.metric), record.proposed_by, at, epochs, _loss(record)]
        table.append([*said, f"{record.seconds:,.1f}", *values])
    columns = ["trial", "outcome", "by", "best epoch", "epochs", "validation loss", "seconds", *keys]
    parts += [heading("Trials"), html_table(columns, table, text=3, strong=[0] if best else [])]
    return page(f"Study of {folder.path.name}", [*parts, *more])


def _loss(record: TrialRecord) -> str:
    """`5.9012, up 8 % from epoch 12`: at the run's end, and how far above its lowest where it over-fits."""
    if not record.curve or record.curve[-1].val_loss is None:
        return ""
    rise = over_fit(record)
    said = f", up {rise.rise:.0%} from epoch {rise.lowest_epoch}" if rise else ""
    return f"{record.curve[-1].val_loss:.4f}{said}"


def _summary(study: Study) -> str:
    records = study.records()
    measured = [each for each in records if each.curve and each.curve[-1].val_loss is not None]
    rising = sum(over_fit(each) is not None for each in measured)
    counts = {state: sum(each.state == state for each in records) for state in ("complete", "pruned", "failed")}
    by = "lower" if study.metric == LOSS or not study.maximise else "higher"
    return (
        f"{len(records)} trials in {study.seconds() / 60:,.1f} minutes: {counts['complete']} run to their end, "
        f"{counts['pruned']} ended early, {counts['failed']} failed; by validation {study.metric} ({by} is better), "
        f"sampler {study.tune.sampler}, pruner {study.tune.pruner}. Validation loss rises at the end of {rising} of "
        f"{len(measured)} runs. No test set was read for any choice."
    )


def _command(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
