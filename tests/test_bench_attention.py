"""The benchmark of long histories: its arms can run, and cost what their forms are for."""

import pytest

from scripts import bench_attention


def test_a_step_of_every_arm_has_its_memory_work_and_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(bench_attention, "LENGTHS", (64,))
    monkeypatch.setattr(bench_attention, "ROUNDS", 1)
    given = [
        "dataset=synthetic",
        "dataset.users=20",
        "dataset.items=90",
        "dataset.min_events=70",
        "dataset.max_events=80",
    ]
    bench_attention.main([*given, f"data_dir={tmp_path_factory.mktemp('attention')}"])
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(line[0], line[1]) for line in lines] == [("64", name) for name in bench_attention.ARMS]
    work = {name: float(gflop) for _, name, _, gflop, _ in lines}
    assert all(float(megabytes) > 0 for _, _, megabytes, _, _ in lines)
    assert 0 < work["local"] < work["softmax"]  # a window of 32 in a row of 64
