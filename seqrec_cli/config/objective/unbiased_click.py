"""Settings of click prediction from lists that another system ordered."""

from typing import Annotated, ClassVar

from pydantic import Field

from seqrec_cli.config.objective import Capabilities
from seqrec_cli.config.objective.click import Config as ClickConfig

Chance = Annotated[float, Field(gt=0, le=1)]
PROPENSITIES = (
    "chances that the first, second, ... place of a shown list is looked at, the last one for all later places; null: "
    "estimated from items shown at two places"
)
CLIP = "the largest weight of a click, the inverse of its place's chance"


class Config(ClickConfig):
    """Sigmoid of logged candidates, their labels corrected for where they stood."""

    capabilities = Capabilities(
        families=frozenset({"encoder", "ranker"}), rows="prefixes", causal=None, sparse_rows=True, weights=True
    )

    needs_impressions: ClassVar[bool] = True

    propensities: tuple[Chance, ...] | None = Field(min_length=1, description=PROPENSITIES)
    clip: float = Field(ge=1, description=CLIP)
    outcome: str | None = Field(
        description="a run that predicts the items' relevance, for doubly robust labels: it stands in for what clip "
        "cuts off; null: clicks over chances"
    )
