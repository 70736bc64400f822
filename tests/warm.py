"""Commands in processes of their own that need not import torch again: a process with everything imported forks each.

A Python that imports what `seqrec train` needs works for three seconds before the command does; the pages have ninety
commands. `Warm` starts one that has imported it, and writes stand-ins for `python` (`python -m ...`, `python -c ...`).
A stand-in hands its words, folder, environment and open files to that process, which forks: the child runs the module
as `__main__`, from the command line down, and the stand-in ends as the child does. What of a cold start can go wrong is
for test_install.py, api/test_import.py and test_cli.py. In a child compositions are kept (composing.py) and pictures of
runs not painted (painting.py), as in the tests' own process.
"""

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import types
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POSSIBLE = sys.platform == "linux"  # elsewhere torch does not survive a fork
# The stand-in: no import that it can do without, since it starts with every command.
CLIENT = """\
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
asked = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
server.sendall(asked)
told = server.makefile("r")
child = int(told.readline())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(child, number))
status = os.waitstatus_to_exitcode(int(told.readline()))
if status < 0:
    if -status in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
OF_JOBS = (
    "WARM_PYTHON"  # an environment variable: the program that jobs of a sweep and workers of a study are started by
)
SERVER = "from tests import warm; warm.serve()"


class Warm:
    """The process that has imported everything, and stand-ins for Python that use it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()  # of a short name: a socket's has at most 107 bytes
        self.socket = Path(self._folder.name) / "warm"
        self._client = Path(self._folder.name) / "client.py"
        self._client.write_text(CLIENT, encoding="utf-8")
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.socket)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    def python(self, *words: str) -> list[str]:
        """The command line that stands in for `python WORDS`."""
        return [sys.executable, "-I", "-S", str(self._client), str(self.socket), *words]

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)  # not for its output's end: a child that a test has left alone holds that, too
        self._server.stdout.close()
        self._folder.cleanup()


def wrapper(path: Path, command: list[str]) -> None:
    """A program of the shell that runs a command and passes its words on."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)


def serve() -> None:
    """Import, and fork for every stand-in that asks; a child runs what was asked and never comes back here."""
    atexit.register(_leave)  # the first of all, so that it is called last
    from seqrec_cli.commands.dispatch import share_cores
    from seqrec_cli.config.verbs import VERBS

    share_cores()
    import torch

    for verb in VERBS:
        importlib.import_module(f"seqrec_cli.commands.{verb}")
    for name in ("hydra", "matplotlib.figure", "matplotlib.backends.backend_agg", "torch.utils.tensorboard"):
        importlib.import_module(name)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports the compiler's front end
    from tests import composing, painting

    kept, blank = composing.kept(), painting.Unpainted(painted=painting.a_picture())
    kept.__enter__()  # for good
    blank.start()
    gc.freeze()  # a child that ends would search all of this for cycles: a second each
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children are not waited for
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(sys.argv[1])
        door.listen()
        print("ready", flush=True)
        asked = None
        while asked is None:
            ready, _, _ = select.select([door, sys.stdin], [], [])
            if sys.stdin in ready:  # closed: who started this one is gone
                return
            connection, _ = door.accept()
            asked = _forked(connection)
    try:
        _run(*asked)
    except SystemExit as end:
        _status.append(int(bool(end.code)) if end.code is None or isinstance(end.code, str) else int(end.code))
        raise
    except BaseException:
        _status.append(1)
        raise


_status: list[int] = []


def _leave() -> None:
    """A child's end, after all else; to take the interpreter apart would touch, and copy, every page that is shared."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(_status[-1] if _status else 0)


def _forked(connection: socket.socket) -> tuple[list[str], str] | None:
    """In a child: what it is to run, with the stand-in's files as its own. In the process that forks: nothing."""
    if os.fork():
        connection.close()
        return None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, files, _, _ = socket.recv_fds(connection, 8, 3)
    text = connection.makefile("rb").read(int.from_bytes(head, "big"))
    words, folder, environment = json.loads(text)
    child = os.fork()
    if child:  # waits for the child, and tells the stand-in
        with suppress(OSError):  # the stand-in may be gone
            connection.sendall(f"{child}\n".encode())
            _, status = os.waitpid(child, 0)
            connection.sendall(f"{status}\n".encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return words, folder


def _run(words: list[str], folder: str) -> None:
    """As `python -m MODULE ...` or `python -c TEXT ...` does."""
    if backend := os.environ.get("MPLBACKEND"):  # read when matplotlib is imported, which it is
        import matplotlib

        matplotlib.rcParams["backend"] = backend
    if program := os.environ.get(OF_JOBS):
        multiprocessing.set_executable(sys.executable)  # whose processes are handed more files than three
        sys.executable = program
    kind, what, *rest = words
    sys.path[0] = folder if kind == "-m" else ""
    sys.argv = [kind, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)
