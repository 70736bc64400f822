"""Settings of HSTU."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import Capabilities, EncoderConfig, heads_divide


class Config(EncoderConfig):
    """HSTU's sizes and variants."""

    capabilities = Capabilities(
        "encoder",
        causal=True,
        attends=True,
        recurrent=False,
        sparse_rows=True,
        inner_product=True,
        all_positions=False,
        packs=True,
    )

    blocks: int = Field(ge=1, le=1000, description="layers (the paper on ML-1M: 2, and 8 in the large one)")
    heads: int = Field(ge=1, description="attention heads; divides embed_dim (the paper: 1, and 2 in the large one)")
    position_bias: bool = Field(
        description="a learned number for each distance in attention, beside what `positions` adds (relative has it)"
    )
    time_bias: Literal["none", "past", "target"] = Field(
        description="a learned number for the log time since each event: none, as of the latest event (past), or as of "
        "the event to predict (target; then the protocol says that the model saw its time)"
    )
    time_buckets: int = Field(ge=2, description="buckets of log time, up to ten years (time_bias)")

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.time_bias == "none":
            found["time_buckets"] = "model.time_bias=none"
        return found

    @property
    def reads_times(self) -> str:
        none = self.time_bias == "none"
        return "" if none else f"model.time_bias={self.time_bias} reads the times of events (use model.time_bias=none)"

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        heads_divide(self.embed_dim, self.heads, self.positions)
        return self
