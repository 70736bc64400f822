"""The benchmark's figures hang together, and its FLOPs are those of a hand count. No peer is installed here."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts import bench, bench_own, bench_peers
from seqrec_cli import kernels
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.training.precision import Precision
from tests.toylog import packed

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SMALL = ["dataset.users=120", "dataset.items=60", "model.max_length=30", "model.embed_dim=16", "trainer.batch_size=20"]
CPU = ["hardware=cpu", "hardware.threads=1", "hardware.precision=fp32"]


def sealed(*overrides: str) -> TrainConfig:
    cfg = validate("train", compose("train", list(overrides)))
    assert isinstance(cfg, TrainConfig)
    return cfg


def run(python: list[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*python, "-m", "scripts.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False, timeout=300)


@pytest.fixture(scope="module")
def figures(python: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    done = run(python, *SMALL, *CPU, "--steps", "2", "--json", "bench.json", "--profile", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "tokens/s" in done.stdout
    assert "aten::" in done.stdout  # the profile
    found: dict[str, Any] = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    return found


def test_training_figures_agree_with_one_another(figures: dict[str, Any]) -> None:
    train = figures["train"]
    assert figures["config"]["auto"] == {}  # settled from the data, as in a run
    assert train["steps"] == 2
    assert train["sequences"] == 40
    for count in ("tokens", "padded_tokens", "targets", "sequences"):
        assert train[count] > 0
        assert train[f"{count}_s"] * train["seconds"] == pytest.approx(train[count])
    assert train["tokens"] == train["targets"] <= train["padded_tokens"]
    assert train["ms_step"] * train["steps"] == pytest.approx(1000 * train["seconds"])
    assert train["epoch_steps"] == 6  # 120 users in batches of 20
    assert train["epoch_seconds"] == pytest.approx(train["seconds"] * 3)
    assert train["peak_memory_mb"] > 0
    ceiling = figures["ceiling"]["gemm_fp32_gflop_s"]
    assert sum(train["useful_flop"].values()) / train["seconds"] == pytest.approx(1e9 * train["useful_gflop_s"])
    assert train["fraction_of_gemm"] * ceiling == pytest.approx(train["useful_gflop_s"])


def test_the_other_parts_are_there_too(figures: dict[str, Any]) -> None:
    measured, data = figures["evaluate"], figures["data"]
    assert measured["users"] == data["users"] == 120
    assert measured["users_s"] * measured["seconds"] == pytest.approx(120)
    assert measured["scores_s"] == pytest.approx(measured["users_s"] * data["items"])
    assert measured["seen_removed"] is True
    assert set(figures["preprocess"]) == {"seconds", "peak_memory_mb"}
    assert all(value > 0 for value in figures["preprocess"].values())
    assert all(figures["ceiling"][key] > 0 for key in ("gemm_fp32_gflop_s", "gemm_bf16_gflop_s", "copy_gb_s"))
    assert figures["config"]["model"]["embed_dim"] == 16
    assert figures["threads"] == 1


def test_useful_flops_are_the_hand_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 x matrix weights x tokens, 12 D x half the pairs x blocks, 6 N D V: padding is in none of them."""
    D, F, V, blocks = 8, 24, 20, 2
    shape = [f"model.embed_dim={D}", f"model.ffn_dim={F}", f"model.blocks={blocks}", "model.max_length=12"]
    cfg = sealed(*shape, *CPU, "trainer.batch_size=4")
    rng = np.random.default_rng(0)
    histories = [(rng.permutation(V)[:length] + 1).tolist() for length in (6, 9, 14, 14, 12, 5)]
    monkeypatch.setattr(bench_own, "prepare", lambda *given: packed(histories, V))
    setup = bench_own.set_up(cfg)
    parts = bench_own.useful_flops(setup, setup.model(), steps=setup.rows.steps)

    lengths = (3, 6, 11, 11, 9, 2)  # of the inputs: a history without its last two events and its last target
    tokens, pairs = sum(lengths), sum(length**2 for length in lengths)
    weights = blocks * (4 * D * D + 2 * D * F)
    assert parts["layers"] == pytest.approx(6 * weights * tokens, rel=1e-3)
    assert parts["attention"] == pytest.approx(12 * D * blocks * pairs / 2, rel=1e-3)
    loss = 6 * tokens * D * V  # every token has a target
    assert sum(parts.values()) == pytest.approx(6 * weights * tokens + 6 * D * blocks * pairs + loss, rel=1e-3)


def test_a_gpu_s_operations_are_counted_without_kernels_which_are_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_own, "prepare", lambda *given: packed([[1, 2, 3, 4, 5]] * 6, 8))
    setup, seen = bench_own.set_up(sealed("model.embed_dim=8", "model.max_length=12", *CPU), lambda _: None), []

    def counted(*given: Any, **named: Any) -> np.ndarray:
        seen.append(kernels.enabled())
        return np.ones(6)

    monkeypatch.setattr(bench_own, "flops_of_terms", counted)
    for device in ("cuda", "cpu"):
        of = replace(setup, precision=Precision(torch.device(device), "fp32"))
        bench_own.useful_flops(of, setup.model(), 1)
        assert kernels.enabled()
    assert seen == [False, True]


class Batches:
    """Rows of a fixed number of batches, numbered by epoch and place."""

    steps = 3

    def epoch(self, epoch: int, start: int = 0) -> Any:
        for place in range(self.steps):
            items_BL = torch.full((2, place + 1), 10 * epoch + place)
            yield Batch(users_B=torch.ones(2), items_BL=items_BL, lengths_B=torch.tensor([place + 1, 1]))


def test_the_clock_starts_after_the_warm_up() -> None:
    taken: list[int] = []
    rows = bench_own.TimedRows(Batches(), warm_up=2, count=4, begin=lambda: taken.append(-1))
    for batch in rows.epoch(0):
        taken.append(int(batch.items_BL[0, 0]))
    assert taken == [10, 11, -1, 0, 1, 2, 10]  # epoch 1 warms up; epoch 0 is timed, and then the next
    assert rows.steps == 6
    whole, parts, packed_rows = (
        sealed("model=sasrec", f"trainer.micro_batch_tokens={tokens}", f"objective.window={window}")
        for tokens, window in (("null", "last"), ("64", "last"), ("null", "packed"))
    )
    assert [bench_own.padded_tokens(lengths_B.tolist(), whole) for lengths_B in rows.lengths_S] == [2, 4, 6, 2]
    assert bench_own.padded_tokens([50, 20, 17], parts) == 50 + 2 * 24
    assert bench_own.padded_tokens([50, 20, 17], packed_rows) == 50 + 20 + 17
    assert [int(lengths_B.sum()) for lengths_B in rows.lengths_S] == [2, 3, 4, 2]


def test_a_peer_is_asked_for_the_same_data_and_shape(tmp_path: Path) -> None:
    log = packed([[3, 1, 2], [2, 2, 1, 3]], 3)
    events = tmp_path / "events.txt"
    bench_peers.write_events(log, events)
    assert events.read_text(encoding="utf-8") == "1 3\n1 1\n1 2\n2 2\n2 2\n2 1\n2 3\n"
    fixed = {
        "log": log,
        "events": events,
        "parts": ["train", "preprocess"],
        "steps": 5,
        "warm_up": 1,
        "max_seconds": 9.0,
        "threads": 2,
        "tuned": True,
        "precision": "fp32",
    }
    shape = ["model.embed_dim=32", "model.ffn_dim=256", "model.max_length=200", "model.dropout=0.2"]
    cfg = sealed("model=sasrec", *shape, "trainer=next_item")
    request = bench_peers.request_of(name="replay", cfg=cfg, **fixed)
    wanted = {"peer": "replay", "model": "sasrec", "embed_dim": 32, "blocks": 2, "heads": 1, "ffn_dim": 256}
    wanted |= {"max_length": 200, "batch_size": 128, "items": 3, "dropout": 0.2, "parts": ["train"], "steps": 5}
    assert wanted.items() <= request.items()
    json.dumps(request)

    clicks = bench_peers.request_of(name="torch-rechub", cfg=sealed("model=bst", "objective.negatives=3"), **fixed)
    assert clicks["batch_size"] == 4 * sealed("model=bst").trainer.batch_size  # a row is a positive and 3 negatives
    assert list(clicks["mlp"]) == [256, 128]


MINIATURE = """
import sys
sys.path.insert(0, {folder!r})
from peer_timing import Clock, Counted, give, read_request
request = read_request()
clock = Clock(request)
for batch in Counted([[1, [0] * 7], [1, [0] * 7]], clock):
    print("noise")
give(request, request["peer"], "torch", "none", train=clock.answer("nothing"), evaluate=None)
"""


def test_a_peer_answers_from_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer script in miniature, run by this Python: the clock, the counts, and one JSON line as the answer."""
    (tmp_path / "mini.py").write_text(MINIATURE.format(folder=str(ROOT / "scripts" / "peers")), encoding="utf-8")
    monkeypatch.setattr(bench_peers, "SCRIPTS", tmp_path)
    monkeypatch.setitem(bench_peers.PEERS, "mini", bench_peers.Peer("none", (), "json", "mini.py"))
    request = {"peer": "mini", "steps": 3, "warm_up": 2, "max_seconds": 60, "threads": 1, "precision": "fp32"}
    answer = bench_peers.run_peer(Path(sys.executable), request | {"tuned": True})
    assert answer["peer"] == "mini"
    assert answer["train"]["steps"] == 3
    assert answer["train"]["targets"] == 3 * 7  # the warm-up's are not counted
    assert answer["train"]["targets_s"] * answer["train"]["seconds"] == pytest.approx(21)
    assert "evaluate" not in answer
    (tmp_path / "mini.py").write_text("raise RuntimeError('no luck')", encoding="utf-8")
    with pytest.raises(SeqrecError, match="--vs mini failed: RuntimeError: no luck"):
        bench_peers.run_peer(Path(sys.executable), request | {"tuned": True})


@pytest.mark.parametrize("name", ["pmixer-sasrec", "seed-bert4rec"])
def test_a_plain_peer_learns_and_counts_its_targets(tmp_path: Path, name: str) -> None:
    """Three users a batch of three, so each step has every training event; one is cut to max_length."""
    model = {"pmixer-sasrec": "sasrec", "seed-bert4rec": "bert4rec"}[name]
    shape = ["model.embed_dim=8", "model.ffn_dim=16", "model.blocks=1", "model.heads=1", "model.max_length=6"]
    log = packed([[1, 2, 3, 4, 1, 2], [2, 3, 4, 1, 2], [3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2], [5, 6]], 9)
    bench_peers.write_events(log, tmp_path / "events.txt")
    request = bench_peers.request_of(
        name=name,
        cfg=sealed(f"model={model}", *shape, "model.dropout=0", "trainer.batch_size=3"),
        log=log,
        events=tmp_path / "events.txt",
        parts=["train", "evaluate"],
        steps=150,
        warm_up=1,
        max_seconds=60.0,
        threads=1,
        tuned=True,
        precision="fp32",
    )
    answer = bench_peers.run_peer(Path(sys.executable), request)
    train = answer["train"]
    assert (answer["peer"], train["steps"]) == (name, 150)
    assert train["sequences_s"] * train["seconds"] == pytest.approx(3 * 150)
    assert 0 < train["last_loss"] < train["first_loss"]
    if name == "pmixer-sasrec":  # both losses start near log 2; inputs are all events but the two held out and the last
        assert train["first_loss"] > 1
        assert train["targets"] == 150 * (3 + 2 + 6)
        assert train["targets_s"] * train["seconds"] == pytest.approx(train["targets"])
    else:  # at least one event a row is masked, at most all of them
        assert 150 * 3 <= train["targets"] <= 150 * (4 + 3 + 6)
        assert "targets_s" not in train  # rows count there
    assert "evaluate" not in answer  # they rank sampled items only, or nothing


def test_ratios_are_taken_round_by_round() -> None:
    rounds = [
        ({"train": {"targets_s": own}, "evaluate": {"users_s": 8.0, "scores_s": 80.0}}, {"train": {"targets_s": peer}})
        for own, peer in ((10.0, 5.0), (30.0, 5.0), (12.0, 4.0))
    ]
    found = bench_peers.ratios(rounds)
    assert found == {"train": {"figure": "targets_s", "median": 3.0, "min": 2.0, "max": 6.0}}
    rounds = [(ours, peer | {"evaluate": {"scores_s": 20.0}}) for ours, peer in rounds]
    assert bench_peers.ratios(rounds)["evaluate"] == {"figure": "scores_s", "median": 4.0, "min": 4.0, "max": 4.0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vs", "rectool"], "did you mean 'rectools'?"),
        (["--vs", "torch-rechub"], "family ranker, not model=sasrec"),
        (["--vs", "replay,rectools", "objective=bce"], "use objective=next_item"),
        (["--vs", "pmixer-sasrec", "objective=all_action"], "use objective=next_item or bce"),
        (["--parts", "trian"], "did you mean 'train'?"),
        (["--steps", "0"], "expected a whole number from 1"),
        (["--parts", "preprocess", "--vs", "replay"], "add train or evaluate"),
        (["model=popular", "--parts", "train"], "no training step to time"),
        (["model.embed_dimm=3"], "model.embed_dim"),
        (["dataset.archive=nowhere.zip", "dataset=ml-1m", "--parts", "preprocess"], "nowhere.zip"),
    ],
)
def test_refusals_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench.main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("bench.py: ")
    assert said.count("\n") == 1


def test_a_failed_installation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's last error is the message, and a half environment is not taken for a whole one later."""

    def call(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
            return subprocess.CompletedProcess(command, 0, "", "")
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: No matching distribution found\nhint\n")

    monkeypatch.setattr(bench_peers, "_call", call)
    with pytest.raises(SeqrecError, match=r"cannot install torch==[\d.]+: ERROR: No matching distribution"):
        bench_peers.environment(tmp_path, bench_peers.PEERS["recbole"])
    assert list(tmp_path.iterdir()) == []


def test_an_environment_without_its_peer_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "replay" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    with pytest.raises(SeqrecError, match="cannot import no_such_module"):
        bench_peers.environment(tmp_path, bench_peers.Peer("replay", (), "no_such_module", "run_replay.py"))
    assert bench_peers.environment(tmp_path, bench_peers.Peer("replay", (), "json", "run_replay.py")) == python


def test_every_peer_has_a_script_that_does_not_hide_its_package() -> None:
    for peer in bench_peers.PEERS.values():
        path = ROOT / "scripts" / "peers" / peer.script
        text = path.read_text(encoding="utf-8")
        assert path.stem != peer.module.split(".")[0]
        assert "seqrec_cli" not in text


def test_what_is_counted_before_the_first_step_is_there_when_an_evaluation_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    histories = [(rng.permutation(40)[:12] + 1).tolist() for _ in range(30)]
    monkeypatch.setattr(bench_own, "prepare", lambda *given: packed(histories, 40))
    words = ["model=semantic", "model.embed_dim=8", "model.ffn_dim=8", "model.codes=4", "model.levels=2", *CPU]
    setup, timed, handed = bench_own.set_up(sealed(*words), lambda _: None), [], []
    monkeypatch.setattr(bench_own, "evaluate", lambda model, *given, **settings: timed.append(model))
    monkeypatch.setattr(bench_own, "give_vectors", lambda model, *given: handed.append((model, *given)))
    bench_own.time_evaluation(setup)
    assert handed == [(timed[0], setup.cfg, setup.log)]
    assert timed[0].tree.sizes[1:3] != setup.model().tree.sizes[1:3]
    assert timed[0].tree.sizes[1] == 4
