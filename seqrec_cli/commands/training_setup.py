"""What a training run consists of, made the same way for `train`, `plan` and the benchmarks."""

import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.batching import BatchedRows, Batching
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.cloze_rows import ClozeRows
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows, WindowRows
from seqrec_cli.data.numbers import training_catalog
from seqrec_cli.data.splits import training_counts, training_items, user_training_counts
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.models.layers.embedding import use_sparse_rows
from seqrec_cli.objectives.contract import Objective, build_objective


def fresh_model(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Recommender:
    """The model before its first step, with row-sparse tables and compiled where the config says so."""
    model = build_model(cfg.model, training_catalog(log), cfg.trainer.seed).to(device)
    counts = training_counts(log), user_training_counts(log)
    model.prepare(*(torch.from_numpy(count).to(device) for count in counts))
    if cfg.hardware.embedding == "sparse":
        use_sparse_rows(model)
    if cfg.hardware.compile and device.type != "meta":
        for trainable in model.trainable_models():
            compile_model(trainable, device)
    return model


def compile_model(model: Recommender, device: torch.device) -> None:
    """Let torch's compiler fuse what a step runs (`hardware.compile=true`): an encoder's `encode`, any other model's
    scores of candidates; batch sizes stay free.

    Raises SeqrecError where nothing can be compiled (a C++ compiler is needed, on a GPU also Triton).
    """
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # the compiler's own kinds are private
        reason = str(error).strip().splitlines()[0]
        raise SeqrecError(
            f"hardware.compile=true: torch cannot compile here ({reason}); install a C++ compiler such as g++"
            f"{' and triton' if device.type == 'cuda' else ''}, or use hardware.compile=false"
        ) from error
    finally:
        torch.compiler.reset()
    if isinstance(model, SequenceEncoder):
        model.encode = torch.compile(model.encode, dynamic=True)  # type: ignore[method-assign]
        if type(model).encode_targets is not SequenceEncoder.encode_targets:  # that one calls `encode`
            model.encode_targets = torch.compile(model.encode_targets, dynamic=True)  # type: ignore[method-assign]
    else:
        model.score = torch.compile(model.score, dynamic=True)  # type: ignore[method-assign]
        model.score_positions = torch.compile(model.score_positions, dynamic=True)  # type: ignore[method-assign]


def objective_for(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Objective:
    """The objective, with the items' training counts."""
    objective = build_objective(cfg.objective)
    objective.prepare(torch.from_numpy(training_counts(log)).to(device))
    return objective


def _several_targets_a_row(cfg: TrainConfig, objective: Objective) -> bool:
    """Whether a row holds several of a user's targets, so that their common history is read once."""
    return objective.positions and cfg.model.capabilities.all_positions


def training_rows(cfg: TrainConfig, objective: Objective, log: PackedLog, *, device: torch.device) -> BatchedRows:
    """The rows an objective learns from."""
    trainer, length = cfg.trainer, cfg.model.max_length
    batching = Batching(trainer.batch_size, trainer.seed, trainer.bucket_by_length, trainer.batch_tokens)
    if cfg.objective.capabilities.rows == "prefixes":
        negatives, of_events = objective.negatives_per_row, cfg.model.history_negatives
        pool_N = training_items(log) if of_events and cfg.model.history_negatives_by_popularity else None
        fixed = None if objective.redraw else log.clicks.get("train")
        if fixed is not None and (cfg.protocol.name != "positions" or not _several_targets_a_row(cfg, objective)):
            return LabelledTraining(log, length, batching, history_negatives=of_events, history_pool_N=pool_N)
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
            )
        return PrefixRows(
            log, length, batching, negatives=negatives, history_negatives=of_events, history_pool_N=pool_N
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
