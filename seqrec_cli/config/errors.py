"""The one exception a person may see: a line that says what is wrong and how to mend it."""

import difflib
import re
from collections.abc import Iterable


class SeqrecError(Exception):
    """Bad input. The command line prints the message on one line and exits with code 2."""


def of_a_run(error: SeqrecError, setting: str, value: str) -> SeqrecError:
    """A complaint of a file that is read as a run read its own: without advice on settings, which are the run's."""
    said = str(error).replace(f"dataset.archive={value}", f"{setting}={value}")
    problem, *advice = said.split("; ")
    kept = [problem, *(each for each in advice if not re.search(r"\b(dataset|protocol|evaluation)\.", each))]
    form = "; it is read by the run's own settings: bring the file to their form"
    form = "" if re.search("no such file|is an address", problem) else form
    named = "" if f"{setting}={value}" in problem else f"{setting}={value}: "
    return SeqrecError(f"{named}{'; '.join(kept)}{form}")


def first_line(error: BaseException) -> str:
    """Of what another library says; its error's kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, or an empty string when none is close."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
