"""Settings of an ensemble."""

from typing import Self

from pydantic import Field, model_validator

from seqrec_cli.config.model import AnyModel, Capabilities, ModelConfig


class Config(ModelConfig):
    """The members, each with all its own settings."""

    capabilities = Capabilities(
        family="encoder",
        causal=True,
        attends=False,
        recurrent=True,
        sparse_rows=False,
        inner_product=True,
        all_positions=False,
    )

    members: dict[str, AnyModel] = Field(
        min_length=1, description="causal encoders by any name, each with the settings of its own model"
    )

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        for key, member in self.members.items():
            where, can = f"model.members.{key}", member.capabilities
            if member.name == self.name or not can.inner_product or not can.causal:
                raise ValueError(f"{where}.name={member.name} is no causal encoder, which an ensemble is made of")
            if member.max_length != self.max_length:
                raise ValueError(f"{where}.max_length={member.max_length} is not model.max_length={self.max_length}")
        if not any(member.capabilities.family == "encoder" for member in self.members.values()):
            raise ValueError("model.members: every one is fitted in closed form and none learns; add an encoder")
        return self
