"""Click objective: label smoothing and the weight of positives, against their formulas."""

import math
from typing import Any

import pytest
import torch
from test_objectives import Clicks

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.objectives.contract import build_objective
from tests.shipped import shipped


def loss(**changes: Any) -> float:
    """Candidates 3 (clicked) and 1 (not), whose logits are 3 and 1; the third is absent."""
    plain = shipped("objective", "click")
    assert isinstance(plain, dict)
    batch = Batch(
        users_B=torch.tensor([1]),
        items_BL=torch.tensor([[1]]),
        lengths_B=torch.tensor([1]),
        candidates_BC=torch.tensor([[3, 1, 0]]),
        labels_BC=torch.tensor([[1.0, 0.0, 0.0]]),
    )
    built = build_objective(config_class("objective", "click").from_plain({**plain, **changes}))  # type: ignore[arg-type]
    return built.loss(Clicks(Catalog(1, 3)), batch).item() - 0.25  # the model's auxiliary loss


def expected(smoothing: float, weight: float) -> float:
    total = 0.0
    for logit, label in ((3, 1.0), (1, 0.0)):
        soft = label * (1 - smoothing) + smoothing / 2
        share = 1 / (1 + math.exp(-logit))
        total -= weight * soft * math.log(share) + (1 - soft) * math.log(1 - share)
    return total / 2


@pytest.mark.parametrize(("smoothing", "weight"), [(0.0, 1.0), (0.1, 1.0), (0.0, 4.0), (0.3, 0.5)])
def test_smoothing_and_weight_are_their_formula(smoothing: float, weight: float) -> None:
    found = loss(smoothing=smoothing, positive_weight=weight)
    assert found == pytest.approx(expected(smoothing, weight), rel=1e-5)


@pytest.mark.parametrize("changes", [{"smoothing": 1.0}, {"smoothing": -0.1}, {"positive_weight": 0.0}])
def test_impossible_values_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        loss(**changes)
