"""Who names a study's next trials beside Optuna's sampler, in the order in which they are asked."""

import json
from dataclasses import asdict
from pathlib import Path

from seqrec_cli.config.describe import value_in_words
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.tuning import TuneSettings
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.files import write_atomically
from seqrec_cli.saying import Say
from seqrec_cli.tuning.adviser import Adviser
from seqrec_cli.tuning.briefing import Task
from seqrec_cli.tuning.chat import Chat
from seqrec_cli.tuning.horizons import Horizons
from seqrec_cli.tuning.records import Proposer
from seqrec_cli.tuning.space import Space
from seqrec_cli.tuning.statistics import statistics_of

EPOCHS = "trainer.max_epochs"
TASK, LOG = "task.json", "adviser.jsonl"


def check_proposers(tune: TuneSettings, settled: TrainConfig, space: Space) -> None:
    """Raises SeqrecError, before anything is written, for an adviser or a horizon that cannot be."""
    if tune.sampler == "adviser":
        Chat(tune.adviser)
    first, longest = tune.horizon.epochs, settled.trainer.max_epochs
    if first is None:
        return
    given = f"horizon.epochs={first}"
    if EPOCHS in space.entries:
        raise SeqrecError(f"{given} sets {EPOCHS} of every trial, and so does the space; take one out")
    if settled.model.capabilities.family == "closed_form":
        raise SeqrecError(f"{given}: model={settled.model.name} is fitted in closed form, in no epochs; set it to null")
    if first >= longest:
        raise SeqrecError(f"{given} is no shorter than {EPOCHS}={longest}; lower it, or set it to null")
    if (settled.trainer.swa_epochs or 0) > first:
        raise SeqrecError(f"{given} is shorter than trainer.swa_epochs={settled.trainer.swa_epochs}; raise it")


def write_task(tune: TuneSettings, settled: TrainConfig, log: PackedLog, *, folder: Path) -> None:
    """What proposers know of the study, into its folder, where every worker finds it. `settled` is in numbers."""
    epochs = settled.trainer.max_epochs
    task = Task(
        about=f"model={settled.model.name}, objective={settled.objective.name}, dataset={settled.dataset.name}",
        metric=settled.trainer.monitor,
        epochs=epochs,
        longest=round(tune.adviser.longest * epochs),
        budget=_budget(tune),
        statistics=statistics_of(log),
    )
    write_atomically(folder / TASK, json.dumps(asdict(task), indent=2, ensure_ascii=False) + "\n")


def proposers_of(tune: TuneSettings, space: Space, *, folder: Path, say: Say) -> list[Proposer]:
    """Those of the study in a folder: what is followed further comes before what is new."""
    task = Task(**json.loads((folder / TASK).read_text(encoding="utf-8")))
    horizons = None if tune.horizon.epochs is None else Horizons(tune.horizon, task.metric, task.epochs, say)
    found: list[Proposer] = [] if horizons is None else [horizons]
    if tune.sampler == "adviser":
        found.append(Adviser(tune.adviser, space, task, say, folder / LOG, horizons))
    return found


def _budget(tune: TuneSettings) -> str:
    """`40 trials, 90 minutes`."""
    units = {"trials": tune.trials, "minutes": tune.minutes, "epochs of all trials together": tune.epochs}
    return ", ".join(f"{value_in_words(count)} {unit}" for unit, count in units.items() if count is not None)
