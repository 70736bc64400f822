"""`python -m seqrec_cli` is `seqrec`."""

import sys

from seqrec_cli.cli import main

sys.exit(main())
