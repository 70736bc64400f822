"""The stress script meets a real service: reloads without a failure, and slow clients that are turned away."""

import os
from pathlib import Path

import pytest

from scripts import stress_serve
from seqrec_cli.commands import serve
from tests.commands.test_recommend import TINY
from tests.commands.test_serve import started

for package in serve.PACKAGES:
    pytest.importorskip(package, reason="the development extras bring it")


def test_reloads_and_slow_clients_are_counted(
    python: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import seqrec_cli

    seqrec_cli.run("train", [*TINY, f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}"])
    ckpt = tmp_path / "run" / "best.pt"
    before = ckpt.read_bytes(), os.stat(ckpt).st_mtime_ns
    words = [f"ckpt={tmp_path / 'run'}", "watch_s=0.1", "timeout_s=1"]
    with started(python, tmp_path / "said", *words) as (_, address):
        monkeypatch.setattr("sys.argv", ["x", address, "--reload", str(ckpt), "--times", "2", "--clients", "2"])
        capsys.readouterr()  # the training's
        stress_serve.main()
        told = dict(zip((out := capsys.readouterr().out.split())[::2], out[1::2], strict=True))
        assert (told["reloads"], told["failures"]) == ("2", "0")
        assert int(told["requests"]) > 10
        assert stress_serve.reloads_done(address) == 2
        argv = ["x", address, "--slow", "4", "--seconds", "0.2", "--items", "40"]
        monkeypatch.setattr("sys.argv", argv)
        stress_serve.main()
        rows = capsys.readouterr().out.splitlines()
    assert [row.partition(" clients")[0] for row in rows if "p99_ms" in row] == ["without", "with 4"] * 2
    assert all(f" 200 {row.split()[-1]}" in row for row in rows if "p99_ms" in row)  # no other status
    assert "408" in rows[-1]  # who was in the middle of a body
    assert ckpt.read_bytes() == before[0]
    assert os.stat(ckpt).st_mtime_ns > before[1]  # another file
