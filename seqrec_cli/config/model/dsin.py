"""Settings of DSIN."""

from typing import Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import Capabilities, heads_divide
from seqrec_cli.config.rankers import InterestConfig


class Config(InterestConfig):
    """DSIN's sizes."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=True, recurrent=True, sparse_rows=True, inner_product=False, all_positions=False
    )  # in one forward pass, sessions would see events after the candidate's

    session_gap: int = Field(ge=1, description="minutes between two events that end a session (the paper: 30)")
    sessions: int = Field(ge=1, description="sessions read, the latest kept (the paper: 5)")
    session_events: int = Field(ge=1, description="events read of a session, the latest kept (the paper: 10)")
    heads: int = Field(ge=1, description="heads of the attention within a session; divides embed_dim (the paper: 8)")
    ffn_dim: int = Field(ge=1, description="inner width of the feed-forward layer after it")
    hidden: int = Field(ge=1, description="width of each direction of the LSTM")

    @property
    def reads_times(self) -> str:
        return "model=dsin cuts sessions by the times of events (use model=din)"

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        heads_divide(self.embed_dim, self.heads)
        return self
