"""How long ago an event was, seen from a later one: a learned number for each bucket of log time, added to attention's
logits (HSTU: Zhai et al. 2024, arXiv 2402.17152, section 3.2 and the authors' code).

Legend: B rows, L queries, T keys (events), K buckets. Times are in seconds.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.layers.positions import age_buckets

CACHED = 1 << 18  # pairs whose buckets are made at once on a CPU: three times as fast as passes over all of them


def query_times(batch: Batch, of_target: bool) -> Tensor:
    """[B, L]: each event's own time, or that of the event it is to predict (behind the last one, the request's).

    Raises SeqrecError where the data have no times.
    """
    if batch.times_BL is None or batch.request_times_B is None:
        raise SeqrecError("model.time_bias needs event times, and this data has none; use model.time_bias=none")
    if not of_target:
        return batch.times_BL
    following_BL = nn.functional.pad(batch.times_BL[:, 1:], (0, 1))
    last_B1 = batch.lengths_B[:, None] - 1
    positions_L = torch.arange(following_BL.shape[1], device=following_BL.device)
    return torch.where(positions_L == last_B1, batch.request_times_B[:, None], following_BL)


def time_buckets(asked_BL: Tensor, times_BT: Tensor, buckets: int) -> Tensor:
    """Bucket [B, L, T] of the time from each event to each query, int32; 0 for events that are not past."""
    first_B1 = times_BT[:, :1]
    # Seconds since the row's first event fit 32 bits, which halves the passes over all pairs.
    asked_BL, times_BT = ((t - first_B1).clamp(0, 2**31 - 1).int() for t in (asked_BL, times_BT))
    if torch.compiler.is_compiling() or asked_BL.device.type != "cpu":
        return age_buckets(asked_BL[:, :, None] - times_BT[:, None], buckets).int()
    found_BLT = torch.empty((*asked_BL.shape, times_BT.shape[1]), dtype=torch.int32)
    rows = max(1, CACHED // max(1, found_BLT[0].numel()))
    for top in range(0, len(asked_BL), rows):
        here = slice(top, top + rows)
        found_BLT[here] = age_buckets(asked_BL[here, :, None] - times_BT[here, None], buckets)
    return found_BLT


class TimeBias(nn.Module):
    """A number a bucket, the same for all heads."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, 1)

    def forward(self, buckets_BLT: Tensor) -> Tensor:
        """[B, L, T] in fp32: millions of gradients are summed into each number."""
        return self.table.weight[:, 0].index_select(0, buckets_BLT.flatten()).view(buckets_BLT.shape)
