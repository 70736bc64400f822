"""Rec-Denoiser: SASRec with a learned binary mask in the attention of each layer (Chen et al. 2022, arXiv 2212.04120).

    attention:  (softmax(Q K' / sqrt(d)) * Z) V,   Z_uv ~ Bernoulli(g(Phi_uv)),   g the logistic function
    loss:       L + beta sum over layers and pairs of g(Phi_uv) + gamma sum over layers of |J|^2

Z is [M, M], the same for all rows and heads; u and v count from a window's end, as left padding has it. The gradient of
Phi is the paper's, augment-REINFORCE-merge (Yin & Zhou 2019), from two forward passes with the same U ~ Uniform(0, 1):

    (L(Z = 1[U > g(-Phi)]) - L(Z = 1[U < g(Phi)])) (U - 1/2) + beta g'(Phi)

All other weights learn from the second pass. In evaluation Z is its expectation g(Phi), and 0 where that is at most
1/2: what is probably noise is dropped for good. J is the Jacobian of a block, its norm estimated with one random
projection a step (Hutchinson); beta is `sparsity`, gamma `smoothness`.

Deviations. The blocks are those of model=sasrec norm=pre, and any objective trains them (the paper: SASRec's as
published, with binary cross-entropy). Both passes drop out the same elements, so that their losses differ by the masks
alone. Pairs that no causal query sees are not counted in the second term. |J|^2 is that of a block without dropout, and
an event's mean, as L is a target's. U and the projections are drawn from the seed that a step sets
(`shared_steps.seed_step`), so that micro-batches have the same; of several processes each has its own, which is an
estimate without bias too. The start of Phi is a setting (`mask_open`).

Legend: B rows, L history events, M max_length, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqrec_cli.config.model.recdenoiser import Config
from seqrec_cli.data.batch import Batch, to_device
from seqrec_cli.data.devices import forked_random
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.denoising import MaskedBlock, MaskLogits, mask_of_rows, squared_jacobian
from seqrec_cli.models.layers.positions import attention_positions


class Model(ItemEncoder):
    """Causal transformer with masks."""

    def add_layers(self, cfg: Config) -> None:  # type: ignore[override]
        self.sparsity, self.smoothness = cfg.sparsity, cfg.smoothness
        self.blocks = nn.ModuleList(
            MaskedBlock(
                cfg.embed_dim,
                cfg.heads,
                cfg.ffn_dim,
                drop=cfg.dropout,
                attention_drop=cfg.attention_dropout,
                positions=attention_positions(
                    cfg.positions, cfg.heads, cfg.embed_dim // cfg.heads, longest=cfg.max_length
                ),
            )
            for _ in range(cfg.blocks)
        )
        self.masks = nn.ModuleList(MaskLogits(cfg.max_length, cfg.mask_open) for _ in range(cfg.blocks))
        self.norm = nn.LayerNorm(cfg.embed_dim)
        self._drawn: list[Tensor] | None = None  # the step's masks, within `estimated_loss`
        self._directions: list[Tensor] = []  # in which a forward pass is to measure Jacobians
        self._jacobian: Tensor | None = None

    def forward_layers(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        masks, jacobians = self._masks(), []
        for nth, (block, mask_MM) in enumerate(zip(self.blocks, masks, strict=True)):
            assert isinstance(block, MaskedBlock)
            mask_BLL = mask_of_rows(mask_MM, batch.lengths_B, x_BLD.shape[1])
            if self._directions:
                real_BL, direction_MD = batch.mask_BL, self._directions[nth]
                jacobians.append(squared_jacobian(block, x_BLD, mask_BLL, real_BL=real_BL, direction_MD=direction_MD))
            x_BLD = block(x_BLD, mask_BLL)
        self._jacobian = torch.stack(jacobians).sum() if jacobians else None
        return x_BLD

    def forward_layers_last(self, x_BLD: Tensor, batch: Batch) -> Tensor:
        ends_B = batch.lengths_B.clamp(min=1) - 1
        if self._directions:  # whose rows have one target, and the same Jacobians
            return self.forward_layers(x_BLD, batch)[torch.arange(x_BLD.shape[0], device=x_BLD.device), ends_B]
        *lower, top = self.blocks
        *masks, of_top_MM = (mask_of_rows(mask_MM, batch.lengths_B, x_BLD.shape[1]) for mask_MM in self._masks())
        for block, mask_BLL in zip(lower, masks, strict=True):
            x_BLD = block(x_BLD, mask_BLL)
        assert isinstance(top, MaskedBlock)
        return top.forward_last(x_BLD, of_top_MM, ends_B)

    def _masks(self) -> list[Tensor]:
        """Of each layer, [M, M]."""
        if self._drawn is not None:
            return self._drawn
        masks = [mask for mask in self.masks if isinstance(mask, MaskLogits)]
        if not self.training:
            return [mask.expected() for mask in masks]
        return [torch.bernoulli(mask.square.detach().sigmoid()) for mask in masks]

    def estimated_loss(self, loss: Callable[[], Tensor]) -> Tensor:
        if not self.training:
            return loss()
        logits = [mask.square for mask in self.masks if isinstance(mask, MaskLogits)]
        uniform, directions = self._draws(logits[0].device)
        try:
            with forked_random(logits[0].device):
                # With gradients, for a softmax in chunks makes them; they end here.
                self._drawn = [(u > (-phi).sigmoid()).float() for u, phi in zip(uniform, logits, strict=True)]
                opposite = loss().detach()
            self._drawn = [(u < phi.sigmoid()).float() for u, phi in zip(uniform, logits, strict=True)]
            self._directions = directions
            own = loss()
        finally:
            self._drawn, self._directions = None, []
        away = opposite - own.detach()
        learned = torch.stack([((u - 0.5) * phi).sum() for u, phi in zip(uniform, logits, strict=True)]).sum()
        return own + away * (learned - learned.detach())  # of the second term the gradient alone

    def _draws(self, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
        """Of a step: U [M, M] for each layer's mask, and a direction [M, D] for each block's Jacobian."""
        generator = torch.Generator().manual_seed(torch.initial_seed())
        M, D, layers = self.max_length, self.items.embedding_dim, range(len(self.blocks))
        uniform = [to_device(torch.rand(M, M, generator=generator), device) for _ in layers]
        if not self.smoothness:
            return uniform, []
        return uniform, [to_device(torch.randn(M, D, generator=generator), device) for _ in layers]

    def auxiliary_loss(self) -> Tensor | None:
        jacobian, self._jacobian = self._jacobian, None
        return None if jacobian is None else self.smoothness * jacobian

    def auxiliary_count(self, batch: Batch) -> int:
        lengths_B = batch.lengths_B if batch.host_lengths_B is None else batch.host_lengths_B
        return int(lengths_B.sum())

    def penalty(self, batch: Batch) -> Tensor | None:
        if not self.training or not self.sparsity:
            return None
        return self.sparsity * torch.stack([mask.open() for mask in self.masks if isinstance(mask, MaskLogits)]).sum()
