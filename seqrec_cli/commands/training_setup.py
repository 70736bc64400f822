"""What a training run consists of, made the same way for `train`, `plan` and the benchmarks."""

import torch

from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.batching import BatchedRows, Batching
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.cloze_rows import ClozeRows
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows, WindowRows
from seqrec_cli.data.splits import training_counts, user_training_counts
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.parts.embedding import use_sparse_rows
from seqrec_cli.objectives.contract import Objective, build_objective
from seqrec_cli.training.compiling import compile_model


def fresh_model(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Recommender:
    """The model before its first step, with row-sparse tables and compiled where the config says so."""
    model = build_model(cfg.model, log.catalog, cfg.trainer.seed).to(device)
    counts = training_counts(log), user_training_counts(log)
    model.prepare(*(torch.from_numpy(found).to(device) for found in counts))
    if cfg.hardware.embedding == "sparse":
        use_sparse_rows(model)
    if cfg.hardware.compile and device.type != "meta":
        for trainable in model.trainable_models():
            compile_model(trainable, device)
    return model


def objective_for(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Objective:
    """The objective, told of the items' training counts."""
    objective = build_objective(cfg.objective)
    objective.prepare(torch.from_numpy(training_counts(log)).to(device))
    return objective


def _in_runs(cfg: TrainConfig, objective: Objective) -> bool:
    """Whether a row holds several of a user's targets."""
    return objective.positions and cfg.model.capabilities.all_positions


def training_rows(cfg: TrainConfig, objective: Objective, log: PackedLog, device: torch.device) -> BatchedRows:
    """The rows an objective learns from."""
    trainer, length = cfg.trainer, cfg.model.max_length
    batching = Batching(trainer.batch_size, trainer.seed, trainer.bucket_by_length, trainer.batch_tokens)
    if cfg.objective.capabilities.rows == "prefixes":
        negatives, fixed = objective.negatives_per_row, None if objective.redraw else log.clicks.get("train")
        if fixed is not None and (cfg.dataset.protocol != "positions" or not _in_runs(cfg, objective)):
            return LabelledTraining(log, length, batching, history_negatives=cfg.model.history_negatives)
        if _in_runs(cfg, objective):
            return PositionRows(
                log,
                length,
                batching,
                negatives=negatives,
                device=device,
                whole=not cfg.model.capabilities.recurrent,
                history_negatives=cfg.model.history_negatives,
                fixed_negatives=fixed,
            )
        return PrefixRows(log, length, batching, negatives=negatives, history_negatives=cfg.model.history_negatives)
    if objective.masking is not None:
        return ClozeRows(
            log,
            length,
            batching,
            window=objective.window,
            stride=objective.stride,
            masking=objective.masking,
            device=device,
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
    )
