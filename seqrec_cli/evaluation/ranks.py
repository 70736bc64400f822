"""A metric is a function of a rank: the place of a user's held-out item in the whole corpus, found by counting.

rank = 1 + #(higher) + #(equal) / 2 among all items but those the user had already seen (the whole history before the
target, not the window the model reads). The target is always ranked, even if seen before; the padding column never.
A constant scorer lands mid-corpus. Nothing is sorted, and no users × items matrix is kept: users come in blocks whose
scores fit a memory budget.

Legend: R evaluated users, B users of a block, V items (scores have V + 1 columns, 0 is padding), D width, M seen
events of a block, W columns counted at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import HeldOut, held_out, subsample
from seqrec_cli.models.contract import Recommender, SequenceEncoder, corpus_scores, full_precision

BYTES_A_SCORE = 8  # a float32 score, and the copy made of a model's own
COUNTED_AT_ONCE = 2**20  # scores compared at once: counting widens each comparison to eight bytes


@dataclass(frozen=True)
class Ranks:
    """One held-out event a user, ordered by user row.

    `rows_R` user rows (from 0), `items_R` target items, `ranks_R` float64 (halves where scores tie), `candidates_R`
    how many items were ranked (the target included), `histories_R` events before the target.
    """

    rows_R: np.ndarray
    items_R: np.ndarray
    ranks_R: np.ndarray
    candidates_R: np.ndarray
    histories_R: np.ndarray


def seen_places(log: PackedLog, rows_B: np.ndarray, ends_B: np.ndarray) -> np.ndarray:
    """Every event before each user's target as a place [M] in the flattened [B, V + 1] block of scores."""
    starts_B = log.offsets_U1[rows_B]
    lengths_B = ends_B - starts_B
    scores_B = np.arange(len(rows_B)) * (log.num_items + 1)  # where each row of scores begins
    return np.repeat(scores_B, lengths_B) + log.items_N[ragged_ranges(starts_B, lengths_B)]


def count_ranks(scores_BV: Tensor, targets_B: Tensor, seen_M: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks (float64 [B]) and numbers of ranked items (int64 [B]); `scores_BV` is overwritten.

    Raises SeqrecError where a score is NaN or +inf: no rank follows from it.
    """
    nan = float("nan")
    scores_BV[:, 0] = -torch.inf
    if not scores_BV.amax() < torch.inf:  # NaN too fails the comparison
        raise SeqrecError(
            "the model gives scores that are NaN or infinite, so nothing can be ranked; "
            "the run has diverged: lower trainer.lr or train with hardware.precision=fp32"
        )
    own_B1 = scores_BV.gather(1, targets_B[:, None])
    # What is not to be counted becomes NaN: neither higher than anything nor equal to it.
    scores_BV[:, 0] = nan
    scores_BV.view(-1).index_fill_(0, seen_M, nan)
    scores_BV.scatter_(1, targets_B[:, None], nan)
    higher_B, equal_B, others_B = (torch.zeros_like(targets_B) for _ in range(3))
    for part_BW in scores_BV.split(max(1, COUNTED_AT_ONCE // len(scores_BV)), dim=1):
        higher_B += torch.count_nonzero(part_BW > own_B1, dim=1)
        equal_B += torch.count_nonzero(part_BW == own_B1, dim=1)
        others_B += torch.count_nonzero(part_BW == part_BW, dim=1)
    return 1 + higher_B.double() + equal_B.double() / 2, others_B + 1


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

    def blocks(self, batch: Batch) -> Iterator[Tensor]:
        """Scores of the batch's rows, in order."""
        if self._table_VD is None:
            for start in range(0, len(batch), self._rows):
                part = batch.rows(start, start + self._rows) if self._rows < len(batch) else batch
                # A copy: the scores may be a view of the model's own buffers.
                yield self._model.score_corpus(part).clone(memory_format=torch.contiguous_format)
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
    cfg: EvaluationConfig,
    max_length: int,
    device: torch.device,
    read_RC: np.ndarray | None = None,
) -> tuple[Ranks, np.ndarray | None]:
    """Rank the held-out item of every evaluated user (or of `cfg.ranked_users` of them).

    The scores of the items `read_RC` are answered too, float64 [R, C]. A block of scores stays under `cfg.memory_mb`,
    unless one user's scores alone exceed it. The caller sets evaluation mode, autocast and inference mode.
    """
    targets = subsample(held_out(log, split), cfg.ranked_users)
    if not len(targets.rows_R):
        raise SeqrecError(
            "no user has the three events that an evaluation needs; lower dataset.user_core or get more data"
        )
    rows_R, items_R = targets.rows_R, np.asarray(log.items_N[targets.ends_R], np.int64)
    ranks_R, candidates_R = np.zeros(len(rows_R)), np.zeros(len(rows_R), np.int64)
    scores_RC = None if read_RC is None else np.zeros(read_RC.shape)
    block = max(1, cfg.memory_mb * 2**20 // (BYTES_A_SCORE * (log.num_items + 1)))
    scorer = CorpusScorer(model, block)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64, copy=False)).to(device)

    for rows_B, ends_B, batch in target_batches(log, targets, max_length=max_length, batch_size=cfg.batch_size):
        places_B = np.searchsorted(rows_R, rows_B)
        start = 0
        for scores_BV in scorer.blocks(batch.to(device)):
            part = slice(start, start + len(scores_BV))
            here_B, start = places_B[part], part.stop
            if read_RC is not None and scores_RC is not None:
                scores_RC[here_B] = scores_BV.gather(1, tensor(read_RC[here_B])).double().cpu().numpy()
            seen_M = tensor(seen_places(log, rows_B[part], ends_B[part]))
            ranks_B, counts_B = count_ranks(scores_BV, tensor(items_R[here_B]), seen_M)
            ranks_R[here_B], candidates_R[here_B] = ranks_B.cpu().numpy(), counts_B.cpu().numpy()
            del scores_BV  # before the next block is made
    ranks = Ranks(rows_R, items_R, ranks_R, candidates_R, targets.ends_R - log.offsets_U1[rows_R])
    return ranks, scores_RC
