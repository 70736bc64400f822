"""What a sweep's jobs ask SLURM and Ray for: a GPU, as many as processes, or none."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqrec_cli import cli
from seqrec_cli.commands import sweep_requests
from seqrec_cli.commands.sweep_requests import (
    Needs,
    asked_of_ray,
    asked_of_slurm,
    needs_of,
    needs_of_jobs,
    needs_on_a_cluster,
)
from seqrec_cli.config.errors import SeqrecError

SLURM = {"gpus_per_node": "auto", "cpus_per_task": "auto", "gres": None, "gpus_per_task": None}


def ray(address: str | None = None, **remote: Any) -> dict[str, Any]:
    remote = {"num_cpus": "auto", "num_gpus": "auto", "max_retries": 0} | remote
    return {"ray": {"init": {"address": address, "include_dashboard": False}, "remote": remote}}


@pytest.mark.parametrize(
    ("device", "processes", "expected"),
    [
        ("auto", None, Needs(1, 1)),
        ("cuda", 1, Needs(1, 1, True)),
        ("cuda", 4, Needs(4, 4, True)),
        (None, None, Needs(1, 1)),  # as the run was trained
        ("cpu", 3, Needs(3, 0)),
        ("mps", None, Needs(1, 0)),
    ],
)
def test_a_process_takes_a_gpu(device: str | None, processes: int | None, expected: Needs) -> None:
    assert needs_of(device, processes) == expected
    assert needs_on_a_cluster(device, processes) == expected


def test_what_counts_this_machine_s_gpus_is_no_request() -> None:
    assert needs_of("cuda:1", None) == Needs(1, 0)  # a job beside others here, which names its own
    with pytest.raises(
        SeqrecError, match=r"hardware.device=cuda:1: a job on a cluster sees its own GPUs alone, from 0"
    ):
        needs_on_a_cluster("cuda:1", None)
    with pytest.raises(SeqrecError, match=r"hardware.processes=auto: .* give their number, hardware.processes=4"):
        needs_on_a_cluster("auto", "auto")


def test_jobs_need_what_their_own_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [["model=sasrec", "trainer.lr=1"], ["model=sasrec", "trainer.lr=2"], ["model=sasrec", "hardware=cpu"]]
    composed = []
    compose = sweep_requests.compose
    monkeypatch.setattr(sweep_requests, "compose", lambda *words: composed.append(words[1]) or compose(*words))
    assert needs_of_jobs("train", jobs, None) == {Needs(1, 1), Needs(1, 0)}
    assert composed == [["model=sasrec"], ["model=sasrec", "hardware=cpu"]]  # not once a learning rate
    assert needs_of_jobs("metrics", [["name=auc"]], None) == {Needs(1, 0)}
    assert needs_of_jobs("train", [["model=none_such"]], None) == {Needs(1, 1)}  # the job says what is wrong


@pytest.mark.parametrize(
    ("given", "needs", "expected"),
    [
        ({}, {Needs(1, 1)}, {"gpus_per_node": 1, "cpus_per_task": 4}),
        ({}, {Needs(1, 0)}, {"gpus_per_node": None, "cpus_per_task": 4}),
        ({}, {Needs(1, 1), Needs(4, 4), Needs(2, 0)}, {"gpus_per_node": 4, "cpus_per_task": 16}),
        ({"gpus_per_node": 8, "cpus_per_task": 2}, {Needs(4, 4)}, {}),
        ({"gpus_per_node": None, "cpus_per_task": 2}, {Needs(1, 1)}, {}),
        ({"gres": "gpu:a100:1"}, {Needs(1, 1)}, {"gpus_per_node": None, "cpus_per_task": 4}),
    ],
)
def test_slurm_is_asked_for_the_largest_job(given: dict, needs: set[Needs], expected: dict) -> None:
    assert asked_of_slurm(SLURM | given, needs) == expected


def test_too_few_gpus_for_a_job_s_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    says = r"hardware.processes=4 takes 4 GPUs a job, and {}; leave that out"
    with pytest.raises(SeqrecError, match=says.format("hydra.launcher.gpus_per_node=1")):
        asked_of_slurm(SLURM | {"gpus_per_node": 1}, {Needs(4, 4)})
    with pytest.raises(SeqrecError, match=says.format("hydra.launcher.ray.remote.num_gpus=0.5")):
        asked_of_ray(ray(num_gpus=0.5), {Needs(4, 4)})
    assert asked_of_ray(ray(num_gpus=0.5, num_cpus=1), {Needs(1, 1)}) == {}  # two jobs may share one
    monkeypatch.setattr(sweep_requests, "visible_gpus", lambda: 2)
    with pytest.raises(
        SeqrecError, match=r"hardware.processes=4: each takes a GPU, and no machine here has more than 2"
    ):
        asked_of_ray(ray(), {Needs(4, 4)})


def test_ray_here_is_asked_for_what_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that asks for more than there is would wait for ever."""
    monkeypatch.setattr(sweep_requests, "cores", lambda: 3)
    monkeypatch.setattr(sweep_requests, "visible_gpus", lambda: 0)
    assert asked_of_ray(ray(), {Needs(1, 1)}) == {"num_gpus": 0, "num_cpus": 1}
    assert asked_of_ray(ray(), {Needs(4, 4, True)}) == {"num_gpus": 0, "num_cpus": 3}  # the job says what it lacks
    monkeypatch.setattr(sweep_requests, "visible_gpus", lambda: 2)
    assert asked_of_ray(ray(), {Needs(2, 2), Needs(1, 1)}) == {"num_gpus": 2, "num_cpus": 2}
    assert asked_of_ray(ray(), {Needs(1, 0)}) == {"num_gpus": 0, "num_cpus": 1}


class FakeRay:
    """A cluster of two machines, the second with GPUs, and one that died."""

    def __init__(self, fails: str | None = None) -> None:
        self.given: dict[str, Any] | None = None
        self.gpus = 2.0
        self.fails = fails

    def is_initialized(self) -> bool:
        return self.given is not None

    def init(self, **given: Any) -> None:
        if self.fails:
            raise ConnectionError(self.fails)
        self.given = given

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "Resources": {"CPU": 8.0}},
            {"Alive": True, "Resources": {"CPU": 8.0, "GPU": self.gpus}},
            {"Alive": False, "Resources": {"GPU": 8.0}},
        ]


def test_a_ray_cluster_is_asked_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", cluster)
    assert asked_of_ray(ray("auto"), {Needs(2, 2)}) == {"num_gpus": 2, "num_cpus": 2}
    assert cluster.given == {"address": "auto", "include_dashboard": False}
    with pytest.raises(SeqrecError, match="no machine here has more than 2"):
        asked_of_ray(ray("auto"), {Needs(4, 4)})
    cluster.gpus = 0  # for now: a cluster may grow
    assert asked_of_ray(ray("auto"), {Needs(1, 1), Needs(2, 2)}) == {"num_gpus": 0, "num_cpus": 2}
    assert asked_of_ray(ray("auto"), {Needs(1, 1, True), Needs(2, 2)}) == {"num_gpus": 1, "num_cpus": 2}
    assert asked_of_ray(ray("auto", num_gpus=4), {Needs(4, 4)}) == {"num_cpus": 4}
    monkeypatch.setitem(sys.modules, "ray", FakeRay("no cluster there\nand more"))
    with pytest.raises(SeqrecError, match=r"^hydra.launcher.ray.init.address=far:6379: no cluster there"):
        asked_of_ray(ray("far:6379"), {Needs(1, 1)})


@pytest.mark.parametrize(
    ("words", "expected", "says"),
    [
        (["trainer.lr=0.1,0.2"], (1, 4), None),
        (["trainer.lr=0.1,0.2", "hardware.device=cpu"], (None, 4), None),
        (["hardware.device=cpu,cuda"], (1, 4), "jobs ask for as much as the largest: gpus_per_node=1 cpus_per_task=4"),
        (["trainer.lr=0.1,0.2", "hydra.launcher.gpus_per_node=2"], (2, 4), None),
    ],
)
def test_slurm_s_launcher_gets_the_numbers(
    words: list[str],
    expected: tuple[int | None, int],
    says: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the command line to what submitit is given; nothing is sent."""
    launcher = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.submitit_launcher").SlurmLauncher
    asked: list[dict[str, Any]] = []

    def launch(self: Any, jobs: Any, initial_job_idx: int) -> list[Any]:
        asked.append(self.params)
        return [SimpleNamespace(return_value=None) for _ in jobs]

    monkeypatch.setattr(launcher, "launch", launch)
    command = ["train", "-m", "hydra/launcher=submitit_slurm", f"run_dir={tmp_path / 'sweep'}", "model=sasrec"]
    assert cli.main([*command, *words]) == 0
    (params,) = asked
    assert (params["gpus_per_node"], params["cpus_per_task"]) == expected
    assert says is None or says in capsys.readouterr().out


def test_a_sweep_that_no_job_could_run_is_refused_before_it_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    command = ["train", "-m", "hydra/launcher=submitit_slurm", f"run_dir={tmp_path / 'sweep'}", "trainer.lr=0.1,0.2"]
    assert cli.main([*command, "hardware.device=cuda:1"]) == 2
    assert "hardware.device=cuda:1: a job on a cluster sees its own GPUs alone" in capsys.readouterr().err
    assert not (tmp_path / "sweep" / "jobs.jsonl").exists()
