"""Several processes learn what one does: the same losses, weights and metrics, whatever the share of each."""

import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_two_processes import CASES, LOG, trained
from training_toys import CPU, Recorder

from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.processes import ALONE, Processes, started, together
from seqrec_cli.training import process_group
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.process_group import Meeting
from seqrec_cli.training.shared_steps import own_randomness, seed_step, share_bounds

LIMIT_S = 240  # of two processes beside much other work; they need six seconds
HERE = Path(__file__).parent
CHILD = f"import sys; sys.path[:0] = {[str(HERE), str(HERE.parent)]}; from in_two_processes import main; "


@pytest.fixture(scope="module")
def of_two(python: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes says of every case."""
    folder = tmp_path_factory.mktemp("two")
    children = [
        subprocess.Popen([*python, "-c", f"{CHILD}main({str(folder)!r}, {rank}, 2)"], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        said = [child.communicate(timeout=LIMIT_S)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], said
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def test_they_tell_each_other(of_two: list[dict[str, Any]]) -> None:
    assert [found["sum"] for found in of_two] == [[0, 3, 6]] * 2
    assert [found["gathered"] for found in of_two] == [[0, 1]] * 2


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_does(of_two: list[dict[str, Any]], name: str, tmp_path: Path) -> None:
    own, (first, second) = trained(name, tmp_path), (found[name] for found in of_two)
    assert first["weights"] == second["weights"]  # to the bit
    assert first["targets"] == own["targets"]  # of the whole batch
    assert first["losses"] == pytest.approx(own["losses"], rel=1e-5)
    if (
        name != "norm"
    ):  # a bias in front of a normalisation has a gradient of rounding alone, and AdamW's steps are of one size
        assert first["test"] == pytest.approx(own["test"], abs=1e-4)
        for row, alone in zip(first["rows"], own["rows"], strict=True):
            assert row == pytest.approx(alone, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_shared_evaluation_is_exact(of_two: list[dict[str, Any]], name: str) -> None:
    """Of the same weights one process measures the same ranks, and the same metrics: to the bit where they are of
    requests, to double precision where lists are counted."""
    for found in of_two:
        assert found[name]["same_ranks"]
        assert found[name]["test"] == pytest.approx(found[name]["alone"], rel=1e-14, abs=0)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("lengths", [[9], [5, 1], [20, 3, 3, 2, 2, 1, 1, 1], [7] * 24, [50, *[1] * 30]])
def test_shares_are_all_rows_and_even(lengths: Sequence[int], count: int) -> None:
    bounds = share_bounds(lengths, count)
    assert [bounds[0][0], *(last for _, last in bounds)] == [*(first for first, _ in bounds), len(lengths)]
    sizes = [last - first for first, last in bounds]
    assert len(sizes) == count
    assert min(sizes) >= 1 if len(lengths) >= count else sizes == [len(lengths), *[0] * (count - 1)]
    if lengths == [7] * 24:
        assert max(sizes) <= -(-24 // count)


@pytest.mark.parametrize(("name", "count"), [("sasrec", 2), ("micro", 3), ("auxiliary", 50)])
def test_the_gradients_of_all_shares_are_those_of_the_batch(name: str, count: int) -> None:
    """With as many processes as rows, and with more; each share is computed here, one after another."""
    from configured import config

    cfg = config(CASES[name])

    def gradients(processes: Processes) -> tuple[float, list[torch.Tensor]]:
        model, objective = fresh_model(cfg, LOG, CPU.device), objective_for(cfg, LOG, CPU.device)
        rows = training_rows(cfg, objective, LOG, device=CPU.device)
        loop = Loop(
            model,
            objective,
            rows,
            cfg=cfg.trainer,
            precision=CPU,
            validate=dict,
            header={},
            folder=Path(),
            listener=Recorder(),
        )
        loop.processes = processes
        model.train()
        seed_step(0, 1)
        loss = loop.accumulate_gradients(next(iter(rows.epoch(0)))).item()
        return loss, [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in model.parameters()]

    whole_loss, whole = gradients(ALONE)
    shares = [gradients(Processes(rank, count, rank, count)) for rank in range(count)]
    assert sum(loss for loss, _ in shares) == pytest.approx(whole_loss, rel=1e-5)
    largest = max(gradient.norm() for gradient in whole)
    for expected, *parts in zip(whole, *(found for _, found in shares), strict=True):
        assert (sum(parts) - expected).norm() <= 1e-5 * expected.norm().clamp(min=1e-2 * largest)


def test_each_process_has_dropout_of_its_own_and_draws_the_same_afterwards() -> None:
    drawn, after = [], []
    for rank in range(2):
        seed_step(3, 7)
        with own_randomness((3, 7, rank)):
            drawn.append(torch.rand(4).tolist())
        after.append(torch.rand(4).tolist())
    assert drawn[0] != drawn[1]
    assert after[0] == after[1]


def test_who_one_is_stands_in_the_environment() -> None:
    assert started({}) is None
    assert started({"WORLD_SIZE": "1", "RANK": "0"}) is None
    assert started({"WORLD_SIZE": "4"}) is None  # another tool's
    said = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert started(said) == Processes(rank=3, count=4, local_rank=1, local_count=2)


def test_a_group_without_a_meeting_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(SeqrecError, match=r"WORLD_SIZE=2 .* MASTER_ADDR is not set; start them with torchrun"):
        Meeting(Processes(0, 2, 0, 2), 2)


def test_one_process_alone_tells_nobody() -> None:
    array = np.arange(3.0)
    with together(ALONE) as alone:
        assert alone.sum_array(array) is array
        assert alone.gather("x") == ["x"]
        assert alone.from_first(3) == 3
        assert [alone.any(True), alone.any(False)] == [True, False]
        assert list(range(5))[alone.share] == [0, 1, 2, 3, 4]
    assert [list(range(5))[Processes(rank, 2, rank, 2).share] for rank in range(2)] == [[0, 2, 4], [1, 3]]


@pytest.mark.parametrize(("rank", "gone", "lines"), [(0, True, 1), (1, True, 0), (0, False, 0)])
def test_processes_whose_launcher_is_gone_end_and_the_first_says_so(
    rank: int, gone: bool, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where another process has failed, which says why itself."""

    class Lost:
        def check(self, keys: list[str]) -> bool:
            if gone:
                raise RuntimeError("recvValue failed on SocketImpl(...)")
            return keys == ["mine/failed"]

        def add(self, key: str, amount: int) -> int:
            return self.check([key])

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(process_group.os, "_exit", leave)
    monkeypatch.setattr(process_group, "ASK_S", 0.01)
    monkeypatch.setattr(Meeting, "__init__", lambda self: None)
    meeting = Meeting()  # type: ignore[call-arg]
    meeting.processes, meeting.refused, meeting._name = Processes(rank, 2, 0, 2), 2, "mine"
    meeting._ended = threading.Event()
    with pytest.raises(SystemExit, match="2"):
        meeting._watch(Lost())  # type: ignore[arg-type]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == lines
    assert all("what had started the processes is gone" in line for line in told)
