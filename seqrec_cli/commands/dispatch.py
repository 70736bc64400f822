"""From a verb to its command; the command's module, and torch with it, is imported after sealing."""

import importlib
from typing import Any

from seqrec_cli.config.compose import compose
from seqrec_cli.config.seal import seal
from seqrec_cli.config.settings import Settings


def run_verb(verb: str, overrides: list[str]) -> dict[str, Any]:
    """Compose, seal and run: what `seqrec VERB OVERRIDES` does. Raises `SeqrecError` on bad input."""
    return run_sealed(verb, seal(verb, compose(verb, overrides)))


def run_sealed(verb: str, record: Settings) -> dict[str, Any]:
    """Run the verb's command on its sealed record and return the command's result."""
    command = importlib.import_module(f"seqrec_cli.commands.{verb}")
    result: dict[str, Any] = command.main(record)
    return result
