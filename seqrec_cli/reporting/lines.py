"""A console whose reader may leave: `seqrec train | head` goes on training, in silence."""

import os
import sys

from rich.console import Console


class Lines(Console):
    """Rich's own ends the process where nobody reads any more; a run is worth more than its words."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
