"""What the manifest tells of machine and code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import seqrec_cli
from seqrec_cli.reporting.environment import environment, git_state, peak_memory, seconds_since_start

CPU = torch.device("cpu")


def git(folder: Path, *command: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", "-C", str(folder), *identity, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    try:
        git(tmp_path, "init")
    except OSError:
        pytest.skip("no git here")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_environment_is_json_with_the_facts():
    facts = json.loads(json.dumps(environment(CPU), allow_nan=False))
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["seqrec"] == seqrec_cli.__version__
    assert facts["versions"]["python"] == sys.version.split()[0]
    assert facts["hardware"]["threads"] == torch.get_num_threads()
    assert facts["hardware"]["cores"] >= 1
    assert facts["hardware"]["cpu"]
    assert facts["hardware"]["gpu"] is None


def test_commit_and_dirty_flag(checkout):
    package = checkout / "package"
    head = git(checkout, "rev-parse", "HEAD")
    assert git_state(package, checkout) == {"of": "seqrec", "commit": head, "dirty": False}
    (package / "__init__.py").write_text("changed = True\n")
    assert git_state(package, checkout) == {"of": "seqrec", "commit": head, "dirty": True}


def test_a_package_installed_inside_a_checkout_is_not_taken_for_its_code(checkout):
    (checkout / ".gitignore").write_text(".venv\n")
    git(checkout, "add", ".gitignore")
    git(checkout, "commit", "-m", "second")
    installed = checkout / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    state = git_state(installed, checkout)
    assert state == {"of": "working directory", "commit": git(checkout, "rev-parse", "HEAD"), "dirty": False}


def test_without_git_or_checkout_there_is_no_commit_and_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path, tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))  # no git program at all
    assert git_state() is None
    assert environment(CPU)["git"] is None


def test_peak_memory_sees_an_allocation():
    code = (
        "from types import SimpleNamespace; from seqrec_cli.reporting.environment import peak_memory as peak;"
        "cpu = SimpleNamespace(type='cpu'); before = peak(cpu)['peak_memory_mb'];"
        "held = bytearray(b'1') * (100 * 2**20); print(peak(cpu)['peak_memory_mb'] - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 90 < float(done.stdout) < 200  # MB, so the unit is right
    assert set(peak_memory(CPU)) == {"peak_memory_mb"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_seconds_since_start_counts_the_process():
    code = (
        "import time; t = time.time(); time.sleep(0.3);"
        "from seqrec_cli.reporting.environment import seconds_since_start as s; print(s(), time.time() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    since_start, slept = map(float, done.stdout.split())
    assert since_start >= slept - 0.02  # the kernel counts in hundredths
    own = seconds_since_start()
    assert own is not None
    assert own > 0


def test_where_the_system_tells_no_peak_there_is_none(monkeypatch):
    """Windows: neither /proc nor the module `resource`."""

    def absent(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", absent)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(CPU) == {}
    assert seconds_since_start() is None
