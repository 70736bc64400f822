"""The machine's cores and GPUs, divided between the jobs of a sweep that run at once."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.machine import cores
from seqrec_cli.reporting.sweep_folder import Launch

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus(environment: Mapping[str, str] = os.environ, devices: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """How many GPUs a job could have, told without torch."""
    if VISIBLE in environment:
        return len(_named(environment))
    try:
        return len(list(devices.iterdir()))
    except OSError:
        return 0


def _named(environment: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in environment[VISIBLE].split(",") if name.strip() not in ("", "-1")]


def launch_of(
    launcher: str, settings: Mapping[str, Any], numbers: tuple[int, ...] | None, *, batch: int | None
) -> Launch:
    """What each job may use: where several run at once on this machine, its cores and GPUs are divided between them.

    `settings` are the launcher's, `batch` the sweeper's `max_batch_size`. On other machines the scheduler divides.
    """
    at_once = 1
    jobs = math.inf if numbers is None else max(len(numbers), 1)
    if launcher == "joblib":
        asked = settings["n_jobs"]
        if not isinstance(asked, int) or asked == 0:
            raise SeqrecError(f"hydra.launcher.n_jobs={asked}: expected a number of jobs, or -1 for one a core")
        at_once = int(min(asked if asked > 0 else max(cores() + 1 + asked, 1), jobs))
    elif launcher == "submitit_local":  # it starts all jobs of a batch at the same instant
        at_once = int(min(batch or jobs, jobs)) if jobs != math.inf else batch or cores()
    elif launcher not in ("basic", "inline"):
        return Launch(numbers)
    divided = at_once > 1 and THREADS[0] not in os.environ  # else it is a person's own choice
    threads = max(cores() // at_once, 1) if divided else None
    gpus = [str(nth) for nth in range(visible_gpus())]
    if VISIBLE in os.environ:
        gpus = _named(os.environ)
    return Launch(numbers, at_once, threads, gpus=tuple(gpus) if at_once > 1 else ())


@contextmanager
def environment_of(launch: Launch, number: int, *, locks: Path, gpus: int) -> Iterator[dict[str, str]]:
    """What a job's process finds in its environment; its GPUs are its own until the block ends.

    A job takes the first GPUs that nobody has; where all are taken, those of its number. A job that names its own
    device, or runs on the processor, takes none (`gpus` is 0). Raises SeqrecError where it wants more than there are.
    """
    found = dict(os.environ)
    if launch.threads is not None:
        found |= dict.fromkeys(THREADS, str(launch.threads))
    with ExitStack() as held:
        if launch.gpus and gpus:
            if gpus > len(launch.gpus):
                raise SeqrecError(
                    f"hardware.processes={gpus}: each takes a GPU, and there are {len(launch.gpus)}; lower it"
                )
            found[VISIBLE] = ",".join(_own_gpus(launch, number, locks, count=gpus, held=held))
        yield found


def _own_gpus(launch: Launch, number: int, locks: Path, *, count: int, held: ExitStack) -> list[str]:
    """`count` different GPUs, those that the fewest have."""
    locks.mkdir(parents=True, exist_ok=True)
    found: list[str] = []
    for sharing in range(math.ceil((launch.at_once or 1) * count / len(launch.gpus))):
        for gpu in launch.gpus:
            if gpu in found or len(found) == count:
                continue
            with suppress(Timeout):
                held.enter_context(FileLock(locks / f".gpu-{gpu}-{sharing}.lock", timeout=0))
                found.append(gpu)
    places = [launch.gpus[(number * count + nth) % len(launch.gpus)] for nth in range(len(launch.gpus))]
    return [*found, *(gpu for gpu in places if gpu not in found)][:count]
