"""How well the layers' output at a known event agrees with that event's own item, put to use inside the model.

"The self-attention layer generated embedding quality of known items in a sequence could be used for adjusting the
weights for the next item prediction or constructing more advanced positional embedding techniques" (Huang, section
4.1, without equations or experiments). Here the quality of event k is a_k = cos(x_k, e_k), between the output x_k of a
block at it and its item's vector e_k, and two uses are tried:

    bias      from the second block on, attention's logits of a query i and a key k are q_i' k_k / sqrt(d) + g_h a_k:
              a position in the stream's sense, by how an event was understood and not by where it stands.
              g_h is learned, a number for each block and head
    pooling   output_i = x_i + g * sum over k <= i of w_ik e_k,  w_ik the softmax over k <= i of s a_k.
              g is learned for each channel, s is one learned number

Each g is 0 at first, so that training starts as without it; s is 1 at first. Nothing is detached: blocks may learn to
make their outputs agree. As a weight of the loss, agreement is `objective.known=agreement`.

Legend: B rows, L events, T keys, H heads, D width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_cli.models.contract import full_precision


def agreement(x_BLD: Tensor, items_BLD: Tensor) -> Tensor:
    """The cosines [B, L] of outputs and item vectors, in fp32; 0 where an item has none."""
    return F.cosine_similarity(x_BLD.float(), items_BLD.float(), dim=-1, eps=1e-6)


class Agreement(nn.Module):
    """Runs a causal model's blocks with it."""

    def __init__(self, kind: Literal["bias", "pooling"], *, blocks: int, heads: int, dim: int) -> None:
        super().__init__()
        self.pools = kind == "pooling"
        if self.pools:
            self.gain_D, self.sharpness = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.ones(()))
        else:
            self.heads, self.gain_N = heads, nn.Parameter(torch.zeros((blocks - 1) * heads))  # of blocks but the first

    def forward(self, blocks: nn.ModuleList, x_BLD: Tensor, items_BLD: Tensor) -> Tensor:
        """The last block's outputs [B, L, D], with what is pooled."""
        x_BLD = self._through(blocks, x_BLD, items_BLD)
        return self._pooled(x_BLD, items_BLD) if self.pools else x_BLD

    def last(self, blocks: nn.ModuleList, x_BLD: Tensor, items_BLD: Tensor, *, lengths_B: Tensor) -> Tensor:
        """The same [B, D] at each row's last event (its first position, if it has none)."""
        if self.pools:
            rows_B = torch.arange(x_BLD.shape[0], device=x_BLD.device)
            pooled_BLD: Tensor = self(blocks, x_BLD, items_BLD)
            return pooled_BLD[rows_B, (lengths_B - 1).clamp(min=0)]
        x_BLD = self._through(blocks[:-1], x_BLD, items_BLD)
        bias_BH1T = self._bias(len(blocks) - 1, x_BLD, items_BLD, queries=1)
        last_BD: Tensor = blocks[-1].forward_last(x_BLD, lengths_B, bias_BH1T)  # type: ignore[operator]
        return last_BD

    def _through(self, blocks: nn.ModuleList, x_BLD: Tensor, items_BLD: Tensor) -> Tensor:
        for nth, block in enumerate(blocks):
            bias_BHLT = self._bias(nth, x_BLD, items_BLD, queries=x_BLD.shape[1])
            x_BLD = block(x_BLD, causal=True, bias_BHLT=bias_BHLT)
        return x_BLD

    def _bias(self, nth: int, x_BLD: Tensor, items_BLD: Tensor, *, queries: int) -> Tensor | None:
        """Of block `nth`, from its input; [B, H, L, T], the same for all queries."""
        if self.pools or nth == 0:
            return None
        with full_precision(x_BLD.device):
            gain_H = self.gain_N.unflatten(0, (-1, self.heads))[nth - 1]
            bias_BHT = gain_H[:, None] * agreement(x_BLD, items_BLD)[:, None]
        bias_BHLT = bias_BHT[:, :, None].expand(-1, -1, queries, -1)
        as_is = x_BLD.device.type == "cpu" and not torch.compiler.is_compiling()
        return bias_BHLT if as_is else bias_BHLT.contiguous()

    def _pooled(self, x_BLD: Tensor, items_BLD: Tensor) -> Tensor:
        with full_precision(x_BLD.device):
            # Cosines are in [-1, 1]: the running sums of exponentials need no maximum taken off.
            weights_BL1 = (self.sharpness * agreement(x_BLD, items_BLD)).exp()[..., None]
            pooled_BLD = (weights_BL1 * items_BLD.float()).cumsum(1) / weights_BL1.cumsum(1)
            return (x_BLD.float() + self.gain_D * pooled_BLD).to(x_BLD.dtype)
