"""Several encoders as one: each learns by itself, and their scores are averaged.

The mean of inner products is one inner product of joined vectors, so an ensemble is evaluated, served and exported like
any encoder. For members trained by a softmax over the corpus it ranks by the product of their probabilities (their
geometric mean, a product of experts: Hinton 2002), because a member's log-normaliser is the same for all items.

Legend: B rows, L history events, N targets, M members, D joined width, V items.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from seqrec_cli.config.schema import ModelConfig
from seqrec_cli.config.slots import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.build import module_of
from seqrec_cli.models.contract import Recommender, SequenceEncoder


class Config(ModelConfig):
    """The members, each with all its own settings."""

    family: ClassVar[Literal["encoder", "ranker", "closed_form"]] = "encoder"

    members: dict[str, dict[str, Any]] = Field(
        min_length=1, description="causal encoders by any name, each with the settings of its own model"
    )

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        learns = False
        for key, settings in self.members.items():
            where, name = f"model.members.{key}", settings.get("name")
            if not isinstance(name, str):
                raise ValueError(f"{where}.name is missing: name a model")
            kind = config_class("model", name)
            assert issubclass(kind, ModelConfig)
            if name == self.name or not kind.inner_product or not kind.causal:
                raise ValueError(f"{where}.name={name} is no causal encoder, which an ensemble is made of")
            try:
                member = kind(**settings)
            except ValidationError as error:
                first = error.errors()[0]
                at = ".".join(str(part) for part in first["loc"])
                raise ValueError(f"{where}{at and '.'}{at}: {first['msg']}") from error
            if member.max_length != self.max_length:
                raise ValueError(f"{where}.max_length={member.max_length} is not model.max_length={self.max_length}")
            learns |= kind.family == "encoder"
        if not learns:
            raise ValueError("model.members: every one counts and none learns; add an encoder")
        return self


class Model(SequenceEncoder):
    """The members' vectors side by side."""

    def __init__(self, cfg: Config, catalog: Catalog) -> None:
        super().__init__(catalog)
        members = {}
        for key, settings in cfg.members.items():
            module = module_of(settings["name"])
            members[key] = module.Model(module.Config(**settings), catalog)
        self.members = nn.ModuleDict(members)
        self.sees_target_time = any(member.sees_target_time for member in members.values())

    def trainable_models(self) -> tuple[Recommender, ...]:
        return tuple(trainable for member in self._members() for trainable in member.trainable_models())

    def fit_closed_form(self, histories: Iterable[Tensor]) -> None:
        kept = list(histories)
        for member in self._members():
            member.fit_closed_form(kept)

    def closed_form_bytes(self) -> int:
        return max(member.closed_form_bytes() for member in self._members())

    def _members(self) -> tuple[SequenceEncoder, ...]:
        return tuple(self.members.values())  # type: ignore[arg-type]

    def encode(self, batch: Batch) -> Tensor:
        return self._queries([member.encode(batch) for member in self._members()])

    def encode_targets(self, batch: Batch) -> Tensor:
        return self._queries([member.encode_targets(batch) for member in self._members()])

    def last(self, batch: Batch) -> Tensor:
        return self._queries([member.last(batch) for member in self._members()])

    def _queries(self, each: list[Tensor]) -> Tensor:
        return torch.cat([states.float() for states in each], dim=-1) / len(each)

    def item_table(self) -> Tensor:
        return torch.cat([member.item_table() for member in self._members()], dim=-1)

    def item_vectors(self, items: Tensor) -> Tensor:
        return torch.cat([member.item_vectors(items) for member in self._members()], dim=-1)

    def item_bias(self) -> Tensor | None:
        total_V: Tensor | None = None
        for member in self._members():
            bias_V = member.item_bias()
            if bias_V is not None:
                total_V = bias_V if total_V is None else total_V + bias_V
        return None if total_V is None else total_V / len(self.members)
