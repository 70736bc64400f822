"""Plain lines for a person, on standard output."""

from rich.console import Console


def say(line: str) -> None:
    """One line, never wrapped: scripts read it too."""
    Console(highlight=False, soft_wrap=True, markup=False).print(line)
