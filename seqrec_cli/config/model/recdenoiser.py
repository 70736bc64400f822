"""Settings of Rec-Denoiser."""

from pydantic import Field

from seqrec_cli.config.model import Capabilities, TransformerConfig


class Config(TransformerConfig):
    """Its masks, and what keeps them sparse and blocks smooth."""

    capabilities = Capabilities(
        "encoder", causal=True, attends=True, recurrent=False, sparse_rows=True, inner_product=True, all_positions=False
    )

    mask_open: float = Field(gt=0, lt=1, description="probability with which an attention is kept, at first")
    sparsity: float = Field(ge=0, description="beta: what each attention that a mask may keep adds to the loss")
    smoothness: float = Field(ge=0, description="gamma: weight of the blocks' squared Jacobians an event")

    @property
    def counts_from_end(self) -> bool:
        return True  # its masks are of places in a window that ends with the row

    @property
    def not_compiled(self) -> str:
        return "takes gradients of gradients, and draws its masks around the forward pass, which are not compiled"

    @property
    def loss_of_its_own(self) -> str:
        return "adds terms of its own to the loss, and estimates its masks' gradients from two passes"
