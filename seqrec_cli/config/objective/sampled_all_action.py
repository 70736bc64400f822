"""Settings of PinnerFormer's sampled objective."""

from pydantic import Field

from seqrec_cli.config.objective import Capabilities, CorpusNegativesConfig


class Config(CorpusNegativesConfig):
    """Softmax over a drawn target and negatives."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=True, weights=False
    )

    needs_more_targets = "learns from several of the next events"

    horizon: int = Field(ge=1, description="of how many of the next events a position's target is drawn")
