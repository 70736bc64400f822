"""Settings of the transition-graph heuristic."""

from pydantic import Field

from seqrec_cli.config.model import COUNTED, ModelConfig


class Config(ModelConfig):
    """How edges are counted, and how far they are followed."""

    capabilities = COUNTED

    window: int = Field(ge=1, description="events apart that two items may stand to be joined by an edge")
    distance_decay: float = Field(gt=0, le=1, description="what a pair counts less for each event between its items")
    attribute_weight: float = Field(
        ge=0, description="how much more an edge counts between items of the same attribute values; 0: not at all"
    )
    edges: int = Field(ge=1, description="edges kept out of each item, the heaviest")
    sources: int = Field(ge=1, description="latest events of the history that are started from")
    source_decay: float = Field(gt=0, le=1, description="what each earlier one of them counts less")
    hops: int = Field(ge=1, le=4, description="hops over the graph")
    hop_decay: float = Field(gt=0, le=1, description="what each further hop counts less")
    branching: int = Field(ge=1, description="edges out of each item that are followed further, the heaviest")
    popularity: float = Field(ge=0, description="weight of the items' shares of events beside the graph's chances")
