"""What an objective is: from a model and a batch to the number a step minimises.

Legend: B rows, L history events, N training targets, D width, V items, K negatives.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.objective import KnownItemsConfig, ObjectiveConfig, SoftmaxConfig, Window, WindowConfig
from seqrec_cli.config.registry import code_of
from seqrec_cli.data.batch import Batch, count_targets
from seqrec_cli.data.cloze_rows import Masking
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.kernels.corpus_softmax.op import fused
from seqrec_cli.kernels.corpus_softmax.op import scratch_bytes as fused_scratch_bytes
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.objectives.known_items import KnownItems
from seqrec_cli.objectives.losses import chunk_rows, corpus_cross_entropy
from seqrec_cli.objectives.sharded_softmax import encoder_cross_entropy


class Objective:
    """Built as `Objective(cfg)`, then told of the data by `prepare`; stateless between steps but for `at_epoch`, and
    for what `after_step` keeps and `state` gives to checkpoints."""

    negatives_per_position: int = 0  # windows: how many unseen items the loader draws for every position
    draws_by_row: bool = False  # windows: a row's positions share the drawn items
    window: Window = "last"  # windows: which part of a history they cover, and where they have targets
    stride: int | None = None  # events between sliding windows; None: max_length
    reads_soft_targets = False  # windows: what a teacher says of every target (`data/soft_targets.py`)
    masking: Masking | None = None  # windows: events to hide, whose items are then the targets (cloze)
    negatives_per_row: int = 0  # prefixes: how many unseen items stand beside each positive
    redraw: bool = False  # prefixes: draw those anew every epoch even where the dataset has fixed ones
    positions: bool = False  # prefixes: several of a user in one row, for models with `all_positions`

    def prepare(self, counts_V: Tensor) -> None:
        """Called once before the first step, with every item's training events, int64 [V + 1], on the device."""

    def read_log(self, log: PackedLog, device: torch.device) -> None:
        """Called once after `prepare`, for an objective that learns by more of the log than its counts. Raises
        SeqrecError where the log does not have it."""

    def at_epoch(self, epochs: float) -> None:
        """Called before every step with the epochs done so far, and parts of one."""

    def after_step(self, model: Recommender, batch: Batch) -> None:
        """Called after every step with the model as it then is and the batch that it learned from."""

    def state(self) -> dict[str, Any] | None:
        """What it keeps from step to step, of tensors and numbers; None for nothing."""
        return None

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""

    def measured(self) -> "Objective":
        """What a validation takes the loss of: this one, without what is for training alone."""
        return self

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        """The scalar to minimise, all of it: the mean over the batch's targets, and the model's own terms."""
        batch = self.drawn(batch)
        loss, penalty = self.part_loss(model, batch, of=batch), model.penalty(batch)
        return loss if penalty is None else loss + penalty

    def drawn(self, batch: Batch) -> Batch:
        """The batch with what the loss draws at random, for all its rows at once."""
        return batch

    def part_loss(self, model: Recommender, part: Batch, *, of: Batch) -> Tensor:
        """What some rows of a drawn batch add to its loss: each mean weighs what it counts of the batch's.

        The losses of all parts and the model's `penalty` of the whole are `loss`.
        """
        loss = model.estimated_loss(lambda: self.target_loss(model, part))
        if part is not of:
            loss = loss * (count_targets(part) / max(count_targets(of), 1))
        auxiliary = model.auxiliary_loss()
        if auxiliary is not None and part is not of:
            auxiliary = auxiliary * (model.auxiliary_count(part) / max(model.auxiliary_count(of), 1))
        return loss if auxiliary is None else loss + auxiliary

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        """Mean over the targets of a drawn batch."""
        raise NotImplementedError

    def losses_of_candidates(self, logits_BC: Tensor, labels_BC: Tensor) -> Tensor:
        """The loss [B, C] of each labelled candidate, from its logit (objectives of prefixes)."""
        raise NotImplementedError

    def scratch_bytes(self, num_items: int, targets: int, *, dtype: torch.dtype, device: torch.device) -> int:
        """Memory that `loss` takes for the scores of this many targets, products in `dtype`, and frees before it ends.

        0 where the scores are kept for the backward pass like any other activation.
        """
        return 0


class CorpusSoftmaxObjective(Objective):
    """Mean cross-entropy of the batch's targets among all items, in chunks of `chunk_mb`."""

    def __init__(self, cfg: SoftmaxConfig) -> None:
        self.window, self.stride = cfg.window, cfg.stride
        self.smoothing, self.chunk_mb = cfg.smoothing, cfg.chunk_mb
        self.known = known_items(cfg)

    def target_loss(self, model: Recommender, batch: Batch) -> Tensor:
        at = at_targets(model, batch, window=self.window, known=self.known)
        return self.cross_entropy(at.encoder, at.queries_ND, at.targets_N, weights_N=at.weights_N)

    def cross_entropy(
        self, encoder: SequenceEncoder, queries_ND: Tensor, targets_N: Tensor, *, weights_N: Tensor | None = None
    ) -> Tensor:
        """The loss of one target for each query."""
        if encoder.shard is not None:
            return encoder_cross_entropy(
                encoder,
                queries_ND,
                targets_N,
                shard=encoder.shard,
                chunk_mb=self.chunk_mb,
                smoothing=self.smoothing,
                weights_M=weights_N,
            )
        table_VD, bias_V = encoder.item_table(), encoder.item_bias()
        return corpus_cross_entropy(
            queries_ND,
            table_VD,
            targets_N,
            chunk_mb=self.chunk_mb,
            bias_V=bias_V,
            label_smoothing=self.smoothing,
            weights_N=weights_N,
        )

    def scratch_bytes(self, num_items: int, targets: int, *, dtype: torch.dtype, device: torch.device) -> int:
        if fused(device, dtype):
            return fused_scratch_bytes(num_items, targets)
        rows = chunk_rows(num_items, dtype.itemsize, self.chunk_mb, device=device)
        return min(rows, targets) * num_items * dtype.itemsize


def build_objective(cfg: ObjectiveConfig) -> Objective:
    """The registered objective of that name."""
    objective: Objective = code_of("objective", cfg.name).Objective(cfg)
    if isinstance(cfg, WindowConfig) and cfg.scheduled_sampling != "none":
        from seqrec_cli.objectives.scheduled_sampling import ScheduledSampling

        return ScheduledSampling(cfg, objective)
    return objective


class AtTargets(NamedTuple):
    """What an encoder says of a batch's targets."""

    encoder: SequenceEncoder
    queries_ND: Tensor  # its states at the positions that have a target
    targets_N: Tensor
    positions_N: Tensor  # in the flattened [B * L]
    weights_N: Tensor | None  # how much each target counts; None: all alike


def known_items(cfg: ObjectiveConfig) -> KnownItems | None:
    """What targets also count by; None for nothing."""
    return KnownItems(cfg) if isinstance(cfg, KnownItemsConfig) and cfg.known != "none" else None


def at_targets(model: Recommender, batch: Batch, *, window: Window, known: KnownItems | None = None) -> AtTargets:
    """Encode the batch, and keep what its targets need: of `prefixes` nothing but each row's last state. Of `packed`
    rows are laid end to end."""
    assert isinstance(model, SequenceEncoder)
    assert batch.targets_BL is not None
    positions_N = batch.target_positions()
    weights_N = None if batch.weights_BL is None else batch.weights_BL.flatten()[positions_N]
    targets_N = batch.targets_BL.flatten()[positions_N]
    way = {"prefixes": model.last, "packed": model.encode_packed}.get(window, model.encode_targets)
    queries_ND = way(batch)
    if known is not None:
        weights_N = known.weights(
            model, batch, queries_ND, targets_N=targets_N, positions_N=positions_N, weights_N=weights_N
        )
    return AtTargets(model, queries_ND, targets_N, positions_N, weights_N)


def scored_vectors(encoder: SequenceEncoder, items: Tensor) -> Tensor:
    """Vectors of items [..., D] whose inner products with `scored_queries` are their scores: an item bias is a number
    more."""
    vectors, bias_V = encoder.item_vectors(items), encoder.item_bias()
    return vectors if bias_V is None else torch.cat([vectors, F.embedding(items, bias_V[:, None])], -1)


def scored_queries(encoder: SequenceEncoder, queries: Tensor) -> Tensor:
    """The queries as they are, or with a 1 for the bias."""
    return queries if encoder.item_bias() is None else F.pad(queries, (0, 1), value=1.0)


def to_score(encoder: SequenceEncoder, queries: Tensor, *items: Tensor) -> tuple[Tensor, ...]:
    """The queries and the vectors of `items`, such that their inner products are the items' scores."""
    return scored_queries(encoder, queries), *(scored_vectors(encoder, each) for each in items)
