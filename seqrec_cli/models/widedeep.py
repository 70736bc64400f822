"""Wide & Deep: an MLP over embeddings beside a linear model of crossed features (Cheng et al. 2016, arXiv 1606.07792).

Deep is average pooling's MLP. Wide has a weight for the candidate itself and one for each cross-product of section 3.1:
the candidate with each of the latest events ("installed app" with "impression app"), and each attribute's values of the
candidate with those of these events, hashed into buckets. Deviations: a cross counts as often as it occurs (the paper:
0 or 1), and both parts are trained by the trainer's optimizer (the paper: the wide one by FTRL with L1).

Legend: B rows, L history events, C candidates, E latest events of the wide part, W values of an attribute, F features
of an item.
"""

import torch
from torch import Tensor

from seqrec_cli.config.model.widedeep import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.interest import History, InterestRanker, shares
from seqrec_cli.models.layers.embedding import padded_table


def hashed(kind: int, left: Tensor, right: Tensor, *, buckets: int) -> Tensor:
    """A bucket from 1 for each pair of positive values, 0 where either is 0; int64 arithmetic that wraps around."""
    mixed = left * -7046029254386353131 + right * -4417276706812531889 + kind * 1609587929392839161
    mixed = (mixed ^ (mixed >> 29)) * -49064778989728563
    mixed = mixed ^ (mixed >> 32)
    return (1 + mixed.remainder(buckets)).masked_fill((left == 0) | (right == 0), 0)


class Model(InterestRanker):
    """Memory for pairs that were seen, generalisation for those that were not."""

    hashed_tables = frozenset({"weights.weight"})
    embeds_events = False  # the wide part reads which items the events are, and no vector of theirs

    def add_interest(self, cfg: Config) -> None:  # type: ignore[override]
        self.cfg = cfg
        self.weights = padded_table(cfg.wide_buckets + 1, 1)

    def encode_history(self, batch: Batch, events_BLF: Tensor, sees_BLC: Tensor) -> tuple[Tensor, ...]:
        """The means [B, C, F] of the events, and the latest items [B, C, E]; C is 1 where all see the same."""
        positions_L1 = torch.arange(1, batch.items_BL.shape[1] + 1, device=events_BLF.device)[:, None]
        ends_BC = (sees_BLC * positions_L1).amax(1)
        latest_BCE = ends_BC[..., None] - 1 - torch.arange(self.cfg.wide_events, device=events_BLF.device)
        items_BCE = batch.items_BL.gather(1, latest_BCE.clamp(min=0).flatten(1)).view_as(latest_BCE)
        return shares(sees_BLC, events_BLF.dtype) @ events_BLF, items_BCE.masked_fill(latest_BCE < 0, 0)

    def interest(self, history: History, candidates: Tensor) -> Tensor:
        return history.memory[0]

    def wide(self, history: History, items: Tensor) -> Tensor:
        latest_BCE = history.memory[1]
        items_BC1 = items.expand(latest_BCE.shape[0], -1)[..., None]
        buckets = self.cfg.wide_buckets
        found = [
            hashed(0, items_BC1, torch.ones_like(items_BC1), buckets=buckets),
            hashed(1, items_BC1, latest_BCE, buckets=buckets),
        ]
        for kind, attribute in enumerate(self.items.attributes.values(), 2):
            of_items, of_events = (attribute.values_RW[rows] for rows in (items_BC1[..., 0], latest_BCE))  # type: ignore[index]
            crosses = hashed(kind, of_items[:, :, None, :, None], of_events[..., None, :], buckets=buckets)
            found.append(crosses.flatten(2))
        summed_BC: Tensor = self.weights(torch.cat(found, dim=-1))[..., 0].sum(-1)
        return summed_BC

    def numbers_per_pair(self, length: int) -> int:
        widths = [attribute.values_RW.shape[1] for attribute in self.items.attributes.values()]  # type: ignore[index]
        return 8 * (1 + self.cfg.wide_events * (1 + sum(int(width) ** 2 for width in widths)))
