"""A metric is a function of a rank: where a held-out item stands in the whole corpus, found by counting.

rank = 1 + #(higher) + #(equal) / 2 among all candidates: every item but padding, and, under a protocol that removes
seen items, but those of the history before the request (the whole history, not the window the model reads). A target is
always ranked. Of a request's several targets each counts among the others' candidates. A constant scorer lands
mid-corpus. No requests x items matrix is kept: requests come in blocks whose scores fit a memory budget.

Legend: R requests, B requests of a block, T targets, M the most targets of a request of the block, V items (scores have
V + 1 columns, 0 is padding), D width, E seen events of a block, W columns counted at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.batch import Batch, to_device
from seqrec_cli.data.devices import widest_float
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out, subsample, view_of
from seqrec_cli.data.view import HeldOut, Targets
from seqrec_cli.evaluation.top_lists import Collector
from seqrec_cli.models.contract import Recommender, SequenceEncoder, corpus_scores, full_precision
from seqrec_cli.processes import current

BYTES_A_SCORE = 8  # a float32 score, and the copy made of a model's own
COUNTED_AT_ONCE = 2**20  # scores compared at once: counting widens each comparison to eight bytes


SORTED_FROM = 6  # targets a request from which sorting its scores once is faster than counting for each


@dataclass(frozen=True)
class Ranks:
    """The targets of held-out requests, ordered by user row and position.

    `rows_R` user rows (from 0), `ends_R` the absolute log positions the histories end before, `histories_R` events
    before the request, `candidates_R` how many items were ranked (the targets included); `items_T` and `ranks_T`
    (float64, halves where scores tie) of the targets of request r are those at `offsets_R1[r]:offsets_R1[r + 1]`.
    """

    rows_R: np.ndarray
    ends_R: np.ndarray
    histories_R: np.ndarray
    candidates_R: np.ndarray
    offsets_R1: np.ndarray
    items_T: np.ndarray
    ranks_T: np.ndarray

    @property
    def requests_T(self) -> np.ndarray:
        """The request each target belongs to."""
        return np.repeat(np.arange(len(self.rows_R)), np.diff(self.offsets_R1))


def seen_positions(log: PackedLog, rows_B: np.ndarray, ends_B: np.ndarray) -> np.ndarray:
    """Every event before each request as a position [E] in the flattened [B, V + 1] block of scores."""
    starts_B = log.offsets_U1[rows_B]
    lengths_B = ends_B - starts_B
    scores_B = np.arange(len(rows_B)) * (log.num_items + 1)  # where each row of scores begins
    return np.repeat(scores_B, lengths_B) + log.items_N[ragged_ranges(starts_B, lengths_B)]


def count_ranks(scores_BV: Tensor, targets_BM: Tensor, seen_E: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks (float64 [B, M]) of the targets and numbers of ranked items (int64 [B]).

    `targets_BM` is padded with 0, whose rank means nothing. In `scores_BV` what is no candidate becomes NaN.
    Raises SeqrecError where a score is NaN or +inf: no rank follows from it.
    """
    scores_BV[:, 0] = -torch.inf
    refuse_no_numbers(scores_BV)
    own_BM = scores_BV.gather(1, targets_BM)
    # What is not to be counted becomes NaN: neither higher than anything nor equal to it.
    scores_BV.view(-1).index_fill_(0, seen_E, torch.nan)
    scores_BV.scatter_(1, targets_BM, own_BM)
    scores_BV[:, 0] = torch.nan
    higher_BM, equal_BM, ranked_B = counted(scores_BV, own_BM)
    wide = widest_float(higher_BM.device)
    return 1 + higher_BM.to(wide) + (equal_BM - 1).to(wide) / 2, ranked_B


def counted(scores_BV: Tensor, own_BM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many scores are higher than each of `own_BM`, how many equal, int64 [B, M], and how many are no NaN [B]."""
    ranked_B = torch.zeros(len(scores_BV), dtype=torch.int64, device=scores_BV.device)
    parts = scores_BV.split(max(1, COUNTED_AT_ONCE // len(scores_BV)), dim=1)
    for part_BW in parts:
        ranked_B += torch.count_nonzero(part_BW == part_BW, dim=1)
    if own_BM.shape[1] >= SORTED_FROM:
        return *_counted_by_sorting(scores_BV, own_BM), ranked_B
    higher_BM, equal_BM = (torch.zeros_like(own_BM, dtype=torch.int64) for _ in range(2))
    for nth in range(own_BM.shape[1]):
        own_B1 = own_BM[:, nth : nth + 1]
        for part_BW in parts:
            higher_BM[:, nth] += torch.count_nonzero(part_BW > own_B1, dim=1)
            equal_BM[:, nth] += torch.count_nonzero(part_BW == own_B1, dim=1)
    return higher_BM, equal_BM, ranked_B


def _counted_by_sorting(scores_BV: Tensor, own_BM: Tensor) -> tuple[Tensor, Tensor]:
    """The same from one sort of each row: NaN sorts as the lowest score there is, and is not counted as equal."""
    gone_BV = scores_BV != scores_BV
    sorted_BV = scores_BV.masked_fill(gone_BV, -torch.inf).sort(dim=1).values
    below_BM = torch.searchsorted(sorted_BV, own_BM.contiguous())
    not_above_BM = torch.searchsorted(sorted_BV, own_BM.contiguous(), right=True)
    equal_BM = not_above_BM - below_BM - torch.where(own_BM == -torch.inf, gone_BV.sum(dim=1, keepdim=True), 0)
    return sorted_BV.shape[1] - not_above_BM, equal_BM


def refuse_no_numbers(scores: Tensor) -> None:
    """Raises SeqrecError where a score is NaN or +inf: no rank follows from it."""
    if not scores.amax() < torch.inf:  # NaN too fails the comparison
        raise SeqrecError(
            "the model gives scores that are NaN or infinite, so nothing can be ranked; "
            "the run has diverged: lower trainer.lr or train with hardware.precision=fp32"
        )


class CorpusScorer:
    """Blocks [<= rows, V + 1] of a model's scores that the caller may overwrite.

    An encoder with the inner product of the contract encodes the whole batch once and only the product is cut into
    blocks, so a corpus of millions of items costs smaller blocks and no further encoding.
    """

    def __init__(self, model: Recommender, rows: int) -> None:
        self._model, self._rows = model, rows
        self._table_VD: Tensor | None = None
        if isinstance(model, SequenceEncoder) and type(model).score_corpus is SequenceEncoder.score_corpus:
            self._table_VD, self._bias_V = model.item_table().float(), model.item_bias()

    def blocks(self, batch: Batch, hidden_E: Tensor | None = None) -> Iterator[Tensor]:
        """Scores of the batch's rows, in order; `hidden_E` are the positions, in the flattened [B, V + 1] of them all,
        of items that are no candidates, for a model with a shortlist."""
        if self._table_VD is None:
            columns = self._model.num_items + 1
            hidden_E = batch.items_BL.new_zeros(0) if hidden_E is None else hidden_E
            for start in range(0, len(batch), self._rows):
                part = batch.rows(start, start + self._rows) if self._rows < len(batch) else batch
                first, last = start * columns, (start + self._rows) * columns
                here_E = hidden_E  # to choose among none would make the host wait for a GPU
                if len(hidden_E):
                    here_E = hidden_E[(hidden_E >= first) & (hidden_E < last)] - first
                # A copy: the scores may be a view of the model's own buffers.
                scores_BV = self._model.score_corpus_without(part, here_E)
                yield scores_BV.clone(memory_format=torch.contiguous_format)
            return
        assert isinstance(self._model, SequenceEncoder)
        last_BD = self._model.last(batch).float()
        for part_BD in last_BD.split(self._rows):
            yield self._product(part_BD, self._table_VD, self._bias_V)

    @staticmethod
    def _product(last_BD: Tensor, table_VD: Tensor, bias_V: Tensor | None) -> Tensor:
        with full_precision(last_BD.device):  # left before the block is handed over: autocast is the caller's again
            return corpus_scores(last_BD, table_VD, bias_V)


def rank_held_out(
    model: Recommender,
    log: PackedLog,
    split: HeldOut,
    *,
    cfg: EvaluationConfig,
    max_length: int,
    device: torch.device,
    read_RC: np.ndarray | None = None,
    collectors: Sequence[Collector] = (),
) -> tuple[Ranks, np.ndarray | None]:
    """Rank the targets of every held-out request (or of `cfg.ranked_users` requests).

    The scores of the items `read_RC` are answered too, float64 [R, C]. A block of scores stays under `cfg.memory_mb`,
    unless one request's scores alone exceed it. `collectors` are handed every block. The caller sets evaluation mode,
    autocast and inference mode. Of several processes each ranks some batches, and all know all ranks afterwards.
    """
    targets = subsample(held_out(log, split), cfg.ranked_users)
    if not len(targets.rows_R):
        raise SeqrecError(
            "no user has the three events that an evaluation needs; lower dataset.user_core or get more data"
        )
    items_RM = padded_targets(log, targets)
    if isinstance(model, SequenceEncoder) and model.shard is not None:
        from seqrec_cli.evaluation.sharded_ranks import rank_sharded

        ranks_RM, candidates_R, scores_RC = rank_sharded(
            model,
            log,
            targets,
            shard=model.shard,
            cfg=cfg,
            max_length=max_length,
            device=device,
            read_RC=read_RC,
            collectors=collectors,
        )
        return _ranks(log, targets, items_RM, ranks_RM=ranks_RM, candidates_R=candidates_R), scores_RC
    ranks_RM, candidates_R = np.zeros(items_RM.shape), np.zeros(len(items_RM), np.int64)
    scores_RC = None if read_RC is None else np.zeros(read_RC.shape)
    block = max(1, cfg.memory_mb * 2**20 // (BYTES_A_SCORE * (log.num_items + 1)))
    scorer, removes_seen = CorpusScorer(model, block), view_of(log).seen == "remove"

    def tensor(array: np.ndarray) -> Tensor:
        return to_device(torch.from_numpy(array.astype(np.int64, copy=False)), device)

    processes, batch_size = current(), cfg.batch_size
    batches = target_batches(log, targets, max_length=max_length, batch_size=batch_size, share=processes.share)
    for picked_B, batch in batches:
        start, hidden_E = 0, np.zeros(0, np.int64)
        if removes_seen and model.shortlist is not None:  # no target is among them: those that repeat are left out
            hidden_E = seen_positions(log, targets.rows_R[picked_B], targets.ends_R[picked_B])
        for scores_BV in scorer.blocks(batch.to(device), tensor(hidden_E)):
            here_B = picked_B[start : start + len(scores_BV)]
            start += len(scores_BV)
            if read_RC is not None and scores_RC is not None:
                scores_RC[here_B] = scores_BV.gather(1, tensor(read_RC[here_B])).cpu().double().numpy()
            seen_E = np.zeros(0, np.int64)
            if removes_seen:
                seen_E = seen_positions(log, targets.rows_R[here_B], targets.ends_R[here_B])
            for collector in collectors:
                collector.add(scores_BV, tensor(seen_E), rows_B=targets.rows_R[here_B], ends_B=targets.ends_R[here_B])
            most = int(targets.counts_R[here_B].max())
            ranks_BM, counts_B = count_ranks(scores_BV, tensor(items_RM[here_B, :most]), tensor(seen_E))
            ranks_RM[here_B, :most], candidates_R[here_B] = ranks_BM.cpu().numpy(), counts_B.cpu().numpy()
            del scores_BV  # before the next block is made
    for filled in (ranks_RM, candidates_R, *([] if scores_RC is None else [scores_RC])):
        processes.sum_array(filled)
    for collector in collectors:
        collector.merge(processes)
    return _ranks(log, targets, items_RM, ranks_RM=ranks_RM, candidates_R=candidates_R), scores_RC


def _ranks(
    log: PackedLog, targets: Targets, items_RM: np.ndarray, *, ranks_RM: np.ndarray, candidates_R: np.ndarray
) -> Ranks:
    real_RM = items_RM > 0
    return Ranks(
        np.asarray(targets.rows_R),
        np.asarray(targets.ends_R),
        targets.ends_R - log.offsets_U1[targets.rows_R],
        candidates_R,
        np.asarray(targets.offsets_R1),
        items_RM[real_RM],
        ranks_RM[real_RM],
    )


def padded_targets(log: PackedLog, targets: Targets) -> np.ndarray:
    """Every request's target items, int64 [R, M], padded with 0."""
    counts_R = targets.counts_R
    items_RM = np.zeros((len(counts_R), int(counts_R.max(initial=1))), np.int64)
    items_RM[np.arange(items_RM.shape[1]) < counts_R[:, None]] = log.items_N[targets.positions_T]
    return items_RM
