"""What a training run consists of, made the same way for `train`, `plan` and the benchmarks."""

import contextlib

import numpy as np
import torch

from seqrec_cli.commands.compiling import compile_model, refuse_graphs
from seqrec_cli.commands.corrected_labels import with_corrected_labels
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.config.objective import WindowConfig
from seqrec_cli.config.padding import PaddedConfig
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.batching import BatchedRows, Batching
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.cloze_rows import ClozeRows
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows, WindowRows
from seqrec_cli.data.numbers import training_catalog
from seqrec_cli.data.soft_targets import SoftTargets
from seqrec_cli.data.splits import training_counts, training_items, user_training_counts
from seqrec_cli.data.taught_rows import TaughtRows
from seqrec_cli.models.build import build_model, build_sharded
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.layers.embedding import use_sparse_rows
from seqrec_cli.objectives.contract import Objective, build_objective
from seqrec_cli.processes import ALONE, current, started, together
from seqrec_cli.training.closed_form import closed_form_shortage
from seqrec_cli.training.limits import most_memory, refuse_large_model, refuse_many_negatives
from seqrec_cli.training.log_place import log_device


def fresh_model(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Recommender:
    """The model before its first step, with row-sparse tables and compiled where the config says so.

    Raises SeqrecError where it reads times that the log does not have.
    """
    if cfg.model.reads_times and log.times_N is None:
        raise SeqrecError(f"{cfg.model.reads_times}, and {log.without_times}")
    if cfg.hardware.table == "sharded" and current().several:
        assert isinstance(cfg.model, EncoderConfig)
        model = build_sharded(cfg.model, training_catalog(log), cfg.trainer.seed).to(device)
    else:
        model = build_model(cfg.model, training_catalog(log), cfg.trainer.seed).to(device)
    counts = training_counts(log), user_training_counts(log)
    model.prepare(*(torch.from_numpy(count).to(device) for count in counts))
    if cfg.hardware.embedding == "sparse":
        use_sparse_rows(model)
    if cfg.hardware.compile and device.type != "meta":
        if cfg.hardware.compile == "graphs":
            refuse_graphs(cfg, device)
        for trainable in model.trainable_models():
            compile_model(trainable, device, last=_one_a_row(cfg), mode=cfg.hardware.compile)
    return model


def _one_a_row(cfg: TrainConfig) -> bool:
    """Whether each row of windows has one target."""
    return isinstance(cfg.objective, WindowConfig) and cfg.objective.one_a_row


def sketched_model(cfg: TrainConfig, log: PackedLog) -> Recommender:
    """The model without storage, on torch's meta device. Raises SeqrecError where even its size cannot be counted."""
    try:
        shares = together(started() or ALONE) if cfg.hardware.table == "sharded" else contextlib.nullcontext()
        with torch.device("meta"), shares:
            return fresh_model(cfg, log, torch.device("meta"))
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise SeqrecError(
            f"model={cfg.model.name} has a table of more numbers than can be counted; lower model.embed_dim, "
            "model.max_length or whatever else is large"
        ) from error


def refuse_too_large(cfg: TrainConfig, log: PackedLog, device: torch.device, *, model: bool = True) -> None:
    """Raises SeqrecError where the model, or a batch's negatives, cannot fit on `device`: by arithmetic alone, before
    anything is allocated."""
    if cfg.model.capabilities.family == "closed_form":
        if device.type == "cpu" and (line := closed_form_shortage(sketched_model(cfg, log), log)):
            raise SeqrecError(line)
        return
    most = most_memory(device)
    if model:
        refuse_large_model(cfg, sketched_model(cfg, log), most)
    lengths_U = user_training_counts(log)
    one_a_target = cfg.objective.capabilities.rows == "prefixes" or _one_a_row(cfg)
    rows = int(lengths_U.sum()) if one_a_target else int((lengths_U > 1).sum())
    refuse_many_negatives(cfg, rows, int(lengths_U.max(initial=1)), most=most)


def worked_positions(cfg: TrainConfig, lengths_B: np.ndarray, width: int) -> int:
    """On how many the layers work in a batch `width` wide of rows of these lengths."""
    if _packed(cfg):
        return int(lengths_B.sum())
    padded = isinstance(cfg.model, PaddedConfig) and cfg.model.padding != "none"
    return len(lengths_B) * (cfg.model.max_length if padded else width)


def _packed(cfg: TrainConfig) -> bool:
    """Whether rows are laid end to end."""
    return isinstance(cfg.objective, WindowConfig) and cfg.objective.window == "packed"


def objective_for(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Objective:
    """The objective, with the items' training counts."""
    objective = build_objective(cfg.objective)
    objective.prepare(torch.from_numpy(training_counts(log)).to(device))
    objective.read_log(log, device)
    return objective


def _several_targets_a_row(cfg: TrainConfig, objective: Objective) -> bool:
    """Whether a row holds several of a user's targets, so that their common history is read once."""
    return objective.positions and cfg.model.capabilities.all_positions


def training_rows(
    cfg: TrainConfig,
    objective: Objective,
    log: PackedLog,
    *,
    device: torch.device,
    soft: SoftTargets | None = None,
) -> BatchedRows:
    """The rows an objective learns from; `soft` is what a teacher says of them, for one that learns from it. Raises
    SeqrecError where there is none."""
    rows = _rows(cfg, objective, with_corrected_labels(cfg, log), device=device, soft=soft)
    if rows.steps < 1:
        longest = int(user_training_counts(log).max())
        raise SeqrecError(
            f"no training rows: a row is an event and the next, and protocol={cfg.protocol.name} leaves no user more "
            f"than {longest} to train on; give longer histories, another protocol (global_time holds out fewer events) "
            "or model=popular, which needs no rows"
        )
    return rows


def _rows(
    cfg: TrainConfig, objective: Objective, log: PackedLog, *, device: torch.device, soft: SoftTargets | None
) -> BatchedRows:
    trainer, length, log_on = cfg.trainer, cfg.model.max_length, log_device(cfg.hardware.log, log, device)
    batching = Batching(
        trainer.batch_size, trainer.seed, trainer.bucket_by_length, trainer.batch_tokens, packed=_packed(cfg)
    )
    if cfg.objective.capabilities.rows == "prefixes":
        negatives, of_events = objective.negatives_per_row, cfg.model.history_negatives
        pool_N = training_items(log) if of_events and cfg.model.history_negatives_by_popularity else None
        fixed = None if objective.redraw else log.clicks.get("train")
        if fixed is not None and (cfg.protocol.name != "positions" or not _several_targets_a_row(cfg, objective)):
            return LabelledTraining(
                log,
                length,
                batching,
                history_negatives=of_events,
                history_pool_N=pool_N,
                device=device,
                log_on=log_on,
            )
        if _several_targets_a_row(cfg, objective):
            return PositionRows(
                log,
                length,
                batching,
                negatives=negatives,
                device=device,
                whole=not cfg.model.capabilities.recurrent,
                history_negatives=of_events,
                history_pool_N=pool_N,
                fixed_negatives=fixed,
                log_on=log_on,
            )
        return PrefixRows(
            log,
            length,
            batching,
            negatives=negatives,
            history_negatives=of_events,
            history_pool_N=pool_N,
            device=device,
            log_on=log_on,
        )
    if objective.masking is not None:
        return ClozeRows(
            log,
            length,
            batching,
            window=objective.window,
            stride=objective.stride,
            masking=objective.masking,
            device=device,
            log_on=log_on,
        )
    if objective.reads_soft_targets:
        assert soft is not None
        return TaughtRows(
            log,
            length,
            batching,
            soft=soft,
            window=objective.window,
            stride=objective.stride,
            device=device,
            log_on=log_on,
        )
    return WindowRows(
        log,
        length,
        batching,
        window=objective.window,
        stride=objective.stride,
        negatives=objective.negatives_per_position,
        draws_by_row=objective.draws_by_row,
        device=device,
        log_on=log_on,
    )
