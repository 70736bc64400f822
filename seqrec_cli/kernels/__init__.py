"""Operators that torch lacks or is slow at, one folder each, and the switch that turns their C code off (README.md)."""

from seqrec_cli.kernels.registry import ran as ran
from seqrec_cli.kernels.registry import use as use
