"""Attention with several heads (Vaswani et al. 2017).

Legend: B rows, L queries, T keys, P packed positions (`kernels/split_heads/packing.py`), C candidates, H heads, D
width, d = D / H; A is B, or 1 where all rows are alike. Masks are True at real keys.
"""

import torch
from torch import Tensor, nn

from seqrec_cli.kernels.dropout.op import dropout
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.kernels.split_heads.op import join_heads, split_heads
from seqrec_cli.kernels.split_heads.packing import Packing
from seqrec_cli.models.layers.positions import RelativeBias, Rotary


def masked_softmax(logits: Tensor, mask: Tensor, dim: int) -> Tensor:
    """The softmax over what the mask shows, and zero elsewhere; all zeros where it shows nothing."""
    low = torch.finfo(logits.dtype).min / 2  # finite: what sees nothing gets no NaN
    return logits.masked_fill(~mask, low).softmax(dim).masked_fill(~mask, 0.0)


class MultiHeadAttention(nn.Module):
    """Attention with learned projections; `project` adds the last one, over the joined heads.

    `positions` tells it how far apart a query and a key stand; without, keys are a set to it.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        drop: float,
        *,
        project: bool = True,
        positions: Rotary | RelativeBias | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.drop = heads, drop
        self.positions = positions
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim) if project else None

    def forward(
        self,
        queries_BLD: Tensor,
        memory_BTD: Tensor,
        *,
        causal: bool = False,
        mask_BT: Tensor | None = None,
        positions_BL: Tensor | None = None,
        bias_BHLT: Tensor | None = None,
    ) -> Tensor:
        """Every query attends to the memory -> [B, L, D]; `positions_BL` are the queries' in it, if not 0, 1, ..."""
        attended = self.attend(
            queries_BLD, memory_BTD, causal=causal, mask_BT=mask_BT, positions_BL=positions_BL, bias_BHLT=bias_BHLT
        )
        return attended if self.out is None else self.out(attended)

    def attend(
        self,
        queries_BLD: Tensor,
        memory_BTD: Tensor,
        *,
        causal: bool = False,
        mask_BT: Tensor | None = None,
        positions_BL: Tensor | None = None,
        packing: Packing | None = None,
        bias_BHLT: Tensor | None = None,
    ) -> Tensor:
        """`forward` before its last projection; `bias_BHLT` is added to the logits.

        With a packing the memory is [P, D], and so are the queries, and what they get, if they are it.
        """
        own = packing if queries_BLD is memory_BTD else None
        q, k, v = self.queries_keys_values(queries_BLD, memory_BTD, positions_BL, packing=packing)
        mixed = self.mix(q, k, v, causal=causal, mask_BT=mask_BT, positions_BL=positions_BL, bias_BHLT=bias_BHLT)
        return join_heads(mixed, own)

    def queries_keys_values(
        self,
        queries_BLD: Tensor,
        memory_BTD: Tensor,
        positions_BL: Tensor | None,
        *,
        packing: Packing | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By heads, turned to their positions where these are rotary."""
        if queries_BLD is memory_BTD:
            q, k, v = split_heads((self.query, self.key_value), memory_BTD, self.heads, 3, packing)
        else:
            k, v = split_heads((self.key_value,), memory_BTD, self.heads, 2, packing)
            (q,) = split_heads((self.query,), queries_BLD, self.heads, 1)
        if isinstance(self.positions, Rotary):
            q, k = self.positions(q, positions_BL), self.positions(k)
        return q, k, v

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
        """The queries' sums of values [B, H, L, d]; other forms of attention have another one."""
        bias = bias_BHLT
        if isinstance(self.positions, RelativeBias):
            by_distance = self.positions(k_BHTd.shape[2], positions_BL)
            bias = by_distance if bias is None else bias + by_distance
        return attention(
            q_BHLd, k_BHTd, v_BHTd, causal=causal, mask_BT=mask_BT, drop=self._weight_drop(), bias_AHLT=bias
        )

    def project_kv(self, memory_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, T, d]: made once, attended to by any number of candidates."""
        k, v = split_heads((self.key_value,), memory_BTD, self.heads, 2)
        return k, v

    def attend_from_candidates(self, candidates_ACD: Tensor, memory: tuple[Tensor, Tensor], mask_BT: Tensor) -> Tensor:
        """Each candidate attends to the memory and to itself, not to other candidates -> [B, C, D], before the last
        projection.

        A is B, or 1 for candidates shared by all rows. Equals `attend` over [memory; candidate], last position.
        """
        own = self.project_kv(candidates_ACD)
        weights = dropout(self.candidate_weights(candidates_ACD, memory, mask_BT, own=own), self._weight_drop())
        return join_heads(weights[..., :-1] @ memory[1] + weights[..., -1:] * own[1])

    def candidate_weights(
        self,
        candidates_ACD: Tensor,
        memory: tuple[Tensor, Tensor],
        mask_BT: Tensor,
        *,
        own: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The weights [B, H, C, T + 1] of candidates, each one's own last; `own` are its keys and values."""
        k_BHTd, _ = memory
        (q_AHCd,) = split_heads((self.query,), candidates_ACD, self.heads, 1)
        q_AHCd = q_AHCd * (k_BHTd.shape[-1] ** -0.5)
        own_k, _ = self.project_kv(candidates_ACD) if own is None else own
        low = torch.finfo(q_AHCd.dtype).min / 2
        seen_BHCT = (q_AHCd @ k_BHTd.transpose(2, 3)).masked_fill(~mask_BT[:, None, None, :], low)
        own_BHC1 = (q_AHCd * own_k).sum(-1, keepdim=True).expand(*seen_BHCT.shape[:3], 1)
        return torch.cat([seen_BHCT, own_BHC1], dim=-1).softmax(-1)

    def _weight_drop(self) -> float:
        return self.drop if self.training else 0.0
