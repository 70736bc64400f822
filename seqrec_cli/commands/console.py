"""Plain lines for a person, on standard output."""

from seqrec_cli.reporting.lines import Lines


def say(line: str) -> None:
    """One line, never wrapped: scripts read it too."""
    Lines(highlight=False, soft_wrap=True, markup=False).print(line)
