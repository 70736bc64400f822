"""What benchmarks count by: seconds that pass, or, with SEQREC_BENCH_CLOCK=cpu in the environment, seconds of this
process's work, in all its threads. On a machine that others use the second means something and the first does not.
`peers/peer_timing.py` makes the same choice."""

import os
import time

now = time.process_time if os.environ.get("SEQREC_BENCH_CLOCK") == "cpu" else time.perf_counter
