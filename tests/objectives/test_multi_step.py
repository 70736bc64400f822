"""Several of the next events, each by a head of its own: against a loop over positions and steps."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from test_all_action import objective

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.objectives.all_action import discounted_mean
from seqrec_cli.objectives.multi_step import events_ahead
from tests.models import toy

TARGETS = torch.tensor([[2, 3, 4, 9, 2], [1, 7, 0, 0, 0]])
ITEMS = torch.tensor([[1, 2, 3, 4, 9], [4, 1, 0, 0, 0]])


def batch() -> Batch:
    return dataclasses.replace(Batch(torch.tensor([1, 2]), ITEMS, torch.tensor([5, 2])), targets_BL=TARGETS)


@pytest.mark.parametrize("temperature", [None, 0.5])
@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_equals_the_discounted_mean_of_every_head_s_cross_entropy(discount: float, temperature: float | None) -> None:
    model = toy.toy_model("sasrec", steps_ahead=3, init_std=0.5, temperature=temperature, item_bias=True).eval()
    assert isinstance(model, ItemEncoder)
    assert model.step_heads is not None
    loss = objective("multi_step", discount=discount).loss(model, batch())
    loss.backward()
    ours = [p.grad.clone() for p in model.step_heads.parameters() if p.grad is not None]
    hidden_BLD, table_VD = model.encode(batch()), model.item_table()
    terms = []
    for row, n in ((0, 5), (1, 2)):
        for at in range(n):
            total, weights = torch.zeros(()), 0.0
            for step in range(1, min(3, n - at) + 1):
                state_D = hidden_BLD[row, at] * (temperature or 1.0)
                if step > 1:
                    state_D = state_D + F.silu(model.step_heads.weights[step - 2](state_D))
                if temperature is not None:
                    state_D = F.normalize(state_D, dim=0) / temperature
                scores_V = table_VD[1:] @ state_D + model.bias_V[1:]  # type: ignore[index]
                weight = discount ** (step - 1)
                total = total + weight * F.cross_entropy(scores_V, TARGETS[row, at + step - 1] - 1)
                weights += weight
            terms.append(total / weights)
    plain = torch.stack(terms).mean()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    model.zero_grad()
    plain.backward()
    assert len(ours) == 4  # a weight and a bias for the second event and for the third
    for own, head in zip(ours, model.step_heads.parameters(), strict=True):
        torch.testing.assert_close(own, head.grad, rtol=1e-4, atol=1e-6)


def test_answers_are_those_of_the_first_event() -> None:
    model, plain = toy.toy_model("sasrec", steps_ahead=3).eval(), toy.toy_model("sasrec").eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "step_heads" not in key})
    assert torch.equal(model.score_corpus(toy.toy_batch()), plain.score_corpus(toy.toy_batch()))


def test_events_ahead_end_with_the_window() -> None:
    ahead = events_ahead(TARGETS, 3)
    assert ahead[0].tolist() == [[2, 3, 4], [3, 4, 9], [4, 9, 2], [9, 2, 0], [2, 0, 0]]
    assert ahead[1, :2].tolist() == [[1, 7, 0], [7, 0, 0]]
    assert events_ahead(TARGETS[:, :2], 5).shape == (2, 2, 5)  # more steps than a row has events


@pytest.mark.parametrize("horizon", [1, 3, 50])
def test_a_discount_weighs_the_events_of_one_state_s_future(horizon: int) -> None:
    vectors = torch.randn(2, 5, 4)
    found = discounted_mean(vectors, TARGETS, horizon=horizon, discount=0.5)
    for row, n in ((0, 5), (1, 2)):
        for at in range(n):
            weights = torch.tensor([0.5**nth for nth in range(min(horizon, n - at))])
            expected = (weights[:, None] * vectors[row, at : at + len(weights)]).sum(0) / weights.sum()
            torch.testing.assert_close(found[row, at], expected)
    assert torch.isfinite(found).all()


def test_the_loss_of_all_actions_takes_its_discount() -> None:
    model = toy.toy_model("sasrec", init_std=0.5).eval()
    alike, fading = (objective("all_action", horizon=3, discount=share).loss(model, batch()) for share in (1.0, 1e-6))
    assert fading.item() == pytest.approx(objective("next_item", negatives=None).loss(model, batch()).item(), rel=1e-4)
    assert abs(alike.item() - fading.item()) > 1e-3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["objective=multi_step"], "model.steps_ahead=1 has a head for the next alone; set model.steps_ahead=4"),
        (["model.steps_ahead=4"], "model.steps_ahead=4: objective=next_item trains no head of a further event"),
        (["model=ensemble", "objective=multi_step"], "model=ensemble has no heads for further events"),
        (
            ["objective=multi_step", "model.steps_ahead=2", "objective.window=prefixes"],
            "objective=multi_step learns from several of the next events",
        ),
    ],
)
def test_heads_and_objective_go_together(words: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says) as refusal:
        validate("train", compose("train", words))
    assert "\n" not in str(refusal.value)
