"""Causal attention whose cost grows with the length of a history, and not with its square.

`linear` (Katharopoulos et al. 2020, arXiv 2006.16236, eq. 7 to 12): with phi(x) = elu(x) + 1,

    out_i = phi(q_i)' S_i / phi(q_i)' z_i,   S_i = sum over j <= i of phi(k_j) v_j',   z_i = sum over j <= i of phi(k_j)

The sums run over chunks of CHUNK events, and inside a chunk over its pairs: S is kept once a chunk, not once an event.
The paper's kernel in CUDA keeps one S and goes event by event; the numbers are the same.

`local`: softmax over the latest `window` events, the query's own included (Beltagy et al. 2020, arXiv 2004.05150,
section 3.1, with one side of the window). Blocks of `window` queries read their own block and the one before, so that
the largest tensor is rows x heads x length x 2 windows. Through several blocks a state still reaches
blocks x (window - 1) events back.

An exported program computes both from all pairs: the same numbers, and no operator that depends on a length.

Legend: B rows, L queries, T keys, H heads, D width, d = D / H, w window, c events of a chunk, n blocks or chunks; A is
B, or 1 where all rows are alike. Masks are True at real keys.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.model import CausalTransformerConfig
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.models.contract import full_precision
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.positions import RelativeBias, attention_positions

CHUNK = 64


class LocalAttention(MultiHeadAttention):
    """Attention to the latest `window` events."""

    window: int

    def mix(
        self,
        q_BHLd: Tensor,
        k_BHTd: Tensor,
        v_BHTd: Tensor,
        *,
        causal: bool,
        mask_BT: Tensor | None,
        positions_BL: Tensor | None,
        bias_BHLT: Tensor | None,
    ) -> Tensor:
        assert bias_BHLT is None
        L, w, drop = q_BHLd.shape[2], self.window, self._weight_drop()
        if positions_BL is not None or torch.compiler.is_exporting() or w >= L:
            places_T = torch.arange(k_BHTd.shape[2], device=k_BHTd.device)
            asked_AL = places_T[None] if positions_BL is None else positions_BL
            bias = self._bias(asked_AL[:, :, None] - places_T, q_BHLd)
            return attention(q_BHLd, k_BHTd, v_BHTd, causal=False, mask_BT=mask_BT, drop=drop, bias_AHLT=bias)
        assert causal
        assert mask_BT is None
        first = self.mix(  # which has no block before it
            *(x[:, :, :w] for x in (q_BHLd, k_BHTd, v_BHTd)),
            causal=True,
            mask_BT=None,
            positions_BL=None,
            bias_BHLT=None,
        )
        # Keys behind the last query are in no query's window.
        q, k, v = (F.pad(x, (0, 0, 0, -L % w)).unflatten(2, (-1, w)) for x in (q_BHLd, k_BHTd, v_BHTd))
        q = q[:, :, 1:]
        k, v = (torch.cat([x[:, :, :-1], x[:, :, 1:]], dim=3) for x in (k, v))
        places_2w = torch.arange(2 * w, device=q.device)
        bias = self._bias(places_2w[None, w:, None] - places_2w, q_BHLd)
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))  # [B n, H, ...]
        rest = attention(q, k, v, causal=False, mask_BT=None, drop=drop, bias_AHLT=bias)
        rest_BHnwd = rest.unflatten(0, (q_BHLd.shape[0], -1)).transpose(1, 2)
        return torch.cat([first[:, :, None], rest_BHnwd], dim=2).flatten(2, 3)[:, :, :L]

    def _bias(self, distances_ALT: Tensor, q_BHLd: Tensor) -> Tensor:
        """What is added to the logits, [A, H or 1, L, T]: very low outside the window."""
        outside_A1LT = ((distances_ALT < 0) | (distances_ALT >= self.window))[:, None]
        low = torch.finfo(q_BHLd.dtype).min / 2
        if not isinstance(self.positions, RelativeBias):
            return torch.zeros(outside_A1LT.shape, dtype=q_BHLd.dtype, device=q_BHLd.device).masked_fill(
                outside_A1LT, low
            )
        farthest = self.positions.farthest
        rows_ALT = distances_ALT.clamp(-farthest, farthest) + farthest
        return self.positions.table(rows_ALT).permute(0, 3, 1, 2).masked_fill(outside_A1LT, low)


class LinearAttention(MultiHeadAttention):
    """Attention by kernel features, in fp32."""

    def mix(
        self,
        q_BHLd: Tensor,
        k_BHTd: Tensor,
        v_BHTd: Tensor,
        *,
        causal: bool,
        mask_BT: Tensor | None,
        positions_BL: Tensor | None,
        bias_BHLT: Tensor | None,
    ) -> Tensor:
        assert bias_BHLT is None
        with full_precision(q_BHLd.device):
            # Contiguous, as the gradient of `elu` is, whatever the strides that a compiler takes it to have.
            q, k = (F.elu(x.float().contiguous()) + 1 for x in (q_BHLd, k_BHTd))
            v = v_BHTd.float()
            if mask_BT is not None:
                k = k * mask_BT[:, None, :, None]
            mixed = _causal_sums(q, k, v) if causal else _sums(q, k, v)
        return mixed.to(q_BHLd.dtype)


def _sums(q_BHLd: Tensor, k_BHTd: Tensor, v_BHTd: Tensor) -> Tensor:
    """Each query over all keys."""
    least = torch.finfo(q_BHLd.dtype).tiny  # a row without a key
    numerator_BHLd = q_BHLd @ (k_BHTd.mT @ v_BHTd)
    return numerator_BHLd / (q_BHLd * k_BHTd.sum(2, keepdim=True)).sum(-1, keepdim=True).clamp(min=least)


def _causal_sums(q_BHLd: Tensor, k_BHLd: Tensor, v_BHLd: Tensor) -> Tensor:
    """Each query over the keys up to its own."""
    L = q_BHLd.shape[2]
    if torch.compiler.is_exporting() or L <= CHUNK:
        pairs_BHLL = (q_BHLd @ k_BHLd.mT).tril()
        return (pairs_BHLL @ v_BHLd) / pairs_BHLL.sum(-1, keepdim=True)
    q, k, v = (F.pad(x, (0, 0, 0, -L % CHUNK)).unflatten(2, (-1, CHUNK)) for x in (q_BHLd, k_BHLd, v_BHLd))
    sums_BHndd, keys_BHn1d = k.mT @ v, k.sum(3, keepdim=True)
    # Of the chunks before each.
    sums_BHndd, keys_BHn1d = (F.pad(x.cumsum(2)[:, :, :-1], (0, 0, 0, 0, 1, 0)) for x in (sums_BHndd, keys_BHn1d))
    pairs_BHncc = (q @ k.mT).tril()
    total = pairs_BHncc.sum(-1, keepdim=True) + (q * keys_BHn1d).sum(-1, keepdim=True)
    mixed = (pairs_BHncc @ v + q @ sums_BHndd) / total.clamp(min=torch.finfo(total.dtype).tiny)  # behind the end: 0
    return mixed.flatten(2, 3)[:, :, :L]


FORMS: dict[str, type[MultiHeadAttention]] = {
    "softmax": MultiHeadAttention,
    "linear": LinearAttention,
    "local": LocalAttention,
}


def causal_attention(cfg: CausalTransformerConfig, *, project: bool = True) -> MultiHeadAttention:
    """Attention of the form that the settings name."""
    D = cfg.embed_dim
    positions = attention_positions(cfg.positions, cfg.heads, D // cfg.heads, longest=cfg.max_length)
    made = FORMS[cfg.attention_form](D, cfg.heads, cfg.attention_dropout, project=project, positions=positions)
    if isinstance(made, LocalAttention):
        made.window = cfg.attention_window
    return made
