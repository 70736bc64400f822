"""EASE against the paper's equation, solved by numpy; how a history is asked; its place in a mixture."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toy

import seqrec_cli
from seqrec_cli.commands.restore import restore
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.config.seal import seal
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import SequenceEncoder

AS_TRAINED = HardwareConfig(device=None, precision=None, threads=None, embedding=None, compile=None)


def ease(**changes: float) -> SequenceEncoder:
    model = toy.toy_model("ease", **({"embed_dim": toy.ITEMS, "l2": 0.7, "scale": 1.0, "half_life": 2.0} | changes))
    assert isinstance(model, SequenceEncoder)
    return model


def weights_VV() -> np.ndarray:
    """Equation 8 of the paper on the toy histories."""
    met_UV = np.zeros((toy.USERS, toy.ITEMS))
    for user, history in enumerate(toy.toy_histories()):
        met_UV[user, history.numpy() - 1] = 1
    inverse_VV = np.linalg.inv(met_UV.T @ met_UV + 0.7 * np.eye(toy.ITEMS))
    result_VV = -inverse_VV / np.diag(inverse_VV)
    np.fill_diagonal(result_VV, 0)
    return result_VV


def after(*history: int) -> Batch:
    return Batch(torch.tensor([1]), torch.tensor([[*history, 0]]), torch.tensor([len(history)]))


@pytest.mark.parametrize("item", [1, 9, 40])
def test_an_event_scores_by_the_papers_weights(item: int) -> None:
    scores_V = ease().score_corpus(after(item))[0]
    np.testing.assert_allclose(scores_V[1:].numpy(), weights_VV()[item - 1], atol=1e-5)
    assert scores_V[0] == 0


def test_an_event_of_a_half_life_ago_counts_half() -> None:
    scores_V = ease(scale=3.0).score_corpus(after(4, 9, 12))[0]
    one, two, three = (weights_VV()[item - 1] for item in (4, 9, 12))
    np.testing.assert_allclose(scores_V[1:].numpy(), 3 * (one / 2 + two / 2**0.5 + three), atol=1e-4)


def test_the_states_on_the_way_are_those_of_shorter_histories() -> None:
    model = ease()
    states_LD = model.encode(after(4, 9, 12))[0]
    for length, history in enumerate(((4,), (4, 9), (4, 9, 12)), start=1):
        torch.testing.assert_close(states_LD[length - 1], model.last(after(*history))[0])


def test_a_repeated_event_is_counted_once() -> None:
    once, twice = ease(), ease()
    twice.count([torch.cat([history, history[:2]]) for history in toy.toy_histories()])
    torch.testing.assert_close(twice.score_corpus(after(4, 9)), once.score_corpus(after(4, 9)))


def test_more_eigenvectors_come_nearer_and_all_are_exact() -> None:
    errors = []
    for width in (4, 12, 30, toy.ITEMS):
        model = ease(embed_dim=width)
        assert model.item_table().shape == (toy.ITEMS + 1, width)
        near_VV = model.score_corpus(Batch(*_every_item()))[:, 1:].numpy()
        errors.append(float(np.abs(near_VV - weights_VV()).max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 < errors[-2]


def _every_item() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    items_B1 = torch.arange(1, toy.ITEMS + 1)[:, None]
    return torch.ones(toy.ITEMS, dtype=torch.int64), items_B1, torch.ones(toy.ITEMS, dtype=torch.int64)


TINY = [
    "dataset=synthetic",
    "dataset.users=120",
    "dataset.items=40",
    "dataset.max_events=12",
    "trainer.max_epochs=1",
    "trainer.batch_size=16",
    "evaluation.floors=false",
    "model.max_length=8",
    "hardware.device=cpu",
    "hardware.precision=fp32",
]
MEMBER = "{name: ease, max_length: 8, embed_dim: 8, l2: 5.0, half_life: 9.0, scale: 2.0}"


def test_a_mixture_counts_its_member_before_it_trains_the_others(tmp_path: Path) -> None:
    common = [*TINY, f"data_dir={tmp_path / 'data'}"]
    counted = ["model=ease", "model.embed_dim=8", "model.l2=5.0", "model.half_life=9.0", "model.scale=2.0"]
    seqrec_cli.run("train", [*common, *counted, f"run_dir={tmp_path / 'alone'}"])
    few = ["~model.members.sasrec", "~model.members.lrurec", f"+model.members.ease={MEMBER}"]
    seqrec_cli.run("train", [*common, "model=mixture", *few, f"run_dir={tmp_path / 'together'}"])
    alone, together = (
        restore(str(tmp_path / name), None, None, AS_TRAINED).model.state_dict() for name in ("alone", "together")
    )
    assert alone["input_VD"].any()
    for name, value in alone.items():
        assert torch.equal(together[f"members.ease.{name}"], value)
    # Put together from runs apart, the one that only counts first, it is trained like the one that learned.
    gru = [*common, "model=gru4rec", f"run_dir={tmp_path / 'gru'}"]
    seqrec_cli.run("train", gru)
    seqrec_cli.run("mix", [f"ckpts=[{tmp_path / 'alone'},{tmp_path / 'gru'}]", f"run_dir={tmp_path / 'mixed'}"])
    mixed = restore(str(tmp_path / "mixed"), None, None, AS_TRAINED)
    assert mixed.cfg.objective.name == "shift"
    assert list(mixed.model.members) == ["ease", "gru4rec"]  # type: ignore[arg-type]
    assert torch.equal(mixed.model.state_dict()["members.ease.output_VD"], alone["output_VD"])


def test_a_mixture_of_counts_alone_is_refused() -> None:
    few = [f"~model.members.{name}" for name in ("sasrec", "lrurec", "gru4rec")]
    with pytest.raises(SeqrecError, match="none learns"):
        seal("train", compose("train", ["model=mixture", "model.max_length=8", *few, f"+model.members.ease={MEMBER}"]))
