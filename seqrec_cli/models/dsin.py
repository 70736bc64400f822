"""DSIN: interests of sessions, and how they follow one another (Feng et al. 2019, arXiv 1905.06482).

Sessions, their self-attention with bias encoding (eq. 2-5) and the Bi-LSTM across them (eq. 6-8) do not see the
candidate and are made once a history; the candidate weighs both kinds of interest (eq. 9-11). Deviations: heads have
projections of their own over the whole width, scaled by the root of a head's width, as in Vaswani et al. (2017); the
paper cuts the input into heads first and scales by the root of the whole.

Legend: B rows, L history events, C candidates, K sessions, S events of a session, F features of an item, H a
direction's width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model.dsin import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.interest import History, InterestRanker
from seqrec_cli.models.layers.attention import masked_softmax
from seqrec_cli.models.layers.lstm import BiLstm
from seqrec_cli.models.layers.transformer import TransformerBlock


class Sessions(NamedTuple):
    """Where the events of each session stand in their row; sessions and events in the order of time, padded at the
    end."""

    positions_BKS: Tensor  # int64, 0 where there is no event
    real_BKS: Tensor


def cut_sessions(times_BL: Tensor, mask_BL: Tensor, gap: int, *, most: int, longest: int) -> Sessions:
    """Sessions of events at most `gap` seconds apart: the latest `most`, and of each the latest `longest` events."""
    B, L = times_BL.shape
    positions_L = torch.arange(L, device=times_BL.device)
    positions_BL = positions_L.expand(B, L)
    later_BL = times_BL - times_BL[:, (positions_L - 1).clamp(min=0)] > gap
    session_BL = (later_BL & mask_BL).cumsum(1)
    # Not by `cummax`, which ONNX does not know.
    first_BL = (
        torch.full_like(positions_BL, L).scatter_reduce(1, session_BL, positions_BL, "amin").gather(1, session_BL)
    )
    real_BL = positions_BL.where(mask_BL, -1)
    last_BL = torch.full_like(positions_BL, -1).scatter_reduce(1, session_BL, real_BL, "amax").gather(1, session_BL)
    session_BL = session_BL - (session_BL.amax(1, keepdim=True) + 1 - most).clamp(min=0)
    within_BL = positions_BL - torch.maximum(first_BL, last_BL - longest + 1)
    kept_BL = mask_BL & (session_BL >= 0) & (within_BL >= 0)
    slots_BL = (session_BL * longest + within_BL).where(kept_BL, most * longest)  # the last slot takes what is dropped
    empty = torch.full((B, most * longest + 1), -1, dtype=torch.int64, device=times_BL.device)
    positions_BKS = empty.scatter(1, slots_BL, positions_BL)[:, :-1].unflatten(1, (most, longest))
    return Sessions(positions_BKS.clamp(min=0), positions_BKS >= 0)


class Model(InterestRanker):
    """Behaviour is alike within a session and differs between them."""

    attention_is_shares = True

    def interest_width(self, cfg: Config) -> int:  # type: ignore[override]
        return self.items.width + 2 * cfg.hidden

    def add_interest(self, cfg: Config) -> None:  # type: ignore[override]
        width = self.items.width
        self.cfg = cfg
        # Eq. 2: BE(k, t, c) = w_k + w_t + w_c, of the session, of the position in it, and of the unit.
        self.session_bias = nn.Parameter(torch.zeros(cfg.sessions, 1, 1))
        self.position_bias = nn.Parameter(torch.zeros(cfg.session_events, 1))
        self.unit_bias = nn.Parameter(torch.zeros(width))
        self.within = TransformerBlock(width, cfg.heads, cfg.ffn_dim, norm="post", activation="relu", drop=cfg.dropout)
        self.lstm = BiLstm(width, cfg.hidden)
        self.interest_keys = nn.Linear(width, width, bias=False)
        self.context_keys = nn.Linear(2 * cfg.hidden, width, bias=False)

    def encode_history(self, batch: Batch, events_BLF: Tensor, sees_BLC: Tensor) -> tuple[Tensor, ...]:
        """Sessions' interests [B, K, F] and interests in context [B, K, 2H], the keys [B, K, F] of both, which sessions
        are real [B, K], and the share [B, K, L] of each event in its session."""
        cfg, times_BL = self.cfg, batch.times_BL
        if times_BL is None:
            raise SeqrecError("model=dsin cuts sessions by the times of events, and this data has none; use model=din")
        positions_BKS, real_BKS = cut_sessions(
            times_BL, batch.mask_BL, 60 * cfg.session_gap, most=cfg.sessions, longest=cfg.session_events
        )
        F = events_BLF.shape[-1]
        events_BKSF = events_BLF.gather(1, positions_BKS.flatten(1)[..., None].expand(-1, -1, F)).unflatten(
            1, (cfg.sessions, cfg.session_events)
        )
        biased_BKSF = events_BKSF + (self.session_bias + self.position_bias + self.unit_bias).to(events_BKSF.dtype)
        attended_NSF = self.within(biased_BKSF.flatten(0, 1), mask_BL=real_BKS.flatten(0, 1))
        share_BKS = real_BKS.float() / real_BKS.sum(-1, keepdim=True).clamp(min=1)
        interests_BKF = (share_BKS.to(events_BLF.dtype)[:, :, None] @ attended_NSF.view_as(events_BKSF))[:, :, 0]
        real_BK = real_BKS.any(-1)
        context_BKH = self.lstm(interests_BKF, real_BK).to(events_BLF.dtype)
        keys = self.interest_keys(interests_BKF), self.context_keys(context_BKH)
        share_BKL = share_BKS.new_zeros((*real_BK.shape, events_BLF.shape[1])).scatter_add(2, positions_BKS, share_BKS)
        return interests_BKF, context_BKH, *keys, real_BK, share_BKL

    def _weights(self, history: History, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """The candidates' attention [B, C, K] to the sessions' interests, and to the interests in context."""
        _, _, *both, real_BK, _ = history.memory
        weights = []
        for keys_BKF in both:
            with full_precision(candidates.device):
                raw_BCK = candidates.float() @ keys_BKF.float().transpose(1, 2)
            weights.append(masked_softmax(raw_BCK, real_BK[:, None], dim=-1))
        return weights[0], weights[1]

    def interest(self, history: History, candidates: Tensor) -> Tensor:
        weights = self._weights(history, candidates)
        made = [w.to(kept.dtype) @ kept for w, kept in zip(weights, history.memory[:2], strict=True)]
        return torch.cat(made, dim=-1)

    def event_weights(self, history: History, candidates: Tensor) -> Tensor:
        """The mean of both attentions to an event's session, shared evenly by the session's events."""
        to_interests_BCK, to_context_BCK = self._weights(history, candidates)
        return (0.5 * (to_interests_BCK + to_context_BCK) @ history.memory[-1]).transpose(1, 2)

    def numbers_per_pair(self, length: int) -> int:
        return 8 * self.cfg.sessions + 2 * self.from_interest.in_features
