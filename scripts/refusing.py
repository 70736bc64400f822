"""How a script ends where its input is bad: one line and exit code 2, as the command line does."""

import sys
from collections.abc import Callable

from seqrec_cli.config.errors import SeqrecError


def exit_code(main: Callable[[], None]) -> int:
    """0, or 2 where `main` raised SeqrecError, whose line is printed."""
    try:
        main()
    except SeqrecError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
