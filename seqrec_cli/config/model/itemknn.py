"""Settings of item-to-item cosine."""

from pydantic import Field

from seqrec_cli.config.model import COUNTED, ModelConfig


class Config(ModelConfig):
    """How likeness is counted, and how a history is asked."""

    capabilities = COUNTED

    neighbours: int = Field(ge=1, description="most alike items kept of each item")
    shrinkage: float = Field(ge=0, description="added to the cosine's denominator, in users: less trust in few")
    counted: int = Field(ge=2, description="latest training events of each user that are paired")
    half_life: float = Field(gt=0, description="events after which an event of the history counts half")
    popularity: float = Field(ge=0, description="weight of the items' shares of events beside the likeness")
