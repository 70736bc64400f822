"""Settings of an ensemble."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from seqrec_cli.config.model import AnyModel, Capabilities, ModelConfig
from seqrec_cli.config.registry import config_class, names


class Config(ModelConfig):
    """The members, each with all its own settings."""

    capabilities = Capabilities(
        "encoder",
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
    trained: Literal["apart", "together"] = Field(
        description="each member by its own loss, their scores averaged; or as towers of one network by one loss, "
        "their scores added with weights that learn: those in closed form are fitted first, the others learn what is "
        "left"
    )

    @property
    def reads_context(self) -> bool:
        return any(member.reads_context for member in self.members.values())

    @property
    def counts_from_end(self) -> bool:
        return any(member.counts_from_end for member in self.members.values())

    @property
    def not_compiled(self) -> str:
        found = ((key, member.not_compiled) for key, member in self.members.items())
        return next((f"with the member {key}, which {why}" for key, why in found if why), "")

    @property
    def looks_ahead(self) -> str:
        found = ((key, member.looks_ahead) for key, member in self.members.items())
        return next((way.replace("model.", f"model.members.{key}.") for key, way in found if way), "")

    @field_validator("members", mode="before")
    @classmethod
    def _are_causal_encoders(cls, members: Any) -> Any:
        """Said first: another model's settings would fit in nothing. A member set to null is left out."""
        if not isinstance(members, dict):
            return members
        members = {key: member for key, member in members.items() if member is not None}
        if not members:
            raise ValueError("model.members: none is left; name one that is not null")
        for key, member in members.items():
            name = member.get("name") if isinstance(member, dict) else None
            if name not in names("model"):
                continue
            kind = config_class("model", name)
            assert issubclass(kind, ModelConfig)
            if kind is cls or not (kind.capabilities.inner_product and kind.capabilities.causal):
                raise ValueError(f"model.members.{key}.name={name} is no causal encoder, which an ensemble is made of")
        return members

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        for key, member in self.members.items():
            if member.max_length > self.max_length:
                raise ValueError(
                    f"model.members.{key}.max_length={member.max_length} is more than "
                    f"model.max_length={self.max_length}, which its rows have; raise that"
                )
        if self.trained == "together":
            for key, member in self.members.items():
                if member.loss_of_its_own:
                    raise ValueError(
                        f"model.trained=together: model.members.{key} {member.loss_of_its_own}; use model.trained=apart"
                    )
        if not any(member.capabilities.family == "encoder" for member in self.members.values()):
            raise ValueError("model.members: every one is fitted in closed form and none learns; add an encoder")
        if self.trained == "together" and len(self.members) < 2:
            raise ValueError("model.trained=together joins two members or more; use model.trained=apart")
        return self
