"""Settings of the dense all-action loss."""

from pydantic import Field

from seqrec_cli.config.objective import Capabilities, SoftmaxConfig


class Config(SoftmaxConfig):
    """Softmax over all items, several targets a position."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=False, weights=False
    )

    needs_more_targets = "learns from several of the next events"

    horizon: int = Field(ge=1, description="how many of the next events are a position's targets")
    discount: float = Field(
        gt=0, le=1, description="what each further event counts, as a part of the one before it; 1: all alike"
    )
