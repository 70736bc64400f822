"""`Settings`: a frozen, strict record of configuration. Types and ranges live in Python, numbers in YAML."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of every config record: no unknown key, no silent conversion, no change after sealing.

    Fields carry a type, a range and a description, never a default: the numbers are in `conf/`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
