"""Each objective from YAML to loss, on a model whose scores are known."""

import math
from pathlib import Path

import pytest
import torch

from seqrec_cli.config.compose import compose
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.objectives.contract import build_objective
from tests.shipped import shipped

CONF = Path(__file__).resolve().parents[2] / "conf" / "objective"


class Fixed(SequenceEncoder):
    """Hidden state = the current item's vector; the table is given."""

    def __init__(self, table_VD: torch.Tensor) -> None:
        super().__init__(Catalog(3, len(table_VD) - 1))
        self.table = torch.nn.Parameter(table_VD)

    def encode(self, batch: Batch) -> torch.Tensor:
        return self.table[batch.items_BL]

    def item_table(self) -> torch.Tensor:
        return self.table


class Clicks(Recommender):
    """Every candidate's logit is its own number; an auxiliary loss of 0.25."""

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        return items_BC.float()

    def auxiliary_loss(self) -> torch.Tensor:
        return torch.tensor(0.25)


def objective(name: str):
    plain = shipped("objective", name)
    built = build_objective(config_class("objective", name).from_plain(plain))
    built.prepare(torch.arange(7))
    return built


def window_batch() -> Batch:
    return Batch(
        users_B=torch.tensor([1, 2]),
        items_BL=torch.tensor([[1, 2, 3], [4, 0, 0]]),
        lengths_B=torch.tensor([3, 1]),
        targets_BL=torch.tensor([[2, 3, 4], [1, 0, 0]]),
        negatives_BLK=torch.tensor([[[5], [5], [6]], [[6], [5], [5]]]),
    )


def test_every_objective_has_numbers_and_builds() -> None:
    options = {path.stem: compose("train", [f"objective={path.stem}"]).objective.name for path in CONF.glob("*.yaml")}
    assert set(names("objective")) == set(options.values())
    assert {option for option, name in options.items() if option != name} == {
        "prefixes"
    }  # another setting of next_item
    for name in names("objective"):
        assert objective(name) is not None


def test_shift_averages_over_real_positions_only() -> None:
    table = torch.randn(7, 4)
    logits = table[[1, 2, 3, 4]] @ table[1:].T
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2, 3, 0]))
    assert objective("next_item").loss(Fixed(table), window_batch()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_bce_uses_the_negative_of_each_position() -> None:
    table = torch.randn(7, 4)
    expected = 0.0
    for now, after, other in [(1, 2, 5), (2, 3, 5), (3, 4, 6), (4, 1, 6)]:
        expected += math.log1p(math.exp(-table[now] @ table[after])) + math.log1p(math.exp(table[now] @ table[other]))
    assert objective("bce").loss(Fixed(table), window_batch()).item() == pytest.approx(expected / 4, rel=1e-5)


def test_click_leaves_out_absent_candidates_and_adds_the_auxiliary_loss() -> None:
    batch = Batch(
        users_B=torch.tensor([1]),
        items_BL=torch.tensor([[1]]),
        lengths_B=torch.tensor([1]),
        candidates_BC=torch.tensor([[3, 1, 0]]),
        labels_BC=torch.tensor([[1.0, 0.0, 0.0]]),
    )
    expected = (math.log1p(math.exp(-3)) + math.log1p(math.exp(1))) / 2 + 0.25
    assert objective("click").loss(Clicks(Catalog(1, 3)), batch).item() == pytest.approx(expected, rel=1e-5)
