"""The Python face of the command line: what `import seqrec_cli` offers, in frames of pandas."""

from seqrec_cli.commands.dispatch import share_cores

share_cores()  # before a file of this folder imports torch
