"""Compiling changes how a step runs, not what it computes; where it cannot be done, a line says so."""

import pytest
import torch
from toylog import packed, random_histories

from seqrec_cli.commands import compiling, training_setup
from seqrec_cli.commands.compiling import compile_model, refuse_graphs, widened
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender, SequenceEncoder

CPU = torch.device("cpu")


class Encoder(SequenceEncoder):
    def encode(self, batch: Batch) -> torch.Tensor:
        return batch.items_BL[..., None] * 2.0


class Ranker(Recommender):
    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        return items_BC + 1.0


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What torch was asked to compile, without waiting for a compiler."""
    asked: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: asked.append(function) or function)
    return asked


@pytest.mark.parametrize(("kind", "method"), [(Encoder, "encode"), (Ranker, "score")])
def test_it_compiles_what_a_step_runs(compiled: list[object], kind: type[Recommender], method: str) -> None:
    model = kind(Catalog(1, 3))
    before = getattr(model, method)
    names = set(model.state_dict())
    compile_model(model, CPU)
    assert before in compiled
    assert set(model.state_dict()) == names


def test_where_last_states_are_learned_from_they_are_what_is_compiled(compiled: list[object]) -> None:
    model = Encoder(Catalog(1, 3))
    last = model.last
    compile_model(model, CPU, last=True)
    assert compiled[1:] == [last]


def test_without_a_compiler_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function, **_):
        raise RuntimeError("no working C++ compiler\nlong story")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(SeqrecError, match=r"no working C\+\+ compiler\).*hardware.compile=false") as caught:
        compile_model(Encoder(Catalog(1, 3)), CPU)
    assert "\n" not in str(caught.value)


def test_only_graphs_ask_for_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(torch, "compile", lambda function, **how: asked.append(how) or function)
    monkeypatch.setattr(compiling, "_check_compiler", lambda device, mode: None)
    for mode in (True, "graphs"):
        compile_model(Encoder(Catalog(1, 3)), torch.device("cuda"), mode=mode)  # type: ignore[arg-type]
    assert asked == [{"dynamic": True}, {"dynamic": True, "mode": "reduce-overhead"}]


def test_graphs_see_few_widths_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, begun = [], []

    def recorded(function, **_):
        return lambda batch, *others: seen.append(batch.items_BL.shape[1]) or function(batch, *others)

    monkeypatch.setattr(torch, "compile", recorded)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(len(seen)))
    monkeypatch.setattr(compiling, "_check_compiler", lambda device, mode: None)
    model = Encoder(Catalog(1, 3))
    compile_model(model, torch.device("cuda"), mode="graphs")
    for width in (1, 31, 32, 33):
        items_BL = torch.randint(1, 4, (2, width))
        hidden_BLD = model.encode(Batch(torch.zeros(2), items_BL, torch.full((2,), width)))
        assert torch.equal(hidden_BLD, items_BL[..., None] * 2.0)
    assert seen == [32, 32, 32, 64]
    assert begun == [0, 1, 2, 3]  # each step of training begins before its graph runs
    with torch.no_grad():
        model.encode(Batch(torch.zeros(2), items_BL, torch.full((2,), width)))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "words",
    [
        ["model=sasrec", "objective=next_item"],
        ["model=hstu", "model.time_bias=past", "objective=sampled_softmax"],
        ["model=bert4rec"],
        ["model=din"],
    ],
    ids=lambda words: words[0],
)
def test_a_widened_batch_has_the_same_loss(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["model.dropout=0", "model.embed_dim=8", "model.max_length=20", "trainer.batch_size=8"]
    cfg = validate("train", compose("train", [*words, *small]))
    log = packed(random_histories(20, 30, 9), 30, click_negatives=2)
    model, objective = fresh_model(cfg, log, CPU), objective_for(cfg, log, CPU)  # type: ignore[arg-type]
    batch = next(iter(training_rows(cfg, objective, log, device=CPU).epoch(0)))  # type: ignore[arg-type]
    drawn, wide = objective.drawn(batch), widened(batch, 20)
    assert wide.items_BL.shape[1] == 20 > batch.items_BL.shape[1]
    monkeypatch.setattr(objective, "drawn", lambda batch: batch)
    losses = [objective.loss(model, given).item() for given in (drawn, widened(drawn, 20))]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    ("device", "words", "says"),
    [
        ("cpu", [], "hardware.compile=graphs records CUDA graphs, and this run is on cpu; use hardware.device=cuda"),
        ("cuda", ["trainer.micro_batch_tokens=64"], "trainer.micro_batch_tokens=64 sums gradients over replays"),
    ],
)
def test_graphs_are_refused_where_they_cannot_be(device: str, words: list[str], says: str) -> None:
    cfg = validate("train", compose("train", ["hardware.compile=graphs", *words]))
    with pytest.raises(SeqrecError, match=says) as caught:
        refuse_graphs(cfg, torch.device(device))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_run_that_asks_for_graphs_without_a_gpu_is_told_so() -> None:
    cfg = validate("train", compose("train", ["hardware.compile=graphs", "model.embed_dim=4"]))
    with pytest.raises(SeqrecError, match="records CUDA graphs"):
        fresh_model(cfg, packed(random_histories(5, 20, 9), 20), CPU)  # type: ignore[arg-type]


def test_graphs_reach_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    monkeypatch.setattr(training_setup, "refuse_graphs", lambda cfg, device: None)
    monkeypatch.setattr(training_setup, "compile_model", lambda model, device, *, last, mode: modes.append(mode))
    for word in ("true", "graphs"):
        cfg = validate("train", compose("train", [f"hardware.compile={word}", "model.embed_dim=4"]))
        fresh_model(cfg, packed(random_histories(5, 20, 9), 20), CPU)  # type: ignore[arg-type]
    assert modes == [True, "graphs"]
