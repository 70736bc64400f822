"""Two runs as one: a retriever's best items, put in order by a ranker. `evaluate`, `recommend` and `serve` begin here.

Each run is restored as it was trained, and the two may differ in all but their data and protocol.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqrec_cli.commands.console import say
from seqrec_cli.commands.measure import Measured, rules_of
from seqrec_cli.commands.restore import Restored, restore
from seqrec_cli.commands.warm import on_later_log
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.config.stages import TWO_STAGE, StagesConfig, TwoStageModel
from seqrec_cli.data.view import HeldOut
from seqrec_cli.evaluation.compare import MEANING, differing
from seqrec_cli.evaluation.evaluate import evaluate
from seqrec_cli.metrics.table import request_metric
from seqrec_cli.models.two_stage import Stage, TwoStage
from seqrec_cli.protocols.view.build import with_candidates
from seqrec_cli.saying import Say

MOST_TOLD = 3  # differences between two runs' data
# What a run may have of its own, and what follows from the rest of a protocol.
NOT_COMPARED = ("fingerprint", "max_length", "sees_target_time", "chosen_by", "ranked_users", "counts", MEANING)


@dataclass(frozen=True)
class TwoRuns(Restored):
    """The system of both. Its settings but the model's are the ranker's: evaluation, number format, device."""

    retriever: Restored
    ranker: Restored
    retrieved: int

    @property
    def version(self) -> str:
        return f"{self.retriever.version}+{self.ranker.version}"

    @property
    def parts(self) -> tuple[Restored, ...]:
        return (self.retriever, self.ranker)

    @property
    def stages(self) -> dict[str, Any]:
        names = {"retriever": self.retriever.cfg.model.name, "ranker": self.ranker.cfg.model.name}
        return {**names, "retrieved": self.retrieved}


def asked_run(cfg: StagesConfig, hardware: HardwareConfig, tell: Say = say) -> Restored:
    """The run that a verb is asked for, or both. Raises SeqrecError as `restore` does, and for two that do not fit."""
    # The ranker last: what is of the whole process (threads, kernels) is as it was trained.
    runs = [restore(run, cfg.archive, cfg.data_dir, hardware=hardware, tell=tell) for run in cfg.parts]
    if cfg.ckpt is not None:
        return runs[0]
    retriever, ranker = runs
    _refuse_other_data(retriever, ranker, cfg)
    return two_runs(retriever, ranker, cfg.retrieved)


def two_runs(retriever: Restored, ranker: Restored, retrieved: int) -> TwoRuns:
    """One recommender of two; its rows are as long as the longer of both reads."""
    lengths = [run.cfg.model.max_length for run in (retriever, ranker)]
    stages = (Stage(run.model, length) for run, length in zip((retriever, ranker), lengths, strict=True))
    model = TwoStage(*stages, retrieved=retrieved)
    return TwoRuns(
        ranker.cfg.model_copy(update={"model": TwoStageModel(name=TWO_STAGE, max_length=max(lengths))}),
        model.to(ranker.precision.device),
        ranker.log,
        ranker.precision,
        ranker.epoch,
        ranker.as_trained,
        retriever=retriever,
        ranker=ranker,
        retrieved=retrieved,
    )


def _refuse_other_data(retriever: Restored, ranker: Restored, cfg: StagesConfig) -> None:
    if retriever.log.fingerprint == ranker.log.fingerprint:
        return
    rules = [rules_of((run.cfg, run.model, run.log, run.precision), "val") for run in (retriever, ranker)]
    compared = [{name: value for name, value in each.items() if name not in NOT_COMPARED} for each in rules]
    told = [f"{key} ({one} against {other})" for key, one, other in differing(*compared)][:MOST_TOLD]
    what = ", ".join(told) or "the raw file's bytes, or a setting of the dataset"
    raise SeqrecError(
        f"retriever={cfg.retriever} and ranker={cfg.ranker} were not trained on the same data by one protocol, they "
        f"differ in {what}; take two runs that agree in both"
    )


def on_newer(run: Restored, archive: str) -> tuple[Restored, np.ndarray]:
    """`on_later_log` of a run, or of both."""
    if not isinstance(run, TwoRuns):
        return on_later_log(run, archive)
    retriever, new = on_later_log(run.retriever, archive)
    return two_runs(retriever, on_later_log(run.ranker, archive)[0], run.retrieved), new


def stages_alone(run: TwoRuns, of: Measured, split: HeldOut, *, ranker: bool) -> dict[str, Any]:
    """What share of the targets is retrieved, and each stage's own metrics over the corpus, the ranker's if asked for.

    Cutoffs, and which requests are ranked, are those of the system, `of`.
    """

    def alone(stage: Restored) -> Any:
        log, length = with_candidates(stage.log, "full"), stage.cfg.model.max_length
        return evaluate(stage.model, log, split, cfg=of[0].evaluation, max_length=length, precision=stage.precision)

    retriever = alone(run.retriever)
    recall = float(request_metric(f"recall@{run.retrieved}", retriever.ranks).mean())
    found = {**run.stages, "recall": recall, "retriever_metrics": retriever.metrics}
    return {**found, "ranker_metrics": alone(run.ranker).metrics} if ranker else found
