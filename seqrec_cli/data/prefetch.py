"""Prefetching: a thread makes the next batches while a step works on this one."""

import queue
import threading
from collections.abc import Callable, Iterator

import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.devices import ACCELERATORS, count
from seqrec_cli.machine import cores

_END = object()


def prefetched(make: Callable[[], Iterator[Batch]], depth: int = 2) -> Iterator[Batch]:
    """The batches of `make()`, the next `depth` of them made by a thread where a core is left for it.

    An error in the thread is raised here. Where a step uses every core, sharing one with a thread costs more than
    making the batch in turn (DIN on two cores: 1.2 ms of a step of 16, where making the batch takes 0.5).
    """
    return _by_thread(make, depth) if _cores_to_spare() else make()


def _cores_to_spare() -> bool:
    return cores() > torch.get_num_threads() or any(count(kind) for kind in ACCELERATORS)


def _by_thread(make: Callable[[], Iterator[Batch]], depth: int) -> Iterator[Batch]:
    made: queue.Queue[object] = queue.Queue(depth)
    stopped = threading.Event()
    threads = torch.get_num_threads()  # asked here, a thread keeps its number whatever another one sets

    def put(thing: object) -> bool:
        while not stopped.is_set():
            try:
                made.put(thing, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        # With a team of this thread's own there would be more threads than cores, and OpenMP's workers then sleep
        # between any two operations: DIN's steps took 1.6 times as long (two cores).
        torch.set_num_threads(1)
        try:
            for batch in make():
                if not put(batch):
                    return
            put(_END)
        except BaseException as error:  # handed to the consumer, who raises it
            put(error)
        finally:
            torch.set_num_threads(threads)  # what threads to come begin with

    thread = threading.Thread(target=work, daemon=True, name="seqrec-loader")
    thread.start()
    try:
        while (thing := made.get()) is not _END:
            if isinstance(thing, BaseException):
                raise thing
            assert isinstance(thing, Batch)
            yield thing
    finally:
        stopped.set()
        thread.join()
