"""A command run to its end: wall and processor seconds, and the most anonymous memory that it held.

Anonymous memory (RssAnon) is what the process has for itself; pages of mapped files, which the system takes back when
it needs them, are no part of it.
"""

import os
import resource
import subprocess
import time
from pathlib import Path

EVERY = 0.1  # seconds between looks


def anonymous(process: int) -> int:
    """Bytes of anonymous memory of a process; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def watched(command: list[str], *, address_space: int | None = None) -> dict[str, float]:
    """Run it; `address_space` bytes are all that it may map (RLIMIT_AS). A failure ends the benchmark."""

    def limit() -> None:
        if address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    began, peak = time.perf_counter(), 0
    child = subprocess.Popen(command, preexec_fn=limit)
    while True:
        process, status, usage = os.wait4(child.pid, os.WNOHANG)
        if process:
            break
        peak = max(peak, anonymous(child.pid))
        time.sleep(EVERY)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return {
        "wall_seconds": time.perf_counter() - began,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_anonymous_mb": peak / 2**20,
    }
