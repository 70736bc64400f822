"""Settings of a portfolio: several models are tried, and those that help are mixed."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from seqrec_cli.config.model import COUNTED, AnyModel, ModelConfig
from seqrec_cli.config.registry import config_class, names

Weight = Annotated[float, Field(gt=0)]


class Config(ModelConfig):
    """What is tried, and what was kept of it."""

    capabilities = COUNTED

    candidates: tuple[str, ...] = Field(
        min_length=1, description="models that are tried in this order, each with the settings it comes with"
    )
    requests: int = Field(
        ge=2, description="validation requests, at most, on which the weights of a mixture are sought, half by half"
    )
    members: dict[str, AnyModel] = Field(
        description="those that were kept, with their settings; filled in by training, not to be given"
    )
    weights: dict[str, Weight] = Field(
        description="of each kept model's log-probabilities in the mixture; filled in by training, not to be given"
    )

    @field_validator("candidates")
    @classmethod
    def _are_models_of_the_next_event(cls, candidates: tuple[str, ...]) -> tuple[str, ...]:
        for name in candidates:
            if name not in names("model") or name in ("auto", "ensemble"):
                raise ValueError(f"model.candidates: {name} is no model to try; known: {', '.join(names('model'))}")
            kind = config_class("model", name)
            assert issubclass(kind, ModelConfig)
            if kind.capabilities.family == "ranker" or not kind.capabilities.causal:
                raise ValueError(f"model.candidates: {name} is no causal encoder and nothing that is counted")
        return candidates

    @model_validator(mode="after")
    def _weights_are_the_members(self) -> Self:
        if set(self.members) != set(self.weights):
            raise ValueError("model.weights and model.members are filled in by training; leave both empty")
        return self
