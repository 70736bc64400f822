"""Systems that are not Linux: a run where what only Linux or POSIX has is taken away, and what each workflow of GitHub
Actions is to try on the real ones."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrec_cli.commands import serve_workers
from seqrec_cli.config.errors import SeqrecError

ROOT = Path(__file__).resolve().parents[1]
WITHOUT = '''
import asyncio, builtins, ctypes, importlib.abc, io, os, pathlib, signal, subprocess, sys

class Hidden(importlib.abc.MetaPathFinder):
    """Modules that Python on Windows does not have, and uvloop."""
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "termios", "pwd", "grp", "uvloop"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# Others' ways on other systems are not what is tested.
import filelock, hydra, matplotlib.backends.backend_agg, matplotlib.font_manager, omegaconf, pandas
import pyarrow.csv, pyarrow.parquet, pydantic, rich.console, rich.progress, torch
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())
for module, names in (
    (os, ("fork", "sched_getaffinity", "sysconf", "getuid", "geteuid", "getloadavg", "mkfifo", "uname", "statvfs")),
    (signal, ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "alarm", "setitimer", "pthread_sigmask")),
):
    for name in names:
        delattr(module, name)

def refuse(file):
    if str(file).startswith(("/proc", "/sys")):
        raise FileNotFoundError(2, "No such file or directory", str(file))

opened, linked = io.open, os.readlink
def opens(file, *given, **named):
    refuse(file)
    return opened(file, *given, **named)
def reads(file, *given, **named):
    refuse(file)
    return linked(file, *given, **named)
io.open = builtins.open = opens
os.readlink = reads

class Library(ctypes.CDLL):
    def __init__(self, name, *given, **named):
        if name is None:
            raise TypeError("bad argument type for built-in operation")  # as on Windows
        super().__init__(name, *given, **named)
ctypes.CDLL = Library
sys.platform = "win32"

from seqrec_cli.cli import main
code = main(sys.argv[1:])
from seqrec_cli import kernels
print("ran", *kernels.ran())
sys.exit(code)
'''


def test_a_run_without_posix_and_without_a_compiler(tmp_path: Path) -> None:
    """Trained, measured and written down by torch's operators alone."""
    words = ["train", "model=din", "dataset=synthetic", "dataset.users=60", "trainer.max_epochs=1"]
    words += ["evaluation.baselines=false", f"data_dir={tmp_path}/data", f"run_dir={tmp_path}/run"]
    env = {key: value for key, value in os.environ.items() if key != "CC"} | {"PATH": "", "PYTHONPATH": str(ROOT)}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "DONE").exists()
    assert (tmp_path / "run" / "metrics.json").exists()
    assert done.stdout.splitlines()[-1].split() == ["ran"]  # no kernel
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_several_workers_need_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked:
        workers = 3

    monkeypatch.delattr(serve_workers.signal, "SIGHUP")
    with pytest.raises(SeqrecError, match=r"workers=3: this system has no signals.*use workers=1"):
        serve_workers.supervise(Asked(), None, None, started=lambda: None)  # type: ignore[arg-type]


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return found


def test_the_workflow_tries_every_system_and_python() -> None:
    jobs = workflow("test.yml")["jobs"]
    systems = {"ubuntu-latest", "ubuntu-24.04-arm", "macos-latest", "windows-latest"}
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = metadata["requires-python"].split(",")[0].removeprefix(">=")
    assert set(jobs["test"]["strategy"]["matrix"]["os"]) == systems
    assert set(jobs["test"]["strategy"]["matrix"]["python"]) == {least, "3.12", "3.13"}
    assert set(jobs["wheel"]["strategy"]["matrix"]["os"]) == systems
    steps = "\n".join(str(step.get("run", "")) for step in jobs["wheel"]["steps"])
    assert "--only-binary" in steps  # nothing is compiled to install it
    assert "seqrec train" in steps
    assert jobs["kernels-off"]["env"]["SEQREC_KERNELS"] == "0"
    assert "x86-64-v3" in jobs["avx2"]["env"]["SEQREC_KERNELS_MARCH"]


@pytest.mark.parametrize(
    ("job", "installs", "files"),
    [
        ("spark", '-c constraints.txt -e ".[dev,spark]"', ["tests/data/test_spark_engine.py"]),
        (
            "ray",
            '-c constraints-ray.txt -e ".[ray]" s3fs pytest',
            ["tests/commands/test_sweep_processes.py", "tests/commands/test_sweep_requests.py"],
        ),
    ],
)
def test_what_needs_an_environment_of_its_own_is_tried_by_night(job: str, installs: str, files: list[str]) -> None:
    """Where PySpark, Java or Ray is not there, their tests are skipped: so the job imports them first."""
    steps = [str(step.get("run", "")) for step in workflow("nightly.yml")["jobs"][job]["steps"]]
    install, imported, tests = (step for step in steps if step)
    assert install == f"pip install {installs}"
    assert imported.startswith('python -c "import ')
    assert tests.split()[0] == "pytest"
    assert [word for word in tests.split() if word.startswith("tests/")] == files
    assert all(job in (ROOT / file).read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / ".github" / "workflows").glob("*.yml")))
def test_workflows_are_whole(name: str) -> None:
    for job in workflow(name)["jobs"].values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        for step in job["steps"]:
            assert "uses" not in step or re.search(r"@(v\d|release/v\d)", step["uses"]), step
