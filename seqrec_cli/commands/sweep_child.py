"""One job of a sweep in a process of its own: reads what to run from the sweep's folder, and writes how it ended.

Whatever ends this process, a signal or a lack of memory, ends nothing else. Its standard input is a lifeline: when that
is closed, whoever waits for this job is gone, and the job saves and exits as after Ctrl-C.
"""

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from filelock import FileLock

from seqrec_cli.commands.dispatch import run_record
from seqrec_cli.commands.sweep_report import report_of
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.files import write_atomically


def main() -> int:
    """Run the job described in the file that is the first argument; its result goes to the second."""
    description, result = (Path(argument) for argument in sys.argv[1:3])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # behind `&` a shell has it ignored
    threading.Thread(target=_hold_lifeline, daemon=True).start()
    with FileLock(description.with_suffix(".lock")):
        found = _run(json.loads(description.read_text(encoding="utf-8")))
        write_atomically(result, json.dumps(found))
    return 0 if found["state"] == "done" else 1


def _hold_lifeline() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock a waiting thread would hold at the interpreter's end
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        record = validate_plain(asked["verb"], asked["record"])
        result = run_record(asked["verb"], record)
    except SeqrecError as error:
        print(f"seqrec {asked['verb']}: {one_line(error)}", file=sys.stderr)
        return {"state": "failed", "error": one_line(error)}
    except KeyboardInterrupt:
        return {"state": "interrupted", "error": "interrupted"}
    except Exception as error:  # a bug: its traceback is in the job's log, and the other jobs go on
        traceback.print_exc()
        return {"state": "failed", "error": f"{type(error).__name__}: {one_line(error)}", "bug": True}
    return report_of(record, result)


if __name__ == "__main__":
    sys.exit(main())
