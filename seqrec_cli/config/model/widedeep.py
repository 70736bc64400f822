"""Settings of Wide & Deep."""

from pydantic import Field

from seqrec_cli.config.model import Capabilities
from seqrec_cli.config.rankers import InterestConfig


class Config(InterestConfig):
    """Wide & Deep's sizes."""

    capabilities = Capabilities(
        "ranker", causal=True, attends=False, recurrent=False, sparse_rows=True, inner_product=False, all_positions=True
    )

    wide_buckets: int = Field(ge=1, description="weights of the wide part, shared by features of one hash")
    wide_events: int = Field(ge=1, description="latest events that are crossed with the candidate")
