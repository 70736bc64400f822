"""Average pooling: the mean of the history beside the candidate, the base model of DIN (Zhou et al. 2018, 1706.06978,
section 4.2, there a sum).

Legend: B rows, L history events, C candidates, F features of an item.
"""

from torch import Tensor

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.interest import History, InterestRanker, shares


class Model(InterestRanker):
    """A history looks the same to every candidate."""

    def encode_history(self, batch: Batch, events_BLF: Tensor, sees_BLC: Tensor) -> tuple[Tensor, ...]:
        """The means [B, C, F] of the events that are seen, zero where there are none."""
        return (shares(sees_BLC, events_BLF.dtype) @ events_BLF,)

    def interest(self, history: History, candidates: Tensor) -> Tensor:
        return history.memory[0]
