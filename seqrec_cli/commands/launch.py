"""`seqrec train hardware.processes=N`: the processes are started here, on this machine, by torch's elastic agent.

The agent (what `torchrun` is, too) watches them, starts all anew from the last checkpoint where one was lost, and
passes Ctrl-C on to them. The run itself is the first process's (`ranks.py`); its result comes back in a file.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seqrec_cli.commands.ranks import LAUNCHED
from seqrec_cli.commands.sweep_shares import THREADS, visible_gpus
from seqrec_cli.config.compose import PACKAGE
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig, TrainConfig
from seqrec_cli.config.validate import dump
from seqrec_cli.files import write_atomically
from seqrec_cli.machine import cores
from seqrec_cli.processes import started
from seqrec_cli.reporting.run_folder import dated_folder

# The package is found where this process has it, whether installed or beside the working directory.
START = "import sys; sys.path.append(sys.argv.pop(1)); from seqrec_cli.commands.ranks import begin; "
START += "sys.exit(begin(sys.argv[1]))"
PYTHON = [sys.executable]
ON_A_CPU = 2  # processes of `auto` where there is no GPU
HANDLED = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
LOOK_S = 0.2  # between two looks of the agent at its processes
QUIET = "TORCH_CPP_LOG_LEVEL"
SAVING_S = 600  # that processes have to save and exit after Ctrl-C


def processes_to_start(cfg: HardwareConfig) -> int:
    """How many, or 1 where this process is to do the work: alone, or as one of those that torchrun has started.

    Raises SeqrecError where torchrun has started another number, or there are fewer GPUs.
    """
    group, asked, gpus = started(), cfg.processes, visible_gpus() if cfg.device in ("auto", "cuda") else 0
    if group is not None:
        if isinstance(asked, int) and asked not in (1, group.local_count):
            raise SeqrecError(
                f"hardware.processes={asked}: {group.local_count} were started on this machine; leave the setting out, "
                f"or start {asked} (torchrun --nproc-per-node {asked})"
            )
        return 1
    if asked == "auto":
        return gpus or ON_A_CPU
    if gpus and (asked or 1) > gpus:
        raise SeqrecError(
            f"hardware.processes={asked}: a process takes a GPU, and there are {gpus}; lower it to {gpus}"
        )
    return asked or 1


def launch(cfg: TrainConfig, count: int) -> dict[str, Any]:
    """Train in `count` processes: what `train.main` returns. Raises what that raises, in this process."""
    dated = None
    if cfg.run_dir is None and cfg.resume is None:  # named here, so that all that begin anew know it
        seeds = "_seeds" if cfg.trainer.seeds > 1 else ""
        dated = dated_folder(f"{cfg.model.name}_{cfg.dataset.name}{seeds}")
        cfg = cfg.model_copy(update={"run_dir": str(dated)})
    try:
        with tempfile.TemporaryDirectory(prefix="seqrec-processes-") as folder:
            record, end = Path(folder) / "record.json", Path(folder) / "end.json"
            write_atomically(record, json.dumps(dump(cfg)))
            interrupted, problem = _run(cfg.hardware, count, record, end=end)
            found = json.loads(end.read_text(encoding="utf-8")) if end.is_file() else None
    finally:
        if dated is not None:
            with suppress(OSError):  # nothing was written
                dated.rmdir()
    if found is None:
        if interrupted:
            raise KeyboardInterrupt
        raise SeqrecError(problem or "the processes ended without a word")
    if "refused" in found:
        raise SeqrecError(found["refused"])
    if "bug" in found:
        raise RuntimeError(f"{found['bug']} (its traceback is above)")
    return dict(found)


def _run(hardware: HardwareConfig, count: int, record: Path, *, end: Path) -> tuple[bool, str | None]:
    """Whether it was interrupted, and what went wrong, in words."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in list(logging.root.manager.loggerDict):  # each has a level of its own
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said in one line
    restarts = hardware.restarts or 0
    launched = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=restarts,
        monitor_interval=LOOK_S,
    )
    threads = hardware.threads or max(1, int(os.environ.get(THREADS[0], cores())) // count)
    settings = dict.fromkeys(THREADS, str(threads)) | {LAUNCHED: str(end)}
    settings |= {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVING_S)}
    # torch's C++ would list its stack frames where a connection ends; what matters of it is said in a line.
    settings |= {QUIET: os.environ.get(QUIET, "ERROR")}
    with _environment(settings), _handlers():
        try:
            elastic_launch(launched, PYTHON[0])(*PYTHON[1:], "-c", START, str(PACKAGE.parent), str(record))
        except SignalException:
            return True, None
        except ChildFailedError as error:
            first = error.get_first_failure()[1]
            how = f"signal {-first.exitcode}" if first.exitcode < 0 else f"exit code {first.exitcode}"
            return False, (
                f"a process of {count} ended with {how}, {restarts + 1} times in all (hardware.restarts={restarts}); "
                "what was saved is whole: seqrec train resume=RUN_FOLDER goes on"
            )
    return False, None


@contextmanager
def _handlers() -> Iterator[None]:
    """The agent leaves its own signal handlers behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """What the processes find in their environment."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
