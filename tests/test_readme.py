"""The README stays true: its commands are run, in order, in an empty folder.

The first two blocks install, run and test; `.ci/run` takes those from the README itself. Blocks marked `network`
need a download; their commands are composed and checked, not started.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```bash([^\n]*)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
LOCAL = [text for kind, text in BLOCKS if kind == ""]
NETWORK = [text for kind, text in BLOCKS if kind == " network"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_ci_runs_the_first_two_blocks() -> None:
    install_and_run, install_and_test = LOCAL[:2]
    assert install_and_run.strip().endswith("seqrec train")
    assert install_and_test.strip().split("&& ")[-1].startswith("pytest")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    awk = subprocess.run(
        ["awk", "/^```bash$/ {n++; inside = (n == 1); next} /^```$/ {inside = 0} inside", str(ROOT / "README.md")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert awk.stdout == install_and_run


@pytest.mark.parametrize("number", range(2, len(LOCAL)))
def test_block_runs(workplace: Path, number: int) -> None:
    """Blocks build on one another (a run, then its evaluation), so they share a folder and run in order."""
    commands = workplace / "bin"
    commands.mkdir(exist_ok=True)
    for name, start in (("seqrec", "-m seqrec_cli"), ("python", "")):
        wrapper = commands / name
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {start} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", LOCAL[number]],
        cwd=workplace,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


def test_network_commands_are_well_formed() -> None:
    lines = [line.split("#")[0].strip() for text in NETWORK for line in text.splitlines()]
    assert lines
    for line in filter(None, lines):
        program, verb, *overrides = shlex.split(line)
        assert program == "seqrec"
        assert validate(verb, compose(verb, overrides)) is not None
