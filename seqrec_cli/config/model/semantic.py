"""Settings of the generative retriever over semantic ids."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import Capabilities, TransformerConfig

HISTORIES, ATTRIBUTES, RANDOM = "histories", "attributes", "random"
SOURCES = (HISTORIES, ATTRIBUTES, RANDOM)  # of item vectors; anything else is a run's folder


class Config(TransformerConfig):
    """How items become codes, and how the next item's are predicted."""

    capabilities = Capabilities(
        "generator",
        causal=True,
        attends=True,
        recurrent=False,
        sparse_rows=False,
        inner_product=False,
        all_positions=False,
    )

    vectors: str = Field(
        min_length=1,
        description="what items are clustered by: histories (who had them), attributes (and dataset.item_vectors), the "
        "item table of a trained run, by its folder, or random: codes that say nothing, to compare with",
    )
    quantiser: Literal["kmeans", "rqvae"] = Field(
        description="residual k-means of these vectors, or of those that an autoencoder learns with its codebooks"
    )
    levels: int = Field(ge=1, le=8, description="codes that say what an item is like; one more tells apart who shares")
    codes: int = Field(ge=2, le=65536, description="codes of each level")
    rqvae_hidden: int = Field(ge=1, description="inner width of the autoencoder's two halves")
    rqvae_latent: int = Field(ge=1, description="width of the vectors between them, which are quantised")
    rqvae_steps: int = Field(ge=1, description="steps of its training")
    commitment: float = Field(ge=0, description="weight of the loss that keeps a vector near its codes")
    decoder_blocks: int = Field(
        ge=1, le=100, description="blocks that read the codes so far, the history's state first"
    )
    normalise: Literal["existing", "all"] = Field(
        description="a code's probability is among those that some item has behind the same codes, or among all"
    )
    beam: int | None = Field(
        ge=1,
        description="recommend and serve follow so many of the best beginnings of tuples, and score all items where "
        "a list would be too short otherwise; null: always all",
    )
    tied: bool = Field(description="codes are predicted against the vectors they are read by, not by others")
    item_bias: bool = Field(description="a learned number a code, added to its score")
    temperature: float | None = Field(
        gt=0, description="a code's score is a cosine divided by it (L2-normalised states and codes); null: product"
    )

    @property
    def of_run(self) -> str | None:
        """The folder of the run whose item table is clustered; None for vectors of another source."""
        return None if self.vectors in SOURCES else self.vectors

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if self.vectors == RANDOM:
            found["quantiser"] = "model.vectors=random"
        if self.vectors == RANDOM or self.quantiser == "kmeans":
            other = "model.vectors=random" if self.vectors == RANDOM else "model.quantiser=kmeans"
            found |= dict.fromkeys(("rqvae_hidden", "rqvae_latent", "rqvae_steps", "commitment"), other)
        return found

    @model_validator(mode="after")
    def _items_have_codes_alone(self) -> Self:
        if self.attributes == "tied":
            raise ValueError(
                "model.attributes=tied: model=semantic scores items by their codes, not by vectors of theirs; use add, "
                "concat or none, or model.vectors=attributes"
            )
        if self.items != "ids":
            raise ValueError(
                f"model.items={self.items}: model=semantic reads items by their codes, not by vectors of theirs; use "
                "model.items=ids, with model.vectors=attributes for codes made of texts"
            )
        return self
