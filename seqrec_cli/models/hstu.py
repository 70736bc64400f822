"""HSTU: attention without softmax whose output is gated by the query's own event (Zhai et al. 2024, arXiv 2402.17152).

    U, V, Q, K = silu(f1(norm(x)))                        (eq. 1)
    A = silu(Q K' + position bias + time bias) / n        (eq. 2; in the authors' code n = max_length)
    y = x + f2(norm(A V) * U)                             (eq. 3, and the residual of their code)

Norms have no weights and f1 no bias, as in the authors' code; it adds learned positions to the input too
(`positions: absolute`) and scales items by sqrt(D) there. Its biases are shared by the heads, one number a distance
i - j and one a bucket of log time. That time runs from event j to the event that query i is to predict
(`time_bias: target`): whoever answers requests knows the present time, but next-item protocols do not give it. So the
bias that needs it is off by default, and shows in the protocol of every result; `past` runs from event j to event i.
Its published loss: a softmax over 128 uniform negatives of each position, without log-q (`sampled_softmax`).
Deviations: one width for Q, K, U and V, embed_dim over heads; buckets as in `age_buckets`; weights start as
`initialise.py` says; without a temperature (the authors: 0.05) a LayerNorm stands in front of the output.

Legend: B rows, L events, T keys, H heads, D width, d = D / H.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.config.model.hstu import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.kernels.biased_attention.op import biased_attention, usable
from seqrec_cli.kernels.masked_softmax_dropout.reference import additive_mask
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.dropout import Dropout
from seqrec_cli.models.layers.packed_rows import Group, PackedRows
from seqrec_cli.models.layers.positions import RelativeBias, Rotary
from seqrec_cli.models.layers.time_bias import TimeBias, query_times, time_buckets
from seqrec_cli.models.layers.transformer import row_ends

EPS = 1e-6  # of the norms, as in the authors' code: averages over many events are small


def pointwise_attend(
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    *,
    bias_ALT: Tensor | None,
    rows_alike: bool,
    mask_BT: Tensor | None,
) -> Tensor:
    """silu(q k' + bias) v, summed over the keys of `mask_BT`, or up to the query's own position -> [B, H, L, d].

    silu of a very low number is 0, so the mask is part of the bias and costs no pass of its own; one that is the same
    for all rows (A = 1) is part of the product.
    """
    (B, H, L, d), T = q_BHLd.shape, k_BHTd.shape[2]
    if bias_ALT is not None and usable(q_BHLd):
        bias_A1LT, causal = bias_ALT[:, None], mask_BT is None
        return biased_attention(
            q_BHLd, k_BHTd, v_BHTd, bias_A1LT, mask_BT=mask_BT, causal=causal, scale=1.0, pointwise=True
        )
    added = additive_mask(mask_BT is None, mask_BT, q_BHLd, T, None if bias_ALT is None else bias_ALT[:, None])
    if rows_alike or H == 1:
        flat_q, flat_k = q_BHLd.reshape(B * H, L, d), k_BHTd.reshape(B * H, T, d)
        logits = torch.baddbmm(added[:, 0], flat_q, flat_k.transpose(1, 2)).view(B, H, L, T)
    else:
        logits = added + q_BHLd @ k_BHTd.transpose(2, 3)
    return F.silu(logits) @ v_BHTd


class Unit(nn.Module):
    """One layer."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        D = cfg.embed_dim
        self.heads, self.max_length = cfg.heads, cfg.max_length
        self.norm = nn.LayerNorm(D, EPS, elementwise_affine=False)
        self.norm_attended = nn.LayerNorm(D, EPS, elementwise_affine=False)
        self.project = nn.Linear(D, 4 * D, bias=False)  # rows in the order U, Q, K, V
        self.out = nn.Linear(D, D)
        self.drop = Dropout(cfg.dropout)
        self.rotary = Rotary(D // cfg.heads, cfg.max_length) if cfg.positions == "rotary" else None
        has_bias = cfg.position_bias or cfg.positions == "relative"
        self.position_bias = RelativeBias(1, cfg.max_length) if has_bias else None
        self.time_bias = None if cfg.time_bias == "none" else TimeBias(cfg.time_buckets)

    def forward(self, x_BLD: Tensor, buckets_BLT: Tensor | None) -> Tensor:
        u, q, k, v = F.silu(self.project(self.norm(x_BLD))).chunk(4, dim=-1)
        return self._output(x_BLD, u, self._attended(q, k, v, buckets_BLT=buckets_BLT))

    def forward_packed(self, x_PD: Tensor, rows: PackedRows, buckets: Sequence[Tensor | None]) -> Tensor:
        """The layer of rows that are laid end to end, with the buckets [b, l, l] of each of their groups."""
        of_group = iter(buckets)

        def attend(_: Group, *qkv_bLD: Tensor) -> Tensor:
            return self._attended(*qkv_bLD, buckets_BLT=next(of_group))

        u, *qkv = F.silu(self.project(self.norm(x_PD))).chunk(4, dim=-1)
        return self._output(x_PD, u, rows.each(attend, *qkv))

    def forward_last(self, x_BLD: Tensor, lengths_B: Tensor, buckets_B1T: Tensor | None) -> Tensor:
        """The layer's output [B, D] at each row's last event (its first position, if it has none)."""
        rows_B, ends_B, seen_BT = row_ends(x_BLD, lengths_B)
        inner, w_query, w_key = self.norm(x_BLD), *self.project.weight.chunk(2)
        u, q = F.silu(F.linear(inner[rows_B, ends_B, None], w_query)).chunk(2, dim=-1)
        k, v = F.silu(F.linear(inner, w_key)).chunk(2, dim=-1)
        attended_B1D = self._attended(q, k, v, buckets_BLT=buckets_B1T, positions_BL=ends_B[:, None], mask_BT=seen_BT)
        return self._output(x_BLD[rows_B, ends_B], u[:, 0], attended_B1D[:, 0])

    def _attended(
        self,
        q_BLD: Tensor,
        k_BTD: Tensor,
        v_BTD: Tensor,
        *,
        buckets_BLT: Tensor | None,
        positions_BL: Tensor | None = None,
        mask_BT: Tensor | None = None,
    ) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q_BLD, k_BTD, v_BTD / self.max_length))
        if self.rotary is not None:
            q, k = self.rotary(q, positions_BL), self.rotary(k)
        bias = None if self.position_bias is None else self.position_bias(k.shape[2], positions_BL)[:, 0].to(q.dtype)
        if self.time_bias is not None and buckets_BLT is not None:
            time_bias = self.time_bias(buckets_BLT).to(q.dtype)
            bias = time_bias if bias is None else bias + time_bias
        rows_alike = self.time_bias is None and mask_BT is None
        return (
            pointwise_attend(q, k, v, bias_ALT=bias, rows_alike=rows_alike, mask_BT=mask_BT).transpose(1, 2).flatten(2)
        )

    def _output(self, x: Tensor, u: Tensor, attended: Tensor) -> Tensor:
        after: Tensor = x + self.out(self.drop(self.norm_attended(attended) * u))
        return after


class Model(ItemEncoder):
    """A stack of units, and a product with the items."""

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(cfg, catalog)
        self.time_bias, self.time_buckets = cfg.time_bias, cfg.time_buckets
        self.sees_target_time |= cfg.time_bias == "target"

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.scale = cfg.embed_dim**0.5
        self.blocks = nn.ModuleList(Unit(cfg) for _ in range(cfg.blocks))
        # States that are brought to length 1 anyway go there as they are.
        self.norm = nn.LayerNorm(cfg.embed_dim, EPS) if cfg.temperature is None else nn.Identity()

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        buckets_BLT = self._buckets(batch)
        for block in self.blocks:
            x_BLD = block(x_BLD, buckets_BLT)
        return x_BLD

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        *lower, top = self.blocks
        assert isinstance(top, Unit)
        buckets_BLT = self._buckets(batch)
        for block in lower:
            x_BLD = block(x_BLD, buckets_BLT)
        rows_B, ends_B, _ = row_ends(x_BLD, batch.lengths_B)
        return top.forward_last(
            x_BLD, batch.lengths_B, None if buckets_BLT is None else buckets_BLT[rows_B, ends_B, None]
        )

    def forward_packed(self, x_PD: Tensor, batch: Batch, rows: PackedRows) -> Tensor:
        groups = rows.groups
        buckets = [self._buckets(batch.rows(group.first, group.last, group.width)) for group in groups]
        for block in self.blocks:
            assert isinstance(block, Unit)
            x_PD = block.forward_packed(x_PD, rows, buckets)
        return x_PD

    def _buckets(self, batch: Batch) -> Tensor | None:
        if self.time_bias == "none":
            return None
        asked_BL = query_times(batch, self.time_bias == "target")
        assert batch.times_BL is not None
        return time_buckets(asked_BL, batch.times_BL, self.time_buckets)
