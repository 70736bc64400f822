"""Scaled dot-product attention with several heads (Vaswani et al. 2017, eq. 1), on the path that is fast here.

Legend: B rows, L queries, T keys, P packed positions (`parts/packing`), C candidates, H heads, D width, d = D / H; A is
B, or 1 where all rows are alike. Masks are True at real keys.
"""

from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.models.parts import heads_native
from seqrec_cli.models.parts.dropout import dropout, softmax, softmax_in_c
from seqrec_cli.models.parts.packing import Packing
from seqrec_cli.models.parts.positions import RelativeBias, Rotary


def additive_mask(
    causal: bool, mask_BT: Tensor | None, q_BHLd: Tensor, keys: int, bias_AHLT: Tensor | None = None
) -> Tensor:
    """What is added to logits [B, H, L, T]: the bias (0 without) where a query may look, a very low number elsewhere.

    It has one row where all rows are the same, and one query where all queries are.
    The number is finite, so that a row without any real key gets even weights and not NaN.
    """
    low = torch.finfo(q_BHLd.dtype).min / 2
    queries = q_BHLd.shape[2]
    mask = q_BHLd.new_zeros((1, 1, queries if causal else 1, keys))
    if causal:
        mask = mask + q_BHLd.new_full((queries, keys), low).triu(1)
    if bias_AHLT is not None:
        mask = mask + bias_AHLT.to(mask.dtype)
    if mask_BT is not None:
        mask = mask.masked_fill(~mask_BT[:, None, None, :], low)
    return mask


class _Products(torch.autograd.Function):
    """q k' by heads. torch's own gradient of k is made transposed, and then copied."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(q, k)
        return torch.bmm(q, k.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (of_products,), (q, k) = gradients, ctx.saved_tensors
        return torch.bmm(of_products, k), torch.bmm(of_products.transpose(1, 2), q)


def attend(
    q_BHLd: Tensor,
    k_BHTd: Tensor,
    v_BHTd: Tensor,
    causal: bool,
    mask_BT: Tensor | None,
    drop: float,
    bias_AHLT: Tensor | None = None,
) -> Tensor:
    """softmax(q k' / sqrt(d) + bias + mask) v -> [B, H, L, d]; `drop` is the dropout of the weights (0 in evaluation).

    `scaled_dot_product_attention` where it is fast: on accelerators, and on CPUs in fp32 (forward and backward
    13 ms against 39 ms of plain products, B=128 H=2 L=100 d=32, two cores). In bf16 on a CPU its backward pass is
    slow (34 against 5 ms; L=200: 51 against 19), and with dropout or a learned bias it has no fused path there. The
    softmax in C knows the masks by itself (causal, B=128 H=1 L=200 d=64, with dropout: 16 ms, 18 with a mask added).
    """
    on_cpu, T = q_BHLd.device.type == "cpu", k_BHTd.shape[2]
    if not on_cpu or (q_BHLd.dtype == torch.float32 and drop == 0.0 and bias_AHLT is None):
        unmasked = mask_BT is None and bias_AHLT is None
        mask = None if unmasked else additive_mask(causal, mask_BT, q_BHLd, T, bias_AHLT)
        return nn.functional.scaled_dot_product_attention(
            q_BHLd, k_BHTd, v_BHTd, attn_mask=mask, dropout_p=drop, is_causal=causal and unmasked
        )
    (B, H, L, d), in_c = q_BHLd.shape, softmax_in_c(q_BHLd.dtype, q_BHLd.device, T)
    if bias_AHLT is not None:  # differs between heads: added in a pass of its own, not written out for every row
        mask = additive_mask(causal, mask_BT, q_BHLd, T, bias_AHLT)
        logits = torch.add(mask, q_BHLd @ k_BHTd.transpose(2, 3), alpha=d**-0.5)
        return (softmax(logits, drop) if in_c else dropout(logits.softmax(-1), drop, training=True)) @ v_BHTd
    flat_q, flat_k, flat_v = (x.reshape(B * H, -1, d) for x in (q_BHLd, k_BHTd, v_BHTd))
    if in_c:
        weights = softmax(_Products.apply(flat_q, flat_k), drop, mask_BT, causal, d**-0.5)
    else:
        # Broadcast as far as it can be: a mask of keys written out for every query made this product 4 times as slow.
        mask = additive_mask(causal, mask_BT, q_BHLd, T)
        mask = mask.flatten(0, 1) if mask_BT is None else mask.expand(B, H, *mask.shape[2:]).flatten(0, 1)
        logits = torch.baddbmm(mask, flat_q, flat_k.transpose(1, 2), alpha=d**-0.5)
        weights = dropout(logits.softmax(-1), drop, training=True)
    return torch.bmm(weights, flat_v).view(B, H, L, d)


def _joined(x_BHLd: Tensor, packing: Packing | None = None) -> Tensor:
    """The heads side by side, [B, L, D], or with a packing [P, D]."""
    if packing is not None or heads_native.joins_in_c(x_BHLd):
        return heads_native.joined(x_BHLd, packing)
    return x_BHLd.transpose(1, 2).flatten(2)


class MultiHeadAttention(nn.Module):
    """Attention with learned projections; `project` adds the last one, over the joined heads.

    `places` makes it know how far apart a query and a key stand, which are else a set to it.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        drop: float,
        project: bool = True,
        places: Rotary | RelativeBias | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.drop = heads, drop
        self.places = places
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim) if project else nn.Identity()

    def packs(self, x: Tensor) -> bool:
        """Whether `look` can read packed rows like this one's."""
        return heads_native.in_c(self.query, x)

    def _heads_of(
        self, layer: nn.Linear, x_BLD: Tensor, parts: int, packing: Packing | None = None
    ) -> tuple[Tensor, ...]:
        """The layer's output as so many tensors [B, H, L, d]; with a packing x is [P, D]."""
        if packing is not None or heads_native.in_c(layer, x_BLD):
            return heads_native.heads_of((layer,), x_BLD, self.heads, parts, packing)
        B, L, _ = x_BLD.shape
        return tuple(part.view(B, L, self.heads, -1).transpose(1, 2) for part in layer(x_BLD).chunk(parts, dim=-1))

    def _weight_drop(self) -> float:
        return self.drop if self.training else 0.0

    def forward(
        self,
        queries_BLD: Tensor,
        memory_BTD: Tensor,
        causal: bool = False,
        mask_BT: Tensor | None = None,
        places_BL: Tensor | None = None,
    ) -> Tensor:
        """Every query looks at the memory -> [B, L, D]; `places_BL` are the queries' in it, if not 0, 1, ..."""
        projected: Tensor = self.out(self.look(queries_BLD, memory_BTD, causal, mask_BT, places_BL))
        return projected

    def look(
        self,
        queries_BLD: Tensor,
        memory_BTD: Tensor,
        causal: bool = False,
        mask_BT: Tensor | None = None,
        places_BL: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """`forward` before its last projection.

        With a packing (where `packs`) the memory is [P, D], and so are the queries, and what they get, if they are it.
        """
        own, bias = packing if queries_BLD is memory_BTD else None, None
        if queries_BLD is memory_BTD and self.packs(memory_BTD):
            q, k, v = heads_native.heads_of((self.query, self.key_value), memory_BTD, self.heads, 3, packing)
        else:
            k, v = self._heads_of(self.key_value, memory_BTD, 2, packing)
            (q,) = self._heads_of(self.query, queries_BLD, 1, own)
        if isinstance(self.places, Rotary):
            q, k = self.places(q, places_BL), self.places(k)
        elif self.places is not None:
            bias = self.places(k.shape[2], places_BL)
        return _joined(attend(q, k, v, causal, mask_BT, self._weight_drop(), bias), own)

    def remember(self, memory_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, T, d]: made once, read by any number of candidates."""
        k, v = self._heads_of(self.key_value, memory_BTD, 2)
        return k, v

    def read(self, candidates_ACD: Tensor, memory: tuple[Tensor, Tensor], mask_BT: Tensor) -> Tensor:
        """Each candidate looks at the memory and at itself, not at other candidates -> [B, C, D].

        A is B, or 1 for candidates shared by all rows. Equals `forward` over [memory; candidate], last position.
        """
        projected: Tensor = self.out(self.look_back(candidates_ACD, memory, mask_BT))
        return projected

    def look_back(self, candidates_ACD: Tensor, memory: tuple[Tensor, Tensor], mask_BT: Tensor) -> Tensor:
        """`read` before its last projection."""
        own = self.remember(candidates_ACD)
        weights = dropout(self.weigh(candidates_ACD, memory, mask_BT, own), self._weight_drop(), training=True)
        return _joined(weights[..., :-1] @ memory[1] + weights[..., -1:] * own[1])

    def weigh(
        self,
        candidates_ACD: Tensor,
        memory: tuple[Tensor, Tensor],
        mask_BT: Tensor,
        own: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The weights [B, H, C, T + 1] of `read`, the candidate's own last; `own` are its keys and values."""
        k_BHTd, _ = memory
        q_AHCd = self._heads_of(self.query, candidates_ACD, 1)[0] * (k_BHTd.shape[-1] ** -0.5)
        own_k, _ = self.remember(candidates_ACD) if own is None else own
        low = torch.finfo(q_AHCd.dtype).min / 2
        seen_BHCT = (q_AHCd @ k_BHTd.transpose(2, 3)).masked_fill(~mask_BT[:, None, None, :], low)
        own_BHC1 = (q_AHCd * own_k).sum(-1, keepdim=True).expand(*seen_BHCT.shape[:3], 1)
        return torch.cat([seen_BHCT, own_BHC1], dim=-1).softmax(-1)
