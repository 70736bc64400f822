"""Settings of multi-step training."""

from pydantic import Field

from seqrec_cli.config.objective import Capabilities, SoftmaxConfig


class Config(SoftmaxConfig):
    """Softmax over all items, the next events each by a head of its own (their number: model.steps_ahead)."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=False, weights=False
    )

    needs_more_targets = "learns from several of the next events"

    discount: float = Field(
        gt=0, le=1, description="what each further event counts, as a part of the one before it; 1: all alike"
    )
