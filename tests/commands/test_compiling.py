"""Compiling changes how a step runs, not what it computes; where it cannot be done, a line says so."""

import pytest
import torch

from seqrec_cli.commands.compiling import compile_model
from seqrec_cli.config.errors import SeqrecError
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
