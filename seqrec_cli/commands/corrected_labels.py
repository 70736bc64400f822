"""The training rows of `objective=unbiased_click`: logged requests, their labels corrected for where items stood."""

from dataclasses import replace

import numpy as np

from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.objective.unbiased_click import Config
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import view_of
from seqrec_cli.evaluation.logged.labels import corrected
from seqrec_cli.evaluation.logged.position_bias import propensities


def with_corrected_labels(cfg: TrainConfig, log: PackedLog) -> PackedLog:
    """The log as this objective reads it; as it is for any other. Raises SeqrecError where the chances
    cannot be estimated, or the outcome run is of other data."""
    objective = cfg.objective
    if not isinstance(objective, Config):
        return log
    rows = log.clicks["train"]
    looked_C = propensities(rows, objective.propensities)
    shown = ", ".join(f"{each:.2f}" for each in looked_C[:5])
    say(f"objective.propensities: {'given' if objective.propensities else 'estimated'}, by place {shown} ...")
    relevance_RC = None if objective.outcome is None else _relevance(objective.outcome, cfg, log)
    rows = corrected(rows, looked_C, clip=objective.clip, relevance_RC=relevance_RC)
    return replace(log, view=replace(view_of(log), clicks=log.clicks | {"train": rows}))


def _relevance(outcome: str, cfg: TrainConfig, log: PackedLog) -> np.ndarray:
    """The outcome run's probabilities of the training candidates, float64 [R, C]."""
    from seqrec_cli.commands.restore import restore
    from seqrec_cli.config.errors import of_a_run
    from seqrec_cli.evaluation.evaluate import measuring
    from seqrec_cli.evaluation.logged.relevance import probabilities

    try:
        run = restore(outcome, cfg.dataset.archive, cfg.data_dir, hardware=cfg.hardware)
    except SeqrecError as error:
        raise of_a_run(error, "objective.outcome", outcome) from error
    if run.log.fingerprint != log.fingerprint:
        raise SeqrecError(
            f"objective.outcome={outcome}: that run has other data or another protocol; train one as this run is, "
            "with objective=click or objective=unbiased_click"
        )
    with measuring(run.model, run.precision):
        return probabilities(
            run.model,
            log,
            "train",
            max_length=run.cfg.model.max_length,
            batch_size=cfg.evaluation.batch_size,
            device=run.precision.device,
        )
