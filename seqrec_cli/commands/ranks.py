"""One of several processes that train together: the first leads, the others do their share of what it announces.

The first process alone composes the configuration, reads and writes the run's folder, and speaks. It announces each
training in full, as the plain values of its record, so that no two processes can have different settings. The others
work in `assist` (`training_share.py`), beside the first one's `train.main`.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from seqrec_cli.commands.dispatch import run_record
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate_plain
from seqrec_cli.faults import in_words
from seqrec_cli.files import write_atomically
from seqrec_cli.processes import Processes, ProcessLostError, lost, started
from seqrec_cli.training.process_group import Meeting

LAUNCHED = "SEQREC_RESULT"  # set by `launch.py`: the file in which a group's end is told
LOST = 1  # exit code after which a launcher begins anew

_meeting: Meeting | None = None


@contextlib.contextmanager
def sharing(cfg: TrainConfig) -> Iterator[None]:
    """In the first of several processes: the others do their share of this training, until the block ends."""
    if _meeting is None:
        yield
        return
    _meeting.announce(json.dumps(dump(cfg)))
    with _meeting.group(60 * (cfg.hardware.timeout_minutes or 1)):
        yield


def lead(processes: Processes, work: Callable[[], int]) -> int:
    """The first process: `work` is the whole verb; its exit code."""
    global _meeting
    _meeting = Meeting(processes, _refused())
    try:
        with _ending(_meeting):
            code = work()
            _meeting.announce("")
            _meeting.part()
    finally:
        _meeting = None
    return code


def follow(processes: Processes) -> int:
    """Any other process: a share of every training that the first one announces; the exit code."""
    meeting = Meeting(processes, _refused())
    with _ending(meeting):
        while task := meeting.next_task():
            from seqrec_cli.commands.training_share import assist

            cfg = validate_plain("train", json.loads(task))
            assert isinstance(cfg, TrainConfig)
            assist(cfg, meeting.group)
        meeting.part()
    return 0


@contextlib.contextmanager
def _ending(meeting: Meeting) -> Iterator[None]:
    """All processes end with the first that fails, which alone says why."""
    rank = meeting.processes.rank
    signal.signal(signal.SIGTERM, _asked_to_end)
    try:
        yield
    except ProcessLostError as error:
        meeting.wait_for_the_first_to_fail()
        if meeting.fails():
            print(
                f"seqrec train: process {rank} of {meeting.processes.count} has lost another one ({error})",
                file=sys.stderr,
            )
        _leave(LOST)
    except (SeqrecError, OSError, MemoryError, RuntimeError) as error:
        if not meeting.fails():
            meeting.wait_for_the_first_to_fail()
            _leave(meeting.refused)
        told = str(error) if isinstance(error, SeqrecError) else in_words(error)
        if told is None:
            raise
        raise SeqrecError(told if rank == 0 else f"process {rank}: {told}") from error
    except BaseException:
        meeting.fails()
        raise


def _asked_to_end(number: int, frame: FrameType | None) -> None:
    """As after Ctrl-C; but where another process is lost the launcher ends all, and this one is about to say so."""
    if not lost():
        raise KeyboardInterrupt


def _refused() -> int:
    """To `launch.py`, bad input is an end like any other: it is not to begin anew."""
    return 0 if LAUNCHED in os.environ else 2


def _leave(code: int) -> NoReturn:
    """At once: what waits for other processes in threads is not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def begin(record: str) -> int:
    """A process that `launch.py` has started; the record is a file that the first one reads. How the whole ended is
    told in a file, by the first, or by the one that failed."""
    processes, end = started(), Path(os.environ[LAUNCHED])
    assert processes is not None

    def work() -> int:
        cfg = validate_plain("train", json.loads(Path(record).read_text(encoding="utf-8")))
        result = run_record("train", cfg)
        write_atomically(end, json.dumps(result, default=float))
        return 0

    try:
        return lead(processes, work) if processes.is_first else follow(processes)
    except SeqrecError as error:
        found: dict[str, Any] = {"refused": str(error)}
    except KeyboardInterrupt:
        found = {"interrupted": True}
    except Exception as error:
        traceback.print_exc()
        found = {"bug": f"{type(error).__name__}: {error}"}
    write_atomically(end, json.dumps(found))
    return 0
