"""Cores and GPUs divided between jobs that run at once; the GPUs are pretended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqrec_cli.commands import sweep, sweep_shares
from seqrec_cli.commands.sweep_shares import THREADS, VISIBLE, environment_of, launch_of, visible_gpus
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.reporting.sweep_folder import Launch, Row, SweepFolder, empty_row


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, three GPUs."""
    monkeypatch.setattr(sweep_shares, "cores", lambda: 8)
    monkeypatch.setattr(sweep_shares, "visible_gpus", lambda: 3)
    for name in (*THREADS, VISIBLE):
        monkeypatch.delenv(name, raising=False)


NUMBERS = tuple(range(12))


@pytest.mark.parametrize(
    ("launcher", "settings", "batch", "expected"),
    [
        ("joblib", {"n_jobs": 3}, None, (3, 2)),
        ("joblib", {"n_jobs": -1}, None, (8, 1)),
        ("joblib", {"n_jobs": -3}, None, (6, 1)),
        ("joblib", {"n_jobs": 99}, None, (12, 1)),
        ("joblib", {"n_jobs": 1}, None, (1, None)),
        ("submitit_local", {}, 4, (4, 2)),
        ("submitit_local", {}, None, (12, 1)),
        ("basic", {}, None, (1, None)),
        ("submitit_slurm", {}, None, (None, None)),
    ],
)
def test_cores_are_divided_by_the_jobs_at_once(
    launcher: str, settings: dict, batch: int | None, expected: tuple
) -> None:
    launch = launch_of(launcher, settings, NUMBERS, batch=batch)
    assert (launch.at_once, launch.threads) == expected
    assert launch.gpus == (("0", "1", "2") if (launch.at_once or 1) > 1 else ())


def test_a_person_s_own_choices_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS[0], "5")
    monkeypatch.setenv(VISIBLE, "4, 6")
    launch = launch_of("joblib", {"n_jobs": 2}, NUMBERS, batch=None)
    assert (launch.threads, launch.gpus) == (None, ("4", "6"))
    with pytest.raises(SeqrecError, match=r"n_jobs=two: expected a number of jobs"):
        launch_of("joblib", {"n_jobs": "two"}, NUMBERS, batch=None)


def test_gpus_are_taken_in_turn_and_given_back(tmp_path: Path) -> None:
    launch = Launch(NUMBERS, at_once=3, threads=2, gpus=("4", "6"))

    def job(number: int, gpus: int = 1):
        return environment_of(launch, number, locks=tmp_path, gpus=gpus)

    with job(0) as first:
        with job(1) as second, job(2) as third, job(3) as fourth, job(7) as crowded:
            assert [each[VISIBLE] for each in (first, second, third, fourth)] == ["4", "6", "4", "6"]
            assert crowded[VISIBLE] == "6"  # more jobs than places: by its number
        with job(8) as next_one, job(9, gpus=0) as on_cpu:
            assert next_one[VISIBLE] == "6"  # the one that is free, whatever its number
            assert VISIBLE not in on_cpu
    assert first[THREADS[0]] == "2"


def test_a_job_of_several_processes_has_as_many_gpus(tmp_path: Path) -> None:
    launch = Launch(NUMBERS, at_once=2, threads=2, gpus=("4", "6", "7"))

    def job(number: int, gpus: int):
        return environment_of(launch, number, locks=tmp_path, gpus=gpus)

    with job(0, 2) as pair, job(1, 1) as alone, job(2, 2) as second_pair:
        assert (pair[VISIBLE], alone[VISIBLE]) == ("4,6", "7")
        assert second_pair[VISIBLE] == "4,6"  # all are taken: those that the fewest have
    with job(3, 3) as whole:
        assert whole[VISIBLE] == "4,6,7"
    with (
        pytest.raises(SeqrecError, match=r"hardware.processes=4: each takes a GPU, and there are 3; lower it"),
        job(4, 4),
    ):
        pass


@pytest.mark.parametrize(
    ("visible", "gpus", "found"),
    [
        ("3,5", ("3", "5"), ["3", "5"]),
        ("GPU-a1,GPU-b2", ("GPU-a1", "GPU-b2"), ["GPU-a1", "GPU-b2"]),
        ("", (), ["", ""]),
        ("-1", (), ["-1", "-1"]),
    ],
)
def test_each_job_s_process_sees_one_gpu_of_those_the_user_left_visible(
    visible: str, gpus: tuple[str, ...], found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    launch = launch_of("joblib", {"n_jobs": 2}, NUMBERS, batch=None)
    assert launch.gpus == gpus
    seen = []

    def child(folder: SweepFolder, row: Row, facts: Any, *, environment: dict[str, str]) -> Row:
        seen.append(environment.get(VISIBLE))
        if len(seen) == 1:  # the second starts while the first one runs
            sweep._in_child("train", record, empty_row(1, []), folder=folder, launch=launch)
        return row

    monkeypatch.setattr(sweep, "run_child", child)
    record: Any = SimpleNamespace(hardware=SimpleNamespace(device="auto", processes=1))
    monkeypatch.setattr(sweep, "dump", lambda _: {})
    sweep._in_child("train", record, empty_row(0, []), folder=SweepFolder(tmp_path), launch=launch)
    assert seen == found


def test_gpus_are_counted_without_torch(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert visible_gpus({}, tmp_path) == 2
    assert visible_gpus({}, tmp_path / "none") == 0
    assert visible_gpus({VISIBLE: "3,5,7"}, tmp_path) == 3
    assert visible_gpus({VISIBLE: "-1"}, tmp_path) == 0
