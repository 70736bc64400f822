"""How a language model that names settings is reached. Its key is in the environment, in no configuration."""

import re
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from seqrec_cli.config.settings import Settings

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class AdviserConfig(Settings):
    """The language model that `sampler=adviser` asks for the next settings."""

    endpoint: str | None = Field(
        description="base address of an OpenAI-compatible API, such as http://localhost:11434/v1; docs/adviser.md "
        "tells what is sent"
    )
    model: str | None = Field(description="the model's name, as the endpoint knows it")
    key_variable: str = Field(
        description="the NAME of the environment variable that holds the key, never the key; where it is not set, none "
        "is sent"
    )
    timeout: float = Field(
        gt=0, le=300, description="seconds that it may take to answer; the other workers wait for it"
    )
    longest: float = Field(
        ge=1, description="the longest run that it may ask for, as a multiple of the study's own number of epochs"
    )
    give_up: int = Field(
        ge=1,
        description="trials in a row without a usable answer, after which it is asked no more and TPE goes on alone",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, endpoint: str | None) -> str | None:
        """No part of it may be secret: it is stored with the study. So a wrong one is not repeated in the message."""
        if endpoint is None:
            return None
        try:
            parts = urlsplit(endpoint)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            whole = False
        if not whole or not endpoint.isascii() or any(mark.isspace() for mark in endpoint):
            raise ValueError("no address; give one as https://HOST/v1 or http://localhost:11434/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "it is stored with the study, so it may hold no user, password or query; put the key "
                "into the environment variable that adviser.key_variable names"
            )
        return endpoint.rstrip("/")

    @field_validator("key_variable", mode="before")
    @classmethod
    def _is_no_key(cls, name: Any) -> Any:
        if isinstance(name, str) and not VARIABLE.fullmatch(name):
            raise ValueError(
                "this is the NAME of an environment variable in capitals, such as SEQREC_ADVISER_KEY, "
                "not the key itself"
            )
        return name
