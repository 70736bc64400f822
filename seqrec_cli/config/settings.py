"""The base of every configuration record. Types and ranges live in Python, numbers in YAML (`conf/`)."""

import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from seqrec_cli.config import registry
from seqrec_cli.config.errors import SeqrecError

MOST = 2**63 - 1  # of the integers of arrays


class Settings(BaseModel):
    """No unknown key, no silent conversion, no change after validation.

    Fields carry a type, a range and a description, never a default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @field_validator("*", mode="after")
    @classmethod
    def _can_be_counted(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > MOST:
            raise ValueError(f"expected a number below 2^63 = {MOST + 1:,}")
        return value

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """The record of plain values (mappings, lists, text, numbers). Raises pydantic's `ValidationError`.

        They are read as JSON, where strict mode takes a list for a tuple and a mapping for a record.
        """
        return cls.model_validate_json(json.dumps(plain))


class Option(Settings):
    """A record of a group whose options are code: its class is found by the name it holds (`registry.py`).

    Every such class is called `Config` and extends the group's common part.
    """

    group: ClassVar[str]

    @property
    def idle(self) -> dict[str, str]:
        """Settings that another one leaves without a use, by that one: to set them is refused."""
        return {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__name__ == "Config" and "capabilities" in cls.__class_vars__ and "capabilities" not in vars(cls):
            raise TypeError(f"{cls.__module__}.Config says nothing of its capabilities: set `capabilities` in its body")

    @classmethod
    def chosen(cls, value: Any) -> Any:
        """Plain values as a record of the class that they name; anything else as it is, for pydantic to judge."""
        if not isinstance(value, dict):
            return value
        key = registry.GROUPS[cls.group].key
        name = value.get(key)
        if not isinstance(name, str):
            raise _refusal(cls, InitErrorDetails(type="missing", loc=(key,), input=value))
        try:
            option = registry.config_class(cls.group, name)
        except SeqrecError as error:
            why = PydanticCustomError("no_such_option", "{why}", {"why": str(error)})
            raise _refusal(cls, InitErrorDetails(type=why, loc=(key,), input=name)) from error
        return option.from_plain(value)


def _refusal(record: type[Settings], detail: InitErrorDetails) -> ValidationError:
    return ValidationError.from_exception_data(record.__name__, [detail])
