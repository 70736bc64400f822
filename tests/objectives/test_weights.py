"""Weights of training targets: a batch's loss is the mean of weight x loss, by every objective that reads them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_objectives import Clicks, Fixed, window_batch

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.objective import ObjectiveConfig
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.objectives.contract import Objective, build_objective
from tests.shipped import shipped

CONFIGS: Any = {name: config_class("objective", name) for name in names("objective")}
WINDOWS = [
    name for name, config in CONFIGS.items() if config.capabilities.weights and config.capabilities.rows == "windows"
]
SHARED = ["position", "sequence", "batch"]


def built(name: str, **changes: Any) -> Objective:
    plain = shipped("objective", name)
    plain |= {"negatives": None} if plain.get("negatives") == "auto" else {}  # which the data decide
    cfg = CONFIGS[name].from_plain({**plain, **changes})
    assert isinstance(cfg, ObjectiveConfig)
    objective = build_objective(cfg)
    objective.prepare(torch.tensor([0, 3, 1, 4, 1, 5, 2]))
    return objective


def test_these_objectives_read_weights() -> None:
    assert sorted(WINDOWS) == ["bce", "bpr", "cloze", "codes", "distil", "dual", "gbce", "next_item", "sampled_softmax"]
    assert [name for name, cfg in CONFIGS.items() if not cfg.capabilities.weights] == [
        "all_action",
        "closed_form",
        "multi_step",
        "sampled_all_action",
    ]


def weighed(objective: Objective, batch: Batch, weights: torch.Tensor | None) -> tuple[float, torch.Tensor]:
    torch.manual_seed(0)
    model = Fixed(torch.randn(7, 4))
    loss = objective.target_loss(model, replace(batch, weights_BL=weights))
    loss.backward()
    assert model.table.grad is not None
    return loss.item(), model.table.grad


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("next_item", {}),
        ("next_item", {"smoothing": 0.2}),
        ("next_item", {"negatives": 4}),
        *((name, {"shared": shared, "sampling": "uniform"}) for name in ("bce", "bpr", "gbce") for shared in SHARED),
        *(
            ("sampled_softmax", {"shared": shared, "negatives": n, "sampling": "uniform"})
            for shared in SHARED
            for n in (2, 9)
        ),
        ("bce", {}),
    ],
)
def test_the_loss_is_the_weighted_mean_of_each_targets_own(name: str, changes: dict[str, Any]) -> None:
    objective = built(name, **changes)
    batch = objective.drawn(window_batch())
    weights = torch.tensor([[0.5, 2.0, 1.5], [3.0, 0.0, 0.0]])
    loss, gradient = weighed(objective, batch, weights)
    expected, expected_gradient, losses = 0.0, torch.zeros(7, 4), []
    for b, at in ((0, 0), (0, 1), (0, 2), (1, 0)):
        alone = torch.zeros(2, 3)
        alone[b, at] = 1
        own, own_gradient = weighed(objective, batch, alone)
        losses.append(own)
        expected += weights[b, at].item() * own
        expected_gradient += weights[b, at] * own_gradient
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    assert len({round(own, 6) for own in losses}) > 1
    plain, plain_gradient = weighed(objective, batch, None)
    ones, ones_gradient = weighed(objective, batch, torch.ones(2, 3))
    assert ones == pytest.approx(plain, rel=1e-6)
    assert sum(losses) == pytest.approx(plain, rel=1e-5)
    torch.testing.assert_close(ones_gradient, plain_gradient, rtol=1e-5, atol=1e-7)


def test_next_item_by_hand_and_without_gradients() -> None:
    torch.manual_seed(0)
    table = torch.randn(7, 4)
    each = F.cross_entropy(table[[1, 2, 3, 4]] @ table[1:].T, torch.tensor([1, 2, 3, 0]), reduction="none")
    expected = (each * torch.tensor([0.5, 2.0, 1.5, 3.0])).mean().item()
    batch = replace(window_batch(), weights_BL=torch.tensor([[0.5, 2.0, 1.5], [3.0, 0.0, 0.0]]))
    assert built("next_item").target_loss(Fixed(table), batch).item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        assert built("next_item").target_loss(Fixed(table), batch).item() == pytest.approx(expected, rel=1e-5)


def test_click_weighs_candidates() -> None:
    batch = Batch(
        users_B=torch.tensor([1, 2]),
        items_BL=torch.tensor([[1], [2]]),
        lengths_B=torch.tensor([1, 1]),
        candidates_BC=torch.tensor([[1, 2], [3, 0]]),
        labels_BC=torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        weights_BC=torch.tensor([[2.0, 2.0], [0.5, 0.5]]),
    )
    losses = [F.softplus(torch.tensor(-1.0)), F.softplus(torch.tensor(2.0)), F.softplus(torch.tensor(-3.0))]
    expected = (2 * losses[0] + 2 * losses[1] + 0.5 * losses[2]) / 3
    loss = built("click").target_loss(Clicks(Catalog(3, 6)), batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_objective_that_cannot_weigh_is_refused() -> None:
    overrides = ["dataset=csv", "dataset.archive=x", "dataset.weight_column=w", "model=ease"]
    with pytest.raises(SeqrecError, match=r"dataset\.weight_column: objective=closed_form counts all targets alike"):
        validate("train", compose("train", overrides))


def test_labels_need_a_protocol_that_reads_them() -> None:
    overrides = ["dataset=csv", "dataset.archive=x", "dataset.label_column=y"]
    with pytest.raises(SeqrecError, match=r"dataset\.label_column=y: protocol=leave_last .* set protocol=impressions"):
        validate("train", compose("train", overrides))
    with pytest.raises(SeqrecError, match=r"name its 0/1 labels in dataset\.label_column"):
        validate("train", compose("train", ["dataset=csv", "dataset.archive=x", "protocol=impressions"]))
