"""The group of processes that torchrun, or `seqrec train hardware.processes=N`, has started: joining it and leaving it.

The launcher says in the environment who is who (RANK, WORLD_SIZE, MASTER_ADDR, ...). A process meets the others at a
small store of keys that the launcher keeps. Through it they hear what to do next, however long that takes, and that
one has failed: whoever fails first tells why, in one line, and the others end with it instead of waiting.
"""

import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.processes import Processes, together

ASK_S, SOON_S = 0.5, 0.05  # between two looks at the store; while others are still to come
MEETING_S = 900  # for all processes to begin, torchrun's own patience
PARTING_S = 5 * ASK_S  # for the first to fail to say so, when its end has broken a connection here
ENDING_S = 60  # at the end, for the others
GONE = (
    "seqrec train: what had started the processes is gone, and they end; what was saved is whole: "
    "seqrec train resume=RUN_FOLDER goes on"
)


class Meeting:
    """The store of keys where the processes meet, and a thread that looks there whether one has failed."""

    def __init__(self, processes: Processes, refused: int) -> None:
        """`refused` is the exit code of a process that ends because another one has failed."""
        self.processes, self.refused, self._tasks = processes, refused, 0
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if name not in os.environ:
                raise SeqrecError(
                    f"WORLD_SIZE={processes.count} says that several processes were started, and {name} is not set; "
                    "start them with torchrun, or unset WORLD_SIZE"
                )
        store, self._ended, self._name = self._connected(), threading.Event(), uuid.uuid4().hex
        watch = threading.Thread(target=self._watch, args=(self._connected(),), daemon=True)
        if not processes.is_first:
            self._name = self._welcomed(store, self._name)
        self._store: Store = PrefixStore(self._name, store)
        watch.start()

    def _connected(self) -> Store:
        try:
            store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=MEETING_S)))
        except (RuntimeError, ValueError, OSError) as error:  # what of them depends on the version of torch
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = " ".join(str(error).split())[:200]
            raise SeqrecError(f"process {self.processes.rank} found nobody at {where} ({reason})") from error
        return store

    def _welcomed(self, store: Store, own: str) -> str:
        """The name of this attempt, from its first process. The launcher's store may outlive attempts, and what stands
        there of an earlier one tells nothing to who asks by a name of its own."""
        store.set(f"hello/{self.processes.rank}", own)
        _wait_for(store, f"welcome/{own}", MEETING_S)
        if not store.check([f"welcome/{own}"]):
            raise SeqrecError(f"process {self.processes.rank} has waited {MEETING_S} s for process 0; was it started?")
        name = str(store.get(f"welcome/{own}").decode())
        store.add(f"{name}/here", 1)
        return name

    def announce(self, task: str) -> None:
        """The first process tells the others what to do next."""
        self._store.set(f"task/{self._tasks}", task)
        self._tasks += 1

    def next_task(self) -> str:
        """What the first process announces next, whenever that is."""
        _wait_for(self._store, f"task/{self._tasks}")
        self._tasks += 1
        return str(self._store.get(f"task/{self._tasks - 1}").decode())

    def part(self) -> None:
        """At the end: wait until all have heard of it, for the store may go with the first."""
        self._store.set(f"parted/{self.processes.rank}", "")
        for rank in range(self.processes.count):
            _wait_for(self._store, f"parted/{rank}", ENDING_S)
        self._ended.set()

    @contextlib.contextmanager
    def group(self, timeout_s: float) -> Iterator[Processes]:
        """The processes together: torch's process group, gloo for the host's memory and nccl for GPUs."""
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backend,
            store=PrefixStore(f"group/{self._tasks}", self._store),
            rank=self.processes.rank,
            world_size=self.processes.count,
            timeout=timedelta(seconds=timeout_s),
        )
        try:
            with together(self.processes):
                yield self.processes
        finally:
            with contextlib.suppress(RuntimeError):  # of connections that others have closed
                dist.destroy_process_group()

    def fails(self) -> bool:
        """Tell the others that this process ends with an error; whether it is the first, who is to say why."""
        try:
            first = bool(self._store.add("failed", 1) == 1)
        except (RuntimeError, ValueError):  # the store has gone with the launcher
            first = self.processes.is_first
        if first:
            self._ended.set()
        return first

    def wait_for_the_first_to_fail(self) -> None:
        """This process's end may only follow from another one's: if that says so in time, this one ends here."""
        time.sleep(PARTING_S)

    def _greet(self, store: Store, greeted: dict[int, bytes]) -> None:
        for rank in range(1, self.processes.count):
            if store.check([f"hello/{rank}"]) and (who := store.get(f"hello/{rank}")) != greeted.get(rank):
                store.set(f"welcome/{who.decode()}", self._name)
                greeted[rank] = who

    def _watch(self, store: Store) -> None:
        """In a thread, with a connection of its own: the first welcomes the others; all end with who fails."""
        greeted: dict[int, bytes] = {}
        missing, gone = self.processes.is_first, False
        while not self._ended.wait(SOON_S if missing else ASK_S):
            try:
                if missing:
                    self._greet(store, greeted)
                    missing = store.add(f"{self._name}/here", 0) < self.processes.count - 1
                failed = store.check([f"{self._name}/failed"])
            except (RuntimeError, ValueError):
                failed = gone = True  # the store has gone with the launcher: nobody is left to work for
            if failed and not self._ended.wait(ASK_S):
                if gone and self.processes.is_first:
                    print(GONE, file=sys.stderr)
                sys.stderr.flush()
                os._exit(self.refused)


def _wait_for(store: Store, key: str, seconds: float = float("inf")) -> None:
    pause, until = 0.01, time.monotonic() + seconds
    while not store.check([key]) and time.monotonic() < until:
        time.sleep(pause)
        pause = min(2 * pause, ASK_S)
