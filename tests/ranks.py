"""Functions of a test module, each run by several processes that are one gloo group, met by a file."""

import importlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 120  # for all of a group's work; a rank that waits for another ends then too
START = "from tests.ranks import main; main()"


def run_ranks(python: list[str], cases: str, world: int, folder: Path) -> list[Any]:
    """What `cases` (`module:function`) returns on each rank, called with `folder`.

    Raises AssertionError with what a rank wrote, if one fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD": str(world)}
    meeting = folder / f"meeting-{cases.partition(':')[2]}-{world}"
    started = [
        subprocess.Popen(
            [*python, "-c", START, cases, str(rank), str(meeting), str(folder)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [process.communicate(timeout=SECONDS)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * world, "\n".join(said)
    import torch

    return [torch.load(f"{meeting}.{rank}", weights_only=False) for rank in range(world)]


def main() -> None:
    """One rank."""
    import torch
    import torch.distributed as dist

    from seqrec_cli.processes import Processes, together

    cases, rank, meeting, folder = sys.argv[1:]
    module, _, name = cases.partition(":")
    world = int(os.environ["WORLD"])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=world, timeout=timedelta(seconds=60)
    )
    with together(Processes(int(rank), world, int(rank), world)):
        found = getattr(importlib.import_module(module), name)(Path(folder))
    torch.save(found, f"{meeting}.{rank}")
    dist.destroy_process_group()
