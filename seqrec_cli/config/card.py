"""What the verb `card` may be told."""

from pydantic import Field

from seqrec_cli.config.records import RestoringConfig


class CardConfig(RestoringConfig):
    """The verb `card`."""

    out: str | None = Field(description="folder to write to; null for `card/` in the run's folder")
    picture: bool | None = Field(
        description="draw the model's modules (needs the picture extra and Graphviz's program dot); null: where both "
        "are there"
    )
    depth: int = Field(ge=1, le=9, description="how deep the picture goes into modules of modules")
