"""The stand-in for a cold Python (tests/warm.py) is one: what is run, where, with what, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm

pytestmark = pytest.mark.skipif(not warm.POSSIBLE, reason="there is none on this system")


def run(python: list[str], *words: str, cwd: Path, said: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLOUR": "red"}
    return subprocess.run([*python, *words], cwd=cwd, env=environment, input=said, capture_output=True, text=True)


def test_it_has_its_own_words_folder_environment_and_files(python: list[str], tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "def f(): return sys.argv, os.getcwd(), os.environ['COLOUR'], __name__, input(), 'torch' in sys.modules\n"
        "print(*f(), sep='|'); print('aside', file=sys.stderr)"
    )
    done = run(python, "-c", code, "two words", cwd=tmp_path, said="answer\n")
    assert done.stdout == f"['-c', 'two words']|{tmp_path}|red|__main__|answer|True\n"
    assert (done.stderr, done.returncode) == ("aside\n", 0)
    (tmp_path / "own.py").write_text("import sys\nprint(sys.argv[1:], __name__)\nsys.exit(4)")
    done = run(python, "-m", "own", "a=b", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("['a=b'] __main__\n", 4)


@pytest.mark.parametrize(
    ("code", "status", "last"),
    [
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("raise SystemExit('no')", 1, "no"),
        ("raise SystemExit", 0, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import os; os._exit(7)", 7, ""),
    ],
)
def test_it_ends_as_its_command_does(python: list[str], code: str, status: int, last: str, tmp_path: Path) -> None:
    done = run(python, "-c", code, cwd=tmp_path)
    assert done.returncode == status
    assert (done.stderr.splitlines() or [""])[-1] == last


def test_a_refusal_of_the_command_line_has_its_status(python: list[str], tmp_path: Path) -> None:
    cold = [sys.executable]
    for start in (python, cold):
        done = run(start, "-m", "seqrec_cli", "train", "model=sasrek", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("seqrec train: model=sasrek: no such option; did you mean 'sasrec'?")


def test_a_signal_reaches_the_command(python: list[str], tmp_path: Path) -> None:
    code = "import time; print('here', flush=True); time.sleep(60)"
    with subprocess.Popen([*python, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"here\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == -signal.SIGTERM
