"""Several workers on one study, as processes of this machine: watched, and replaced where one dies."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.machine import cores
from seqrec_cli.saying import Say
from seqrec_cli.training.stopping import StopRequest
from seqrec_cli.tuning.study import Study

POLL = 0.2  # seconds between looks at the workers
FINISHED, REFUSED, INTERRUPTED = 0, 2, 130  # their exit codes
IN_VAIN = 3  # workers that die one after another before they begin a trial: another would, too

Start = Callable[[int], "subprocess.Popen[bytes]"]  # a worker by its number, in a session of its own


def work_together(study: Study, count: int, start: Start, *, say: Say) -> bool:
    """Keep so many workers until the study is over; False if it was interrupted.

    Raises SeqrecError where a worker is refused, which says why itself, or where workers die in vain.
    """
    workers = {number: start(number) for number in range(count)}
    begun, in_vain, told, interrupted, refused = study.begun(), 0, False, False, False
    try:
        with StopRequest() as stop:
            while workers:
                if (stop.requested or refused) and not told:
                    told = True
                    for worker in workers.values():
                        worker.send_signal(signal.SIGINT)  # each saves, and ends
                for number, worker in list(workers.items()):
                    code = worker.poll()
                    if code is None:
                        continue
                    del workers[number]
                    interrupted |= code == INTERRUPTED or told
                    refused |= code == REFUSED
                    if code in (FINISHED, REFUSED, INTERRUPTED) or told:
                        continue
                    in_vain = in_vain + 1 if study.begun() == begun else 1
                    begun = study.begun()
                    if in_vain > IN_VAIN:
                        raise SeqrecError(
                            f"{in_vain} workers died one after another, and no trial was begun; see above"
                        )
                    say(f"worker {number} died ({_cause(code)}): another takes its place, and its trial is run again")
                    workers[number] = start(number)
                time.sleep(POLL)
    finally:
        for worker in workers.values():
            worker.terminate()
    if refused:
        raise SeqrecError(f"a worker was refused (see above); trials so far are in {study.folder}")
    return not interrupted


def share_of_cores(workers: int, threads: int | None) -> int:
    """Threads of each worker: of those that were asked for, or of all cores that this process may use."""
    return max((threads or cores()) // workers, 1)


def environment_of(number: int, threads: int, gpus: int) -> dict[str, str]:
    """Of a worker: its cores, and of several GPUs one in turn."""
    found = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if gpus > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        found["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % gpus].strip()
    return found


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
