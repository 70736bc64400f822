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


def test_jobs_that_it_starts_can_be_stand_ins_too(python: list[str], tmp_path: Path) -> None:
    code = "import multiprocessing.spawn as m, os, sys; print(sys.executable, os.fsdecode(m.get_executable()))"
    for given, started in (({}, sys.executable), ({warm.OF_JOBS: "/some/program"}, "/some/program")):
        done = subprocess.run([*python, "-c", code], env={**os.environ, **given}, capture_output=True, text=True)
        assert done.stdout.split() == [started, sys.executable]  # multiprocessing hands its processes more files


def test_it_composes_what_is_kept_and_lays_pictures_out_alone(python: list[str], tmp_path: Path) -> None:
    code = (
        "from matplotlib.backends.backend_agg import FigureCanvasAgg as Agg\n"
        "from matplotlib.figure import Figure\nfrom hydra._internal import config_loader_impl as loader\n"
        "for name in ('.curves.png.1', 'mine.png'): Agg(Figure(figsize=(2, 2))).print_png(name)\n"
        "print(loader.create_defaults_list.__module__)"
    )
    assert run(python, "-c", code, cwd=tmp_path).stdout == "tests.composing\n"
    blank, painted = ((tmp_path / name).read_bytes() for name in (".curves.png.1", "mine.png"))
    assert blank.startswith(b"\x89PNG")
    assert len(blank) < len(painted)
