"""To whom work tells how far it is: a function of one line."""

from collections.abc import Callable

Say = Callable[[str], None]


def silent(line: str) -> None:
    """Nobody is told."""
