"""Several processes that answer at one socket; the parent starts them anew, and passes signals on."""

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import ServeConfig

Answer = Callable[[ServeConfig, socket.socket, Callable[[], None]], bool]
SHARED = "PROMETHEUS_MULTIPROC_DIR"
AGAIN_S = 1.0  # between the end of a process and the start of the next
GRACE_S = 5.0  # beyond the time that requests have, until a process is killed


def supervise(cfg: ServeConfig, listener: socket.socket, answer: Answer, *, started: Callable[[], None]) -> bool:
    """Until a signal; whether that was an interruption. Raises SeqrecError where the first process cannot begin,
    and on a system without the signals that they are told by."""
    if not hasattr(signal, "SIGHUP"):  # Windows
        raise SeqrecError(f"workers={cfg.workers}: this system has no signals to several processes; use workers=1")
    with tempfile.TemporaryDirectory(prefix="seqrec-metrics-") as folder:
        os.environ[SHARED] = folder
        try:
            return _Workers(cfg, listener, answer).run(started)
        finally:
            del os.environ[SHARED]


class _Workers:
    def __init__(self, cfg: ServeConfig, listener: socket.socket, answer: Answer) -> None:
        self._cfg, self._listener, self._answer = cfg, listener, answer
        self._running: list[BaseProcess] = []
        self._ended_by: int | None = None

    def run(self, started: Callable[[], None]) -> bool:
        before = {each: signal.signal(each, self._end) for each in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._pass_on)
        try:
            self._first()
            for _ in range(self._cfg.workers - 1):
                self._start()
            started()
            while self._ended_by is None:
                self._replace_the_ended()
        finally:
            self._end(signal.SIGTERM)
            deadline = time.monotonic() + self._cfg.timeout_s + GRACE_S
            for process in self._running:
                process.join(max(deadline - time.monotonic(), 0))
                if process.is_alive():
                    process.kill()
                    process.join()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._ended_by == signal.SIGINT

    def _first(self) -> None:
        """One alone, until it answers: what it refuses is said once."""
        with self._start() as ready:
            try:
                refusal = ready.recv()
            except EOFError:
                refusal = "the first process ended before it could answer"
        if refusal is not None and self._ended_by is None:
            raise SeqrecError(refusal)

    def _start(self) -> Connection:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(
            target=_work, args=(self._cfg, self._listener, self._answer), kwargs={"ready": theirs}, daemon=True
        )
        # What is ignored stays so in a process that begins, and SIGHUP would end one that is not ready for it.
        passes_on = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        process.start()
        signal.signal(signal.SIGHUP, passes_on)
        theirs.close()
        self._running.append(process)
        return ours

    def _replace_the_ended(self) -> None:
        wait([process.sentinel for process in self._running], timeout=AGAIN_S)
        for process in [process for process in self._running if not process.is_alive()]:
            from prometheus_client.multiprocess import mark_process_dead

            self._running.remove(process)
            mark_process_dead(process.pid)
            if self._ended_by is None:
                say(f"WARNING: process {process.pid} ended (exit code {process.exitcode}); another takes its place")
                time.sleep(AGAIN_S)
                self._start().close()

    def _end(self, number: int, frame: object = None) -> None:
        if self._ended_by is None:
            self._ended_by = number
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int, frame: object = None) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                if process.pid is not None and process.is_alive():
                    os.kill(process.pid, number)


def _work(cfg: ServeConfig, listener: socket.socket, answer: Answer, *, ready: Connection) -> None:
    """A process: whether it could begin goes through `ready`, None or a refusal in words."""

    threading.Thread(target=_end_with_parent, daemon=True).start()

    def begun() -> None:
        with contextlib.suppress(OSError):  # nobody waits for it
            ready.send(None)
        ready.close()

    try:
        answer(cfg, listener, begun)
    except SeqrecError as error:
        with contextlib.suppress(OSError):
            ready.send(str(error))
        raise SystemExit(2) from None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
