"""Settings of BST."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import Capabilities, heads_divide
from seqrec_cli.config.rankers import RankerConfig, mlp_statistics


class Config(RankerConfig):
    """BST's sizes and variants."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=True, recurrent=False, sparse_rows=True, inner_product=False, all_positions=False
    )

    blocks: int = Field(ge=1, le=1000, description="transformer blocks (the paper: 1)")
    heads: int = Field(ge=1, description="attention heads; divides embed_dim (the paper: 8)")
    ffn_dim: int = Field(ge=1, description="inner width of the feed-forward layers")
    block_activation: Literal["leaky_relu", "relu", "gelu"] = Field(
        description="activation of the feed-forward layers (the paper: leaky_relu)"
    )
    norm: Literal["post", "pre"] = Field(description="norm after the residual sum (the paper) or before the layer")
    positions: Literal["index", "time", "none"] = Field(
        description="an event's distance to the candidate: in events, in time (the paper; needs times), or unused"
    )
    time_buckets: int = Field(ge=2, description="buckets of log time, up to ten years (positions=time)")
    read_out: Literal["target", "all"] = Field(
        description="what the MLP reads: the candidate's position, or all max_length + 1 positions (the paper)"
    )

    activation: Literal["leaky_relu", "relu", "dice", "prelu"] = Field(
        description="activation of the MLP (the paper: leaky_relu; torch-rechub's tutorial: relu)"
    )
    batch_norm: bool = Field(description="batch normalisation in front of the MLP's activations (torch-rechub: true)")
    mlp_dropout: float = Field(ge=0, lt=1, description="dropout of the MLP (CPU: steps of 1/256)")

    @property
    def batch_statistics(self) -> dict[str, str]:
        return mlp_statistics(self.activation, self.batch_norm)

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.positions != "time":
            found["time_buckets"] = f"model.positions={self.positions}"
        return found

    @property
    def reads_times(self) -> str:
        timed = self.positions == "time"
        return "model.positions=time reads the times of events (use model.positions=index)" if timed else ""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        heads_divide(self.embed_dim, self.heads)
        return self
