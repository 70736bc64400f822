"""Scheduled sampling: how the share of true events falls, which events a model's answers replace, and what learns."""

import math
from dataclasses import replace

import pytest
import torch
from test_objectives import Fixed, objective, window_batch

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives.contract import Objective, build_objective
from seqrec_cli.objectives.scheduled_sampling import (
    ScheduledSampling,
    drawn_items,
    true_share,
    with_own_answers,
)
from tests.shipped import shipped


def scheduled(name: str = "next_item", **changes: object) -> Objective:
    plain = shipped("objective", name) | {"scheduled_sampling": "linear", **changes}
    plain |= {"negatives": None} if plain["negatives"] == "auto" else {}
    built = build_objective(config_class("objective", name).from_plain(plain))  # type: ignore[arg-type]
    built.prepare(torch.arange(7))
    return built


def cycle(items: int = 6) -> Fixed:
    """A model that is sure that item v + 1 follows item v, and the first one the last."""
    model = Fixed(torch.zeros(items + 1, items))
    follows_VV = torch.eye(items).roll(1, 1)

    def encode(batch: Batch) -> torch.Tensor:
        return 100 * follows_VV[(batch.items_BL - 1).clamp(min=0)]

    model.encode = encode  # type: ignore[method-assign]
    with torch.no_grad():
        model.table[1:] = torch.eye(items)
    return model


@pytest.mark.parametrize(
    ("schedule", "epochs", "share"),
    [
        ("linear", 0.0, 1.0),
        ("linear", 2.5, 0.75),
        ("linear", 9.0, 0.2),  # 0.1, but for the least
        ("exponential", 5.0, math.exp(-0.5)),
        ("inverse_sigmoid", 0.0, 10 / 11),
        ("inverse_sigmoid", 10 * math.log(10), 0.5),
        ("inverse_sigmoid", math.inf, 0.2),
        ("linear", math.inf, 0.2),
        ("exponential", math.inf, 0.2),
    ],
)
def test_the_share_of_true_events_falls_as_published(schedule: str, epochs: float, share: float) -> None:
    assert true_share(schedule, epochs, decay=10.0, least=0.2) == pytest.approx(share)


def test_answers_stand_where_events_are_redrawn_and_nowhere_else() -> None:
    items = torch.tensor([[1, 5, 2, 6], [3, 3, 0, 0]])
    targets = torch.tensor([[5, 2, 6, 1], [3, 4, 0, 0]])
    redrawn = torch.tensor([[-1, 0.5, -1, 0.99], [-1, 0.1, -1, -1]])
    batch = Batch(torch.tensor([1, 2]), items, torch.tensor([4, 2]), targets_BL=targets, redrawn_BL=redrawn)
    read = with_own_answers(cycle(), batch)
    assert read.items_BL.tolist() == [[1, 2, 2, 3], [3, 4, 0, 0]]  # after the true 1, the true 2 and the true 3
    assert torch.equal(read.targets_BL, targets)  # type: ignore[arg-type]
    assert batch.items_BL is items
    assert items.tolist()[0] == [1, 5, 2, 6]  # the loader's own are left alone


def test_drawn_are_first_events_never_and_others_by_the_share() -> None:
    built = scheduled(scheduled_epochs=10.0)
    assert isinstance(built, ScheduledSampling)
    torch.manual_seed(0)
    items = torch.ones(200, 50, dtype=torch.int64)
    batch = Batch(torch.ones(200, dtype=torch.int64), items, torch.full((200,), 40), targets_BL=items)
    built.at_epoch(0.0)
    assert built.drawn(batch).redrawn_BL is None  # and no second pass is made
    for epochs, share in ((2.0, 0.2), (7.0, 0.7), (99.0, 1.0)):
        built.at_epoch(epochs)
        redrawn = built.drawn(batch).redrawn_BL
        assert redrawn is not None
        assert not (redrawn[:, 0] >= 0).any()
        assert not (redrawn[:, 40:] >= 0).any()
        assert (redrawn[:, 1:40] >= 0).float().mean().item() == pytest.approx(share, abs=0.02)


def test_draws_follow_the_softmax_and_never_the_padding() -> None:
    scores = torch.tensor([[9.0, 1.0, 0.0, -1.0, 2.0]]).expand(20_000, 5)
    torch.manual_seed(0)
    shares = torch.bincount(drawn_items(scores, torch.rand(20_000)), minlength=5) / 20_000
    torch.testing.assert_close(shares[1:], scores[0, 1:].softmax(0), atol=0.01, rtol=0)
    assert shares[0] == 0
    assert drawn_items(scores[:2], torch.tensor([0.0, 1.0 - 1e-8])).tolist() == [1, 4]


@pytest.mark.parametrize("name", ["next_item", "bce"])
def test_what_is_learned_is_the_second_pass_alone(name: str) -> None:
    torch.manual_seed(0)
    redrawn = torch.tensor([[-1, 0.3, 0.8], [-1, -1, -1]])
    batch, table = replace(window_batch(), redrawn_BL=redrawn), torch.randn(7, 4)
    both, alone = Fixed(table.clone()), Fixed(table.clone())
    loss = scheduled(name).target_loss(both, batch)
    loss.backward()
    read = with_own_answers(alone, batch)
    assert not torch.equal(read.items_BL, batch.items_BL)
    expected = (objective(name) if name == "bce" else scheduled(name).measured()).target_loss(alone, read)
    expected.backward()
    assert loss.item() == expected.item()
    assert torch.equal(both.table.grad, alone.table.grad)  # type: ignore[arg-type]


def test_rows_and_validation_are_those_of_the_objective_itself() -> None:
    built = scheduled("bce", window="last")
    assert (built.window, built.negatives_per_position, built.draws_by_row) == ("last", 1, False)
    assert scheduled(stride=3).stride == 3
    plain = built.measured()
    assert not isinstance(plain, ScheduledSampling)
    assert plain.drawn(window_batch()).redrawn_BL is None
    assert plain.measured() is plain


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=bert4rec"], "objective=cloze guesses events between others"),
        (["model=bsarec", "model.filter=row", "objective.window=prefixes"], "see the events that they would be asked"),
        (["hardware.table=sharded"], "draws from all items, and hardware.table=sharded gives each process a part"),
    ],
)
def test_what_cannot_read_its_own_answers_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says) as refusal:
        validate("train", compose("train", [*words, "objective.scheduled_sampling=linear"]))
    assert "\n" not in str(refusal.value)


def test_a_decay_without_sampling_is_refused() -> None:
    from seqrec_cli.commands.dispatch import record_of

    words = ["objective.scheduled_epochs=3"]
    with pytest.raises(SeqrecError, match=r"scheduled_epochs.*objective.scheduled_sampling=none"):
        record_of("train", compose("train", words), words)
