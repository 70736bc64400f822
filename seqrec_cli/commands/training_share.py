"""What every process but the first does of a training: the same steps and validations, on its share of the rows.

It goes beside `train.main`: what that does with all processes, in which order, stands here once more without folders,
tables and words.
"""

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from seqrec_cli.commands.measure import assist_measuring, validated
from seqrec_cli.commands.teaching import taught_before
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.layers.sharded_table import alike
from seqrec_cli.processes import Processes, current
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.saying import silent
from seqrec_cli.training.checkpoint import LAST, load_checkpoint
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.fitting import Listener
from seqrec_cli.training.loop import fit
from seqrec_cli.training.precision import resolve_precision
from seqrec_cli.training.validation_loss import ValidationLoss

Group = Callable[[float], AbstractContextManager[Processes]]


def assist(cfg: TrainConfig, group: Group) -> None:
    """A share of one run, whose settings are all numbers."""
    precision = resolve_precision(cfg.hardware)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    with group(60 * (cfg.hardware.timeout_minutes or 1)):
        refuse_other_data(log)
        model = fresh_model(cfg, log, precision.device)
        objective = objective_for(cfg, log, precision.device)
        rows = training_rows(cfg, objective, log, device=precision.device, soft=taught_before(cfg, log))
        folder, resume_from = handed_out(model, Path(), None)
        measured = cfg, model, log, precision
        loss = ValidationLoss(cfg, objective, log, device=precision.device)
        if resume_from is None:
            fit_closed_form(model, log)
        fitted = fit(
            model,
            objective,
            rows,
            cfg=cfg.trainer,
            precision=precision,
            validate=lambda: validated(measured, loss).metrics,
            header={},
            folder=folder,
            listener=Listener(),
            resume_from=resume_from,
        )
        if fitted.reason not in ("interrupted", "pruned"):
            assist_measuring(measured, test=cfg.evaluation.test, loss=loss)


def refuse_other_data(log: PackedLog) -> None:
    """Raises SeqrecError, in all processes, where one has read other data than the first."""
    found = current().gather((log.fingerprint, socket.gethostname()))
    for rank, (fingerprint, host) in enumerate(found):
        if fingerprint != found[0][0]:
            raise SeqrecError(
                f"process {rank} on {host} has other data than process 0 on {found[0][1]} (fingerprints {fingerprint} "
                f"and {found[0][0]}); give all machines the same raw file"
            )


def handed_out(
    model: Recommender, folder: Path, resume_from: dict[str, Any] | None
) -> tuple[Path, dict[str, Any] | None]:
    """The first process's weights, the folder that it writes, and the checkpoint that it goes on from, in every
    process. Rows of sharded tables are each process's own, and read by it from the folder."""
    current().copy_from_first(alike(model))
    folder = current().from_first(folder.resolve())
    if model.shard is None:
        return folder, current().from_first(resume_from)
    goes_on = current().from_first(resume_from is not None)
    if goes_on and not current().is_first:
        try:
            resume_from = load_checkpoint(folder / LAST, whole=False)
        except SeqrecError as error:
            raise SeqrecError(f"hardware.table=sharded: every process reads the run's folder; {error}") from error
    return folder, resume_from
