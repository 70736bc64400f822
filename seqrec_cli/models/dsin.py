"""DSIN: interests of sessions, and how they follow one another (Feng et al. 2019, arXiv 1905.06482).

Sessions, their self-attention with bias encoding (eq. 2-5) and the Bi-LSTM across them (eq. 6-8) do not see the
candidate and are made once a history; the candidate weighs both kinds of interest (eq. 9-11). Deviations: heads have
projections of their own over the whole width, scaled by the root of a head's width, as in Vaswani et al. (2017); the
paper cuts the input into heads first and scales by the root of the whole.

Legend: B rows, L history events, C candidates, K sessions, S events of a session, F features of an item.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model.dsin import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.interest import History, InterestRanker
from seqrec_cli.models.parts.lstm import BiLstm
from seqrec_cli.models.parts.sessions import cut_sessions
from seqrec_cli.models.parts.transformer import TransformerBlock


class Model(InterestRanker):
    """Behaviour is alike within a session and differs between them."""

    def interest_width(self, cfg: Config) -> int:  # type: ignore[override]
        return self.items.width + 2 * cfg.hidden

    def add_interest(self, cfg: Config) -> None:  # type: ignore[override]
        width = self.items.width
        self.cfg = cfg
        # Eq. 2: BE(k, t, c) = w_k + w_t + w_c, of the session, of the place in it, and of the unit.
        self.of_session = nn.Parameter(torch.zeros(cfg.sessions, 1, 1))
        self.of_place = nn.Parameter(torch.zeros(cfg.session_events, 1))
        self.of_unit = nn.Parameter(torch.zeros(width))
        self.within = TransformerBlock(width, cfg.heads, cfg.ffn_dim, "post", "relu", cfg.dropout, 0.0)
        self.lstm = BiLstm(width, cfg.hidden)
        self.interest_keys = nn.Linear(width, width, bias=False)
        self.context_keys = nn.Linear(2 * cfg.hidden, width, bias=False)

    def remember(self, batch: Batch, events_BLF: Tensor, sees_BLC: Tensor) -> tuple[Tensor, ...]:
        """Sessions' interests [B, K, F] and interests in context [B, K, 2H], the keys [B, K, F] of both, which sessions
        are real [B, K], and the share [B, K, L] of each event in its session."""
        cfg, times_BL = self.cfg, batch.times_BL
        if times_BL is None:
            raise SeqrecError("model=dsin cuts sessions by the times of events, and this data has none; use model=din")
        places_BKS, real_BKS = cut_sessions(
            times_BL, batch.mask_BL, 60 * cfg.session_gap, cfg.sessions, cfg.session_events
        )
        F = events_BLF.shape[-1]
        events_BKSF = events_BLF.gather(1, places_BKS.flatten(1)[..., None].expand(-1, -1, F)).unflatten(
            1, (cfg.sessions, cfg.session_events)
        )
        biased_BKSF = events_BKSF + (self.of_session + self.of_place + self.of_unit).to(events_BKSF.dtype)
        attended_NSF = self.within(biased_BKSF.flatten(0, 1), mask_BL=real_BKS.flatten(0, 1))
        share_BKS = real_BKS.float() / real_BKS.sum(-1, keepdim=True).clamp(min=1)
        interests_BKF = (share_BKS.to(events_BLF.dtype)[:, :, None] @ attended_NSF.view_as(events_BKSF))[:, :, 0]
        real_BK = real_BKS.any(-1)
        context_BKH = self.lstm(interests_BKF, real_BK).to(events_BLF.dtype)
        keys = self.interest_keys(interests_BKF), self.context_keys(context_BKH)
        share_BKL = share_BKS.new_zeros((*real_BK.shape, events_BLF.shape[1])).scatter_add(2, places_BKS, share_BKS)
        return interests_BKF, context_BKH, *keys, real_BK, share_BKL

    def _weights(self, history: History, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """The candidates' attention [B, C, K] to the sessions' interests, and to the interests in context."""
        _, _, *both, real_BK, _ = history.memory
        weights = []
        for keys_BKF in both:
            with full_precision(candidates.device):
                raw_BCK = candidates.float() @ keys_BKF.float().transpose(1, 2)
            low = torch.finfo(raw_BCK.dtype).min / 2
            seen_B1K = real_BK[:, None]
            weights.append(raw_BCK.masked_fill(~seen_B1K, low).softmax(-1).masked_fill(~seen_B1K, 0.0))
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
