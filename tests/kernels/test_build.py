"""The cache of compiled sources, and the switch."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqrec_cli import kernels
from seqrec_cli.kernels import build
from seqrec_cli.kernels.dropout.op import SOURCE, dropout

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C compiler here")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small C source, an empty cache folder, and nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build.library.cache_clear()
    path = tmp_path / "twice" / "kernel.c"
    path.parent.mkdir()
    path.write_text("int twice(int x) { return FACTOR * x; }\n", encoding="utf-8")
    yield path
    build.library.cache_clear()


@needs_compiler
def test_a_source_is_compiled_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = build.library(source, "FACTOR", 2), build.library(source, "FACTOR", 3)
    assert isinstance(first, ctypes.CDLL)
    assert isinstance(other, ctypes.CDLL)
    assert (first.twice(21), other.twice(5)) == (42, 15)
    files = list((Path(os.environ["XDG_CACHE_HOME"]) / "seqrec" / "kernels").glob("*.so"))
    assert [file.name.startswith("twice-") for file in files] == [True, True]
    build.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: pytest.fail("compiled again"))
    again = build.library(source, "FACTOR", 2)
    assert again is not None
    assert again.twice(4) == 8


@needs_compiler
def test_an_unusable_cache_folder_is_no_obstacle(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    library = build.library(source, "FACTOR", 2)
    assert library is not None
    assert library.twice(1) == 2


@needs_compiler
def test_a_compiler_that_fails_is_as_none(source: Path) -> None:
    source.write_text("no C\n", encoding="utf-8")
    assert build.library(source, "FACTOR", 2) is None
    assert not list((Path(os.environ["XDG_CACHE_HOME"]) / "seqrec" / "kernels").iterdir())


def test_without_a_compiler_the_reference_runs(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert build.library(source, "FACTOR", 2) is None
    assert not SOURCE.usable(torch.float32)
    assert 0 < (dropout(torch.ones(1_000), 0.5) == 0).sum() < 1_000


@needs_compiler
def test_the_switch_and_what_ran() -> None:
    script = (
        "import torch; from seqrec_cli import kernels; from seqrec_cli.kernels.dropout.op import dropout\n"
        "dropout(torch.ones(9), 0.5); print(*kernels.ran()); kernels.use(False)\n"
        "dropout(torch.ones(9), 0.5); print(*kernels.ran())"
    )

    def ran(switch: str) -> str:
        """With kernels on, and off."""
        command, env = [sys.executable, "-c", script], {**os.environ, "SEQREC_KERNELS": switch}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    assert (ran("1"), ran("0")) == ("dropout\n\n", "\n\n")
    dropout(torch.ones(9), 0.5)
    assert "dropout" in kernels.ran()


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "empty", "zero", "no checksum"])
def test_a_damaged_library_is_compiled_again(source: Path, damage: str) -> None:
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "seqrec" / "kernels"
    (file,) = [build._compiled(str(build.compiler()), source, (*build.FLAGS, "-DFACTOR=2"))]
    whole = file.read_bytes()
    if damage == "no checksum":  # of a version that kept none
        file.with_suffix(".sha256").unlink()
    file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "zero": bytes(len(whole))}.get(damage, b"not it"))
    again = build._compiled(str(build.compiler()), source, (*build.FLAGS, "-DFACTOR=2"))
    assert again == file
    assert ctypes.CDLL(str(again)).twice(4) == 8
    assert len(list(folder.iterdir())) == 2
