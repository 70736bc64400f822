"""Ranks and top lists by an item table that is spread over ranks of a process group (`models/layers/row_shard.py`).

Every rank has the last states of a batch's requests, each encoded by one of them, and scores its own items with the
product that one process scores all with. What is compared with a target is counted where it is and summed, and a list
is merged from every rank's own best: the numbers, ties included, are those of one process. All ranks do this in step,
over all requests, and all have the result.

Legend: W ranks, B requests of a block, M the most targets of a request, C candidates that are read, V items of this
rank (V + 1 columns, 0 is padding; column c is item `before` + c), E seen events of a block, K items a list, D width.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.devices import widest_float
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.view import Targets
from seqrec_cli.evaluation.ranks import BYTES_A_SCORE, counted, padded_targets, refuse_no_numbers
from seqrec_cli.evaluation.top_lists import Collector, top_items
from seqrec_cli.models.contract import SequenceEncoder, full_precision
from seqrec_cli.models.layers.row_shard import RowShard, from_all, largest


class ShardScorer:
    """Scores of this rank's items, [B, V + 1], for the requests of all ranks."""

    def __init__(self, model: SequenceEncoder, shard: RowShard) -> None:
        self._model, self.shard = model, shard
        padding = int(shard.first == 0)
        self._items_VD = model.item_table()[padding:].float()
        bias_V = model.item_bias()
        self._bias_V = None if bias_V is None else bias_V[shard.first + padding : shard.last].float()
        self.before = shard.first + padding - 1
        self.num_items = len(self._items_VD)

    def blocks(self, batch: Batch, rows: int) -> Iterator[Tensor]:
        """At most so many rows at once, in order."""
        for last_BD in self._encoded(batch).split(rows):
            scores_BV = last_BD.new_zeros(len(last_BD), self.num_items + 1)
            with full_precision(last_BD.device):
                if self._bias_V is None:
                    torch.mm(last_BD, self._items_VD.T, out=scores_BV[:, 1:])
                else:
                    torch.addmm(self._bias_V, last_BD, self._items_VD.T, out=scores_BV[:, 1:])
            yield scores_BV

    def columns(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Where items stand in this rank's block (0: not here, or padding), and which do."""
        columns = items - self.before
        here = (items > 0) & (columns > 0) & (columns <= self.num_items)
        return columns.where(here, 0), here

    def _encoded(self, batch: Batch) -> Tensor:
        """The last states of all requests; each rank encodes its share, and one at least, for look-ups are common."""
        world, rank = self.shard.world, self.shard.rank
        bounds = [len(batch) * nth // world for nth in range(world + 1)]
        counts = [last - first for first, last in itertools.pairwise(bounds)]
        first = min(bounds[rank], len(batch) - 1)
        last_BD = self._model.last(batch.rows(first, max(bounds[rank + 1], first + 1))).float()
        return from_all(last_BD[: counts[rank]], counts)


def rank_sharded(
    model: SequenceEncoder,
    log: PackedLog,
    targets: Targets,
    *,
    shard: RowShard,
    cfg: EvaluationConfig,
    max_length: int,
    device: torch.device,
    read_RC: np.ndarray | None,
    collectors: Sequence[Collector],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Ranks of the padded targets, float64 [R, M], the numbers of ranked items, int64 [R], and the scores of the items
    `read_RC`, as `ranks.rank_held_out` finds them."""
    items_RM = padded_targets(log, targets)
    ranks_RM, candidates_R = np.zeros(items_RM.shape), np.zeros(len(items_RM), np.int64)
    scores_RC = None if read_RC is None else np.zeros(read_RC.shape)
    scorer, removes_seen = ShardScorer(model, shard), view_of(log).seen == "remove"
    block = max(1, cfg.memory_mb * 2**20 // (BYTES_A_SCORE * (shard.each + 1)))

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64, copy=False)).to(device)

    for picked_B, batch in target_batches(log, targets, max_length=max_length, batch_size=cfg.batch_size):
        start = 0
        for scores_BV in scorer.blocks(batch.to(device), block):
            here_B = picked_B[start : start + len(scores_BV)]
            start += len(scores_BV)
            rows_B, ends_B = targets.rows_R[here_B], targets.ends_R[here_B]
            if read_RC is not None and scores_RC is not None:
                scores_RC[here_B] = _read(scorer, scores_BV, tensor(read_RC[here_B])).cpu().double().numpy()
            seen_E = np.zeros(0, np.int64)
            if removes_seen:
                seen_E = _seen_here(scorer, log, rows_B, ends_B=ends_B)
            for collector in collectors:
                items_BK = _merged_top(scorer, scores_BV, tensor(seen_E), k=collector.longest)
                collector.add_lists(items_BK.cpu().numpy(), rows_B=rows_B, ends_B=ends_B)
            most = int(targets.counts_R[here_B].max())
            ranks_BM, counts_B = _count(scorer, scores_BV, tensor(items_RM[here_B, :most]), seen_E=tensor(seen_E))
            ranks_RM[here_B, :most], candidates_R[here_B] = ranks_BM.cpu().numpy(), counts_B.cpu().numpy()
    return ranks_RM, candidates_R, scores_RC


def _seen_here(scorer: ShardScorer, log: PackedLog, rows_B: np.ndarray, *, ends_B: np.ndarray) -> np.ndarray:
    """Every event before each request whose item is this rank's, as a position [E] in the flattened block."""
    starts_B = log.offsets_U1[rows_B]
    lengths_B = ends_B - starts_B
    columns_E = np.asarray(log.items_N[ragged_ranges(starts_B, lengths_B)], np.int64) - scorer.before
    rows_E = np.repeat(np.arange(len(rows_B)), lengths_B)
    here_E = (columns_E > 0) & (columns_E <= scorer.num_items)
    found: np.ndarray = (rows_E * (scorer.num_items + 1) + columns_E)[here_E]
    return found


def _read(scorer: ShardScorer, scores_BV: Tensor, items_BC: Tensor) -> Tensor:
    """The scores of some items, from the ranks that have them."""
    columns_BC, here_BC = scorer.columns(items_BC)
    found_BC = scores_BV.gather(1, columns_BC).where(here_BC, 0.0)
    return scorer.shard.processes.sum(found_BC)


def _count(scorer: ShardScorer, scores_BV: Tensor, targets_BM: Tensor, *, seen_E: Tensor) -> tuple[Tensor, Tensor]:
    """`ranks.count_ranks` over the items of all ranks."""
    columns_BM, here_BM = scorer.columns(targets_BM)
    own_BM = scores_BV.gather(1, columns_BM).where(here_BM, -torch.inf)
    scores_BV[:, 0] = -torch.inf
    bad = torch.where(scores_BV.amax() < torch.inf, 0, 1)  # NaN too fails the comparison
    own_BM = largest(own_BM)
    scores_BV.view(-1).index_fill_(0, seen_E, torch.nan)
    rows_N, nth_N = here_BM.nonzero(as_tuple=True)
    scores_BV[rows_N, columns_BM[rows_N, nth_N]] = own_BM[rows_N, nth_N]
    scores_BV[:, 0] = torch.nan
    higher_BM, equal_BM, ranked_B = counted(scores_BV, own_BM)
    sums = torch.cat([higher_BM.flatten(), equal_BM.flatten(), ranked_B, bad[None]])
    scorer.shard.processes.sum(sums)
    if sums[-1]:  # on all ranks alike
        refuse_no_numbers(sums.new_full((1,), torch.nan, dtype=torch.float32))
    size = targets_BM.numel()
    higher_BM, equal_BM = (part.view_as(targets_BM) for part in (sums[:size], sums[size : 2 * size]))
    wide = widest_float(higher_BM.device)
    return 1 + higher_BM.to(wide) + (equal_BM - 1).to(wide) / 2, sums[2 * size : -1]


def _merged_top(scorer: ShardScorer, scores_BV: Tensor, seen_E: Tensor, *, k: int) -> Tensor:
    """The k best items of each request, [B, K], as `top_items` of all ranks' scores finds them. The scores stay."""
    flat = scores_BV.view(-1)
    kept_E, kept_B = flat[seen_E], scores_BV[:, 0].clone()
    flat[seen_E] = -torch.inf
    scores_BV[:, 0] = -torch.inf
    columns_BK = top_items(scores_BV, k)
    values_BK = scores_BV.gather(1, columns_BK)
    flat[seen_E] = kept_E
    scores_BV[:, 0] = kept_B
    items_BK = torch.where(columns_BK > 0, columns_BK + scorer.before, 0)
    missing = k - items_BK.shape[1]
    values_BK = torch.nn.functional.pad(values_BK, (0, missing), value=-torch.inf)
    items_BK = torch.nn.functional.pad(items_BK, (0, missing))
    world = scorer.shard.world
    counts = [len(items_BK)] * world
    values_BX, items_BX = (
        from_all(part, counts).view(world, -1, k).transpose(0, 1).flatten(1) for part in (values_BK, items_BK)
    )
    # Ranks hold ascending items, and each list has equal scores by index: a stable sort leaves ties so.
    _, order_BX = values_BX.sort(dim=1, descending=True, stable=True)
    best_BK: Tensor = items_BX.gather(1, order_BX)[:, : min(k, scorer.shard.rows - 1)]
    return best_BK
