"""The benchmark of the Triton kernels: a line a way, whatever a machine cannot run."""

import json

import pytest
import torch

from scripts import bench_triton


def test_what_runs_here_is_measured_and_the_rest_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    bench_triton.main(["--only", "gru_scan", "--small", "--device", "cpu", "--seconds", "0.01"])
    found = {line["way"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found.keys() == {"torch", "triton"}
    assert found["torch"]["ms"] > 0
    assert found["torch"]["difference"] == 0
    assert found["triton"]["error"] == "needs CUDA and triton"


def test_every_case_runs_without_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)  # which takes long
    found = list(bench_triton.lines(list(bench_triton.CASES), small=True, device=torch.device("cpu"), seconds=0.001))
    failed = [line for line in found if "error" in line and line["way"] in ("torch", "compile")]
    assert failed == []
    assert {line["kernel"] for line in found if "ms" in line} == set(bench_triton.CASES)
    compared = [line["difference"] for line in found if line["way"] == "compile"]
    assert max(compared) < 0.05
    assert len(compared) == 5


def test_unknown_kernels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_triton.main(["--only", "grus"])
    assert "no such kernel: grus; there are corpus_softmax" in capsys.readouterr().err
