"""DIEN: interests extracted by a GRU, and their evolution towards the candidate (Zhou et al. 2019, arXiv 1809.03672).

The first GRU does not see the candidate and is run once a history. Attention is eq. 8; AIGRU, AGRU and AUGRU are eq.
9-13; the auxiliary loss is eq. 7 with one sampled item a step. Deviations: the auxiliary loss is a mean over the real
events of a batch (the paper sums those of a history, the authors' code averages over padded ones too); where `hidden`
is not the width of an item's vectors, they are first projected to it.

What the authors' code (github.com/mouna99/dien) does otherwise are settings. `evolution: augru_keep`: the gate k says
what is kept, and h = (1 - a) k h' + (1 - (1 - a) k) n, so that an event without attention still moves the state, as in
a plain GRU. `attention: unit`: DIN's unit over the interest and the candidate, which a layer with PReLU first projects
to the state's width, then a softmax without a scale. `pooled: sum`: the MLP reads the sum of the history and its
product with the candidate. `auxiliary_mlp`: the auxiliary loss by an MLP, and `auxiliary_negatives: popularity`, where
the code excludes the event alone and not all that the user has seen. Left as in the paper: a GRU's reset gate acts on
U h (in the code on h), and the gates' biases start at 0 (in the code at 1). The code's batch normalisations keep no
statistics, so they are a part of the layers behind them.

Legend: B rows, L history events, C candidates, F features of an item, H hidden width.
"""

from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from seqrec_cli.config.model.dien import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.kernels.gru_scan.reference import FROZEN, KEPT, REPLACED, SCALED
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.interest import History, InterestRanker, shares
from seqrec_cli.models.layers.activation_unit import ActivationUnit
from seqrec_cli.models.layers.attention import masked_softmax
from seqrec_cli.models.layers.channelwise import PReLU
from seqrec_cli.models.layers.gru import Recurrence
from seqrec_cli.models.layers.positions import check_window
from seqrec_cli.models.layers.transformer import as_stream

GATES = {"augru": SCALED, "augru_keep": KEPT, "agru": REPLACED, "aigru": SCALED}


class Model(InterestRanker):
    """What a user is interested in moves; what matters to the candidate is how it got there."""

    attention_is_shares = True
    fp32_interest = True  # the state's small steps are lost in bf16
    pieces_at_once = 8  # every step of the loop starts a dozen operations

    def score_positions(self, batch: Batch, items_BC: Tensor, ends_BC: Tensor) -> Tensor:
        check_window(batch.items_BL, self.max_length)  # an earlier start would be another history to the first GRU
        return super().score_positions(batch, items_BC, ends_BC)

    def interest_width(self, cfg: Config) -> int:  # type: ignore[override]
        width = self.items.width
        return (cfg.hidden or width) + (0 if cfg.pooled == "none" else 2 * width)

    def add_interest(self, cfg: Config) -> None:  # type: ignore[override]
        width, H = self.items.width, cfg.hidden or self.items.width
        self.cfg, self.hidden = cfg, H
        self.extractor = Recurrence(width, H, cfg.max_length)
        if cfg.attention == "bilinear":
            self.attention_keys = nn.Linear(H, width, bias=False)
        else:
            self.attention_query = nn.Sequential(nn.Linear(width, H), PReLU(H))
            self.unit = ActivationUnit(H, cfg.unit, cfg.unit_activation, softmax=True, scale=1.0)
        self.evolution = Recurrence(H, H, cfg.max_length, gate=GATES[cfg.evolution])
        aligned = width == H or not cfg.auxiliary or cfg.auxiliary_mlp is not None
        self.to_hidden = nn.Identity() if aligned else nn.Linear(width, H, bias=False)
        self.teller = _teller(H + width, cfg.auxiliary_mlp) if cfg.auxiliary and cfg.auxiliary_mlp else None
        self._auxiliary: Tensor | None = None

    def encode_history(self, batch: Batch, events_BLF: Tensor, sees_BLC: Tensor) -> tuple[Tensor, ...]:
        """What attention reads of the interests [B, L, F], or [B, L, H]; the evolution's inputs [B, L, 3H]; and the
        mean or the sum of the events [B, C, F]."""
        mask_BL1 = batch.mask_BL[..., None]
        states_BLH = self.extractor.states(self.extractor.project(events_BLF), mask_BL1)[:, :, 0]
        if self.training:
            self._auxiliary = self._tell_next(batch, states_BLH, events_BLF)
        inputs_BLH, project = as_stream(states_BLH).contiguous(), self.evolution.project
        # Of AIGRU the attention scales the inputs before the bias.
        projected_BLG = nnf.linear(inputs_BLH, project.weight, None if self.cfg.evolution == "aigru" else project.bias)
        keys = self.attention_keys(inputs_BLH) if self.cfg.attention == "bilinear" else inputs_BLH
        if self.cfg.pooled == "none":
            return keys, projected_BLG
        mean, dtype = self.cfg.pooled == "mean", events_BLF.dtype
        counted_BCL = shares(sees_BLC, dtype) if mean else sees_BLC.to(dtype).transpose(1, 2)
        return keys, projected_BLG, counted_BCL @ events_BLF

    def event_weights(self, history: History, candidates: Tensor) -> Tensor:
        """Attention [B, L, C] over the events that a candidate sees, zero elsewhere."""
        if self.cfg.attention == "unit":
            return self.unit.weights(history.memory[0], self.attention_query(candidates), history.sees_BLC)
        with full_precision(candidates.device):
            raw_BLC = history.memory[0].float() @ candidates.float().transpose(-1, -2)
        return masked_softmax(raw_BLC, history.sees_BLC, dim=1)

    def interest(self, history: History, candidates: Tensor) -> Tensor:
        weights_BLC, projected_BLG = self.event_weights(history, candidates), history.memory[1]
        if self.cfg.evolution == "aigru":
            last_BCH = self._scaled_inputs(projected_BLG, weights_BLC, history.sees_BLC)
        else:
            frozen = FROZEN[GATES[self.cfg.evolution]]
            scales_BLC = weights_BLC if frozen == 0 else weights_BLC.masked_fill(~history.sees_BLC, frozen)
            last_BCH = self.evolution.last(projected_BLG, scales_BLC)
        if self.cfg.pooled == "none":
            return last_BCH
        candidates_BCF = candidates.expand(*weights_BLC.shape[::2], -1)
        pooled_BCF = history.memory[2].expand_as(candidates_BCF)
        return torch.cat([last_BCH, (pooled_BCF * candidates_BCF).float(), pooled_BCF.float()], dim=-1)

    def _scaled_inputs(self, projected_BLG: Tensor, weights_BLC: Tensor, sees_BLC: Tensor) -> Tensor:
        """AIGRU: every pair of row and candidate has inputs of its own."""
        B, L, C = weights_BLC.shape
        inputs_BCLG = weights_BLC.transpose(1, 2)[..., None] * projected_BLG[:, None] + self.evolution.project.bias
        sees_BCL = sees_BLC.expand(B, L, C).transpose(1, 2)
        return self.evolution.last(inputs_BCLG.flatten(0, 1), sees_BCL.reshape(B * C, L, 1)).view(B, C, -1)

    def _tell_next(self, batch: Batch, states_BLH: Tensor, events_BLF: Tensor) -> Tensor | None:
        """Eq. 7: how each state fits the next event, against a sampled item; None without samples."""
        if batch.negatives_BLK is None or not self.cfg.auxiliary:
            return None
        sampled_BLF = self.items.joined(batch.negatives_BLK[:, 1:, 0])
        before_BLH, real_BL = states_BLH[:, :-1].float(), batch.mask_BL[:, 1:].float()
        clicked_BL, other_BL = (self._fit(before_BLH, items) for items in (events_BLF[:, 1:], sampled_BLF))
        losses_BL = nnf.softplus(-clicked_BL) + nnf.softplus(other_BL)
        return self.cfg.auxiliary * (losses_BL * real_BL).sum() / real_BL.sum().clamp(min=1)

    def _fit(self, states_BLH: Tensor, items_BLF: Tensor) -> Tensor:
        """Their inner products [B, L], or an MLP's logits."""
        if self.teller is None:
            return (states_BLH * self.to_hidden(items_BLF).float()).sum(-1)
        with full_precision(states_BLH.device):
            logits_BL: Tensor = self.teller(torch.cat([states_BLH, items_BLF.float()], dim=-1)).squeeze(-1)
        return logits_BL

    def auxiliary_loss(self) -> Tensor | None:
        return self._auxiliary if self.training else None

    def auxiliary_count(self, batch: Batch) -> int:
        """The events that follow another one."""
        return sum(max(length - 1, 0) for length in batch.lengths())

    def numbers_per_pair(self, length: int) -> int:
        inputs = 3 * self.hidden * length if self.cfg.evolution == "aigru" else 0
        of_unit = self.unit.numbers if self.cfg.attention == "unit" else 0
        return (3 + of_unit) * length + 8 * self.hidden + 2 * inputs


def _teller(inputs: int, widths: tuple[int, ...]) -> nn.Sequential:
    """An MLP with sigmoids, to one logit."""
    layers: list[nn.Module] = []
    for before, width in pairwise((inputs, *widths)):
        layers += [nn.Linear(before, width), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))
