"""BST: a transformer over [history; candidate], then an MLP with the other features (Chen et al. 2019, 1905.06874).

Candidates never see one another, but as in the paper the history sees the candidate. With one block and the
candidate's position as the only read-out that makes no difference to what is read, so the history's keys and values
are made once for all candidates; otherwise every pair of row and candidate is a sequence of its own.

Legend: B rows, L history events, C candidates, A = B or 1 (candidates shared by all rows), N = B x C pairs,
T = L + 1 positions (the candidate last), D width, F joined features, M first width of the MLP.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model.bst import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.initialise import initialise
from seqrec_cli.models.layers.mlp import Mlp
from seqrec_cli.models.layers.positions import age_buckets, check_window, positions_from_end
from seqrec_cli.models.layers.transformer import TransformerBlock, as_stream
from seqrec_cli.models.pieces import piece_size, row_pieces
from seqrec_cli.models.ranker import Ranker


class History(NamedTuple):
    """A row's side of its pairs: embedded events, and what is made of them once for all candidates."""

    events_BLD: Tensor
    mask_BL: Tensor
    lengths_B: Tensor
    memory: tuple[Tensor, Tensor] | None
    request: Tensor | None  # [B, 1, M] or [B, C, M]


class Model(Ranker):
    """A history and one candidate become one logit."""

    attention_is_shares = True
    embeds_events = True
    unequal = frozenset({"users", "context"})  # an item's vectors are added up

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(cfg, catalog)
        self.cfg = cfg
        self.sees_target_time |= cfg.positions == "time"
        D, first = cfg.embed_dim, cfg.mlp[0]
        rows = {"index": cfg.max_length + 1, "time": cfg.time_buckets + 1}.get(cfg.positions)
        self.positions = None if rows is None else nn.Embedding(rows, D)  # row 0 is the candidate's
        self.blocks = nn.ModuleList(
            TransformerBlock(
                D, cfg.heads, cfg.ffn_dim, norm=cfg.norm, activation=cfg.block_activation, drop=cfg.dropout
            )
            for _ in range(cfg.blocks)
        )
        self.norm = nn.LayerNorm(D) if cfg.norm == "pre" else nn.Identity()
        # The MLP's first layer, split by what its inputs depend on: the sum equals one layer over all of them.
        self.from_sequence = nn.Linear(D * (cfg.max_length + 1 if cfg.read_out == "all" else 1), first)
        self.add_first_layer(first)
        self.mlp = Mlp(cfg.mlp, cfg.activation, cfg.mlp_dropout, batch_norm=cfg.batch_norm)
        self.logit = nn.Linear(cfg.mlp[-1], 1)
        initialise(self, cfg.init_std)

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        return self._logits(batch, items_BC)

    def score_corpus(self, batch: Batch) -> Tensor:
        return self._logits(batch, torch.arange(self.num_items + 1, device=batch.items_BL.device)[None])

    def _logits(self, batch: Batch, items_AC: Tensor) -> Tensor:
        """[B, C], in pieces of bounded memory unless a gradient or a traced program wants it whole."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._pairs(self._history(batch), items_AC)
        rows, columns = piece_size(len(batch), items_AC.shape[1], self._numbers_per_pair(batch))
        pieces = []
        for part, items in row_pieces(batch, items_AC, rows):
            history = self._history(part)
            pieces.append(torch.cat([self._pairs(history, c) for c in items.split(columns, dim=1)], dim=1))
        return torch.cat(pieces)

    def _numbers_per_pair(self, batch: Batch) -> int:
        length, cfg = batch.items_BL.shape[1] + 1, self.cfg
        of_block = 6 * cfg.embed_dim + 2 * cfg.ffn_dim + 3 * cfg.heads * length
        of_sequence = of_block * (1 if self._shares_history else length)
        return of_sequence + self.mlp.numbers + self.items.width

    @property
    def _shares_history(self) -> bool:
        return self.cfg.read_out == "target" and len(self.blocks) == 1

    def _history(self, batch: Batch) -> History:
        """What depends on the history alone."""
        check_window(batch.items_BL, self.cfg.max_length)
        events_BLD = batch.present(self.items.summed(batch.items_BL))
        if self.positions is not None:
            events_BLD = events_BLD + self.positions(self._event_positions(batch))
        events_BLD = as_stream(events_BLD)
        memory = self.blocks[0].project_kv(events_BLD) if self._shares_history else None  # type: ignore[operator]
        return History(events_BLD, batch.mask_BL, batch.lengths_B, memory, self.request(batch))

    def _event_positions(self, batch: Batch) -> Tensor:
        """[B, L], from 1: position 0 is the candidate's."""
        if self.cfg.positions == "index":
            return 1 + positions_from_end(batch.lengths_B, batch.items_BL.shape[1])
        if batch.times_BL is None or batch.request_times_B is None:
            raise SeqrecError("model.positions=time needs event times, and this data has none; use index or none")
        return 1 + age_buckets(batch.request_times_B[:, None] - batch.times_BL, self.cfg.time_buckets)

    def _pairs(self, history: History, items_AC: Tensor) -> Tensor:
        """Logits [B, C] of every row with each of its candidates."""
        joined_ACF = self.items.joined(items_AC)
        candidates_ACD = self._candidates(joined_ACF)
        if self._shares_history:
            read_BC = self.norm(self.blocks[0].forward_candidates(candidates_ACD, history.memory, history.mask_BL))  # type: ignore[operator]
        else:
            read_BC = self._read_pairs(history, candidates_ACD.expand(len(history.events_BLD), -1, -1))
        hidden_BCM = self.from_sequence(read_BC) + self.from_item(joined_ACF)
        if history.request is not None:
            hidden_BCM = hidden_BCM + history.request
        hidden_BCM = self.mlp(hidden_BCM, items_AC > 0)
        with full_precision(hidden_BCM.device):
            logits_BC: Tensor = self.logit(hidden_BCM.float()).squeeze(-1)
        return logits_BC

    def attention(self, batch: Batch, items_BC: Tensor) -> Tensor:
        """Of the last block, at the candidate's position: the mean over heads."""
        history = self._history(batch)
        candidates_BCD = self._candidates(self.items.joined(items_BC))
        last = self.blocks[-1]
        if self._shares_history:
            weights_BCL: Tensor = last.candidate_weights(candidates_BCD, history.memory, history.mask_BL)  # type: ignore[operator]
            return weights_BCL.transpose(1, 2)
        x_NTD, mask_NT = self._pairs_as_rows(history, candidates_BCD)
        for block in self.blocks[:-1]:
            x_NTD = block(x_NTD, mask_BL=mask_NT)
        memory = last.project_kv(x_NTD[:, :-1])  # type: ignore[operator]
        weights_N1L: Tensor = last.candidate_weights(x_NTD[:, -1:], memory, mask_NT[:, :-1])  # type: ignore[operator]
        return weights_N1L.view(*items_BC.shape, -1).transpose(1, 2)

    def _candidates(self, joined_ACF: Tensor) -> Tensor:
        """What the candidates put into the sequence, [A, C, D]."""
        candidates_ACD = joined_ACF.unflatten(-1, (-1, self.cfg.embed_dim)).sum(-2)
        if self.positions is not None:
            candidates_ACD = candidates_ACD + self.positions.weight[0]
        return as_stream(candidates_ACD)

    def _pairs_as_rows(self, history: History, candidates_BCD: Tensor) -> tuple[Tensor, Tensor]:
        """Sequences [N, T, D] of the history and the candidate, and their masks [N, T]."""
        B, C, D = candidates_BCD.shape
        events_BCLD = history.events_BLD[:, None].expand(B, C, history.events_BLD.shape[1], D)
        x_NTD = torch.cat([events_BCLD, candidates_BCD[:, :, None]], dim=2).flatten(0, 1)
        return x_NTD, nn.functional.pad(history.mask_BL, (0, 1), value=True).repeat_interleave(C, dim=0)

    def _read_pairs(self, history: History, candidates_BCD: Tensor) -> Tensor:
        """What the MLP reads [B, C, ...], with every pair of row and candidate as a sequence of its own."""
        B, C, D = candidates_BCD.shape
        x_NTD, mask_NT = self._pairs_as_rows(history, candidates_BCD)
        if self.cfg.read_out == "target":
            for block in self.blocks[:-1]:
                x_NTD = block(x_NTD, mask_BL=mask_NT)
            last = self.blocks[-1]
            memory = last.project_kv(x_NTD[:, :-1])  # type: ignore[operator]
            read_N1D: Tensor = last.forward_candidates(x_NTD[:, -1:], memory, mask_NT[:, :-1])  # type: ignore[operator]
            return self.norm(read_N1D).view(B, C, D)
        for block in self.blocks:
            x_NTD = block(x_NTD, mask_BL=mask_NT)
        lengths_N = history.lengths_B.repeat_interleave(C)
        return self._by_distance(self.norm(x_NTD), lengths_N).view(B, C, -1)

    def _by_distance(self, x_NTD: Tensor, lengths_N: Tensor) -> Tensor:
        """All positions, the candidate first and then the latest event: [N, (max_length + 1) * D], zero past the
        first."""
        distance_K = torch.arange(1, self.cfg.max_length + 1, device=x_NTD.device)
        position_NK = lengths_N[:, None] - distance_K
        index_NKD = position_NK.clamp(min=0)[..., None].expand(-1, -1, x_NTD.shape[-1])
        events_NKD = x_NTD.gather(1, index_NKD).masked_fill(position_NK[..., None] < 0, 0.0)
        return torch.cat([x_NTD[:, -1:], events_NKD], dim=1).flatten(1)
