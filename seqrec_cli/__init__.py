"""seqrec: train, evaluate and export recommenders on behaviour sequences."""

from typing import Any

__version__ = "0.1.0"


def run(verb: str, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Start what `seqrec VERB OVERRIDES` starts and return its result (for `train`: the content of metrics.json).

    Raises `SeqrecError` (one line: what is wrong and how to mend it) on bad input.
    """
    from seqrec_cli.commands.dispatch import run_verb

    return run_verb(verb, list(overrides))
