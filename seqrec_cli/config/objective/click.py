"""Settings of click prediction."""

from pydantic import Field

from seqrec_cli.config.objective import Capabilities, PrefixConfig


class Config(PrefixConfig):
    """Sigmoid of labelled candidates."""

    capabilities = Capabilities(
        families=frozenset({"encoder", "ranker"}), rows="prefixes", causal=None, sparse_rows=True, weights=True
    )

    positions: bool = Field(
        description="several targets of a user in one row where the model allows it, their common history read once; "
        "false: one row a target"
    )
    smoothing: float = Field(ge=0, lt=1, description="labels 1 and 0 become 1 - smoothing / 2 and smoothing / 2")
    positive_weight: float = Field(gt=0, description="what a positive label counts, beside 1 for a negative one")
