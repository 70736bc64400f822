"""Rankers that make one vector of a history, the interest, and read it beside the candidate and the user by an MLP.

A subclass says how the interest comes about (average pooling: a mean; DIN: weighted by the candidate). What depends on
the history alone is made once for all its candidates, and the MLP's first layer is split by what its inputs depend on.

Legend: B rows, L history events, C candidates ([B, C, ...], or [C, ...] where all rows share them), D width of an
embedding, F features of an item (D for its own vector and for each attribute), I width of the interest, M first width
of the MLP.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqrec_cli.config.rankers import InterestConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.initialise import initialise
from seqrec_cli.models.layers.mlp import Mlp
from seqrec_cli.models.layers.positions import check_window
from seqrec_cli.models.layers.transformer import as_stream
from seqrec_cli.models.pieces import piece_size
from seqrec_cli.models.ranker import Ranker

FEATURES_AT_ONCE = 1 << 14  # candidates whose features are made together
# Numbers of a piece of corpus on a CPU. Large pieces leave its cache, small ones are all overhead: DIN ranked all items
# of ML-1M for its users in 82 s by 2^21, 61 by 2^22, 53 by 2^23 (two cores), and scored pairs of their own at 180,000,
# 245,000 and 280,000 a second.
CACHED_PIECE = 1 << 23


class History(NamedTuple):
    """A row's side of its pairs: what is kept of its events, which of them each candidate sees, the user's and the
    context's part."""

    memory: tuple[Tensor, ...]  # rows first
    sees_BLC: Tensor  # [B, L, C], or [B, L, 1] where all candidates see the same
    request: Tensor | None  # [B, 1, M] or [B, C, M]

    def rows(self, which: slice) -> "History":
        request = None if self.request is None else self.request[which]
        return History(tuple(kept[which] for kept in self.memory), self.sees_BLC[which], request)


def shares(sees_BLC: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, C, L]: the share of each event in the mean of those that are seen; zero where there are none."""
    shares_BLC = sees_BLC.float() / sees_BLC.sum(1, keepdim=True).clamp(min=1)
    return shares_BLC.to(dtype).transpose(1, 2)


class InterestRanker(Ranker):
    """A history and one candidate become one logit."""

    embeds_events = True
    fp32_interest = False  # under autocast too the MLP's first layer reads the interest in fp32
    pieces_at_once = 1  # of CACHED_PIECE: more where a piece costs much whatever its size

    def __init__(self, cfg: InterestConfig, catalog: Catalog) -> None:
        super().__init__(cfg, catalog)
        self.max_length = cfg.max_length
        self.from_interest = nn.Linear(self.interest_width(cfg), cfg.mlp[0])
        self.add_first_layer(cfg.mlp[0])
        self.mlp = Mlp(cfg.mlp, cfg.activation, cfg.dropout, batch_norm=cfg.batch_norm)
        self.logit = nn.Linear(cfg.mlp[-1], 1)
        self.add_interest(cfg)
        initialise(self, cfg.init_std)

    def interest_width(self, cfg: InterestConfig) -> int:
        """The width I of the interest: that of an item's features, if it is made of them."""
        return self.items.width

    def add_interest(self, cfg: InterestConfig) -> None:
        """Make the modules that `interest` needs."""

    def encode_history(self, batch: Batch, events_BLF: Tensor, sees_BLC: Tensor) -> tuple[Tensor, ...]:
        """What `interest` reads of a history, made once for all candidates; rows first."""
        return (events_BLF,)

    def select(self, history: History, items: Tensor) -> History:
        """The history that `interest` reads for these candidates."""
        return history

    def wide(self, history: History, items: Tensor) -> Tensor | None:
        """What is added to the MLP's logits [B, C]."""
        return None

    def interest(self, history: History, candidates: Tensor) -> Tensor:
        """The interest [B, C, I], or [B, 1, I] if it is the same for all candidates."""
        raise NotImplementedError

    def numbers_per_pair(self, length: int) -> int:
        """About how many numbers `interest` makes for a pair of a history of that length and a candidate."""
        return 0

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        return self._logits(batch, items_BC)

    def score_corpus(self, batch: Batch) -> Tensor:
        return self._logits(batch, torch.arange(self.num_items + 1, device=batch.items_BL.device))

    def score_positions(self, batch: Batch, items_BC: Tensor, ends_BC: Tensor) -> Tensor:
        positions_L1 = torch.arange(batch.items_BL.shape[1], device=ends_BC.device)[:, None]
        ends_B1C = ends_BC[:, None]
        return self._pairs(
            self._history(batch, (positions_L1 < ends_B1C) & (positions_L1 >= ends_B1C - self.max_length)),
            items_BC,
            as_stream(self.items.joined(items_BC)),
        )

    def event_weights(self, history: History, candidates: Tensor) -> Tensor | None:
        """The attention [B, L or more, C] of candidates to the events; None where there is none."""
        return None

    def attention(self, batch: Batch, items_BC: Tensor) -> Tensor | None:
        check_window(batch.items_BL, self.max_length)
        history = self.select(self._history(batch, batch.mask_BL[..., None]), items_BC)
        weights_BLC = self.event_weights(history, as_stream(self.items.joined(items_BC)))
        return None if weights_BLC is None else weights_BLC[:, : batch.items_BL.shape[1]]

    def _logits(self, batch: Batch, items: Tensor) -> Tensor:
        """[B, C], in pieces of bounded memory unless a gradient or a traced program wants it whole."""
        check_window(batch.items_BL, self.max_length)
        history = self._history(batch, batch.mask_BL[..., None])
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._pairs(history, items, as_stream(self.items.joined(items)))
        B, C = len(batch), items.shape[-1]
        numbers = self.numbers_per_pair(batch.items_BL.shape[1]) + self.mlp.numbers + self.items.width
        budget = CACHED_PIECE * self.pieces_at_once if items.device.type == "cpu" else None
        rows, columns = piece_size(B, C, numbers, budget=budget)
        logits_BC = torch.empty((B, C), device=items.device)
        for first in range(0, C, FEATURES_AT_ONCE):
            block = items[..., first : first + FEATURES_AT_ONCE]
            scored_BC = logits_BC[:, first : first + FEATURES_AT_ONCE]
            features = as_stream(self.items.joined(block))  # once, and not for every few rows
            for top in range(0, B, rows):
                here = slice(top, top + rows)
                part = history.rows(here)
                mine, made = (block, features) if items.dim() == 1 else (block[here], features[here])
                for left in range(0, block.shape[-1], columns):
                    across = slice(left, left + columns)
                    scored_BC[here, across] = self._pairs(part, mine[..., across], made[..., across, :])
        return logits_BC

    def _history(self, batch: Batch, sees_BLC: Tensor) -> History:
        events_BLF = batch.present(as_stream(self.items.joined(batch.items_BL)))
        memory = self.encode_history(batch, events_BLF, sees_BLC)
        return History(memory, sees_BLC, self.request(batch))

    def _pairs(self, history: History, items: Tensor, candidates: Tensor) -> Tensor:
        """Logits [B, C] of every row with each of its candidates, whose features are `candidates` [..., F]."""
        interest = self.interest(self.select(history, items), candidates)
        if self.fp32_interest:
            with full_precision(interest.device):
                of_interest = self.from_interest(interest.float())
        else:
            of_interest = self.from_interest(interest)
        hidden_BCM = of_interest + self.from_item(candidates)
        if history.request is not None:
            hidden_BCM = hidden_BCM + history.request
        hidden_BCM = self.mlp(hidden_BCM, items > 0)
        with full_precision(hidden_BCM.device):
            logits_BC: Tensor = self.logit(hidden_BCM.float()).squeeze(-1)
        wide_BC = self.wide(history, items)
        return logits_BC if wide_BC is None else logits_BC + wide_BC
