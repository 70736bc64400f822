"""What a training run consists of, made the same way for `train`, `plan` and the benchmarks."""

import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.objective import WindowConfig
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
from seqrec_cli.training.closed_form import closed_form_shortage
from seqrec_cli.training.limits import most_memory, refuse_large_model, refuse_many_negatives
from seqrec_cli.training.log_place import log_device


def fresh_model(cfg: TrainConfig, log: PackedLog, device: torch.device) -> Recommender:
    """The model before its first step, with row-sparse tables and compiled where the config says so.

    Raises SeqrecError where it reads times that the log does not have.
    """
    if cfg.model.reads_times and log.times_N is None:
        raise SeqrecError(f"{cfg.model.reads_times}, and {log.without_times}")
    model = build_model(cfg.model, training_catalog(log), cfg.trainer.seed).to(device)
    counts = training_counts(log), user_training_counts(log)
    model.prepare(*(torch.from_numpy(count).to(device) for count in counts))
    if cfg.hardware.embedding == "sparse":
        use_sparse_rows(model)
    if cfg.hardware.compile and device.type != "meta":
        for trainable in model.trainable_models():
            compile_model(trainable, device, last=_one_a_row(cfg))
    return model


def _one_a_row(cfg: TrainConfig) -> bool:
    """Whether each row of windows has one target."""
    return isinstance(cfg.objective, WindowConfig) and cfg.objective.one_a_row


def sketched_model(cfg: TrainConfig, log: PackedLog) -> Recommender:
    """The model without storage, on torch's meta device. Raises SeqrecError where even its size cannot be counted."""
    try:
        with torch.device("meta"):
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


def compile_model(model: Recommender, device: torch.device, *, last: bool = False) -> None:
    """Let torch's compiler fuse what a step runs (`hardware.compile=true`): an encoder's `encode`, or its `last` where
    that is what is learned from, any other model's scores of candidates; batch sizes stay free.

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
    if isinstance(model, SequenceEncoder) and last:
        model.last = torch.compile(model.last, dynamic=True)  # type: ignore[method-assign]
    elif isinstance(model, SequenceEncoder):
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
    """The rows an objective learns from. Raises SeqrecError where there is none."""
    rows = _rows(cfg, objective, log, device=device)
    if rows.steps < 1:
        longest = int(user_training_counts(log).max())
        raise SeqrecError(
            f"no training rows: a row is an event and the next, and protocol={cfg.protocol.name} leaves no user more "
            f"than {longest} to train on; give longer histories, another protocol (global_time holds out fewer events) "
            "or model=popular, which needs no rows"
        )
    return rows


def _rows(cfg: TrainConfig, objective: Objective, log: PackedLog, *, device: torch.device) -> BatchedRows:
    trainer, length, log_on = cfg.trainer, cfg.model.max_length, log_device(cfg.hardware.log, log, device)
    batching = Batching(trainer.batch_size, trainer.seed, trainer.bucket_by_length, trainer.batch_tokens)
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
