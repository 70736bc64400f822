"""BCE, gBCE and BPR against their papers' formulas, one position at a time, however negatives are drawn and shared."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_objectives import Fixed

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives import sampled_losses, sampled_objective
from seqrec_cli.objectives.contract import build_objective
from seqrec_cli.objectives.gbce import power
from seqrec_cli.objectives.sampled_objective import SampledObjective
from seqrec_cli.objectives.samplers import build_sampler
from tests.shipped import shipped

V, D, K = 12, 5, 6
COUNTS_V = torch.tensor([0, 5, 0, 1, 9, 2, 2, 7, 1, 4, 3, 8, 6])
NAMES = ["bce", "gbce", "bpr"]


class Biased(Fixed):
    """With an item bias."""

    def __init__(self, table_VD: torch.Tensor) -> None:
        super().__init__(table_VD)
        self.bias = torch.nn.Parameter(torch.linspace(-1, 1, len(table_VD)))

    def item_bias(self) -> torch.Tensor:
        return self.bias


def objective(name: str, **changes: Any) -> SampledObjective:
    plain = shipped("objective", name)
    assert isinstance(plain, dict)
    built = build_objective(config_class("objective", name).from_plain({**plain, "negatives": K, **changes}))  # type: ignore[arg-type]
    assert isinstance(built, SampledObjective)
    built.prepare(COUNTS_V)
    return built


def batch(negatives: torch.Tensor | None = None) -> Batch:
    return Batch(
        users_B=torch.tensor([1, 2]),
        items_BL=torch.tensor([[1, 2, 3], [4, 0, 0]]),
        lengths_B=torch.tensor([3, 1]),
        targets_BL=torch.tensor([[2, 3, 4], [1, 0, 0]]),
        negatives_BLK=negatives,
    )


def formula(name: str, own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """A position's loss; `others` are the scores of the negatives that count, of K drawn. In double precision."""
    if name == "bpr":
        return -torch.sigmoid(own - others).log().sum() / K
    terms = -(1 - torch.sigmoid(others)).log().sum()
    if name == "bce":
        return terms - torch.sigmoid(own).log()
    alpha = K / (V - 1)
    beta = alpha * (0.75 * (1 - 1 / alpha) + 1 / alpha)
    return (terms - (torch.sigmoid(own) ** beta).log()) / (K + 1)


def by_loop(name: str, model: Fixed, queries_items: list[int], targets: list[int], negatives) -> torch.Tensor:
    table = model.table.double()
    bias = model.item_bias()
    bias = torch.zeros(V + 1).double() if bias is None else bias.double()
    losses = []
    for at, target, drawn in zip(queries_items, targets, negatives, strict=True):
        scores = table @ table[at] + bias
        kept = [k for k in drawn.tolist() if k not in (0, target)]
        losses.append(formula(name, scores[target], scores[kept]))
    return torch.stack(losses).mean()


def grads(model: Fixed, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(("chunk", "few", "rows"), [(1, 8, 64), (2**20, 8, 64), (2**20, 8, 0), (2**20, 0, 0)])
@pytest.mark.parametrize("kind", [Fixed, Biased])
@pytest.mark.parametrize("shared", ["position", "sequence", "batch"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_those_of_the_paper(
    monkeypatch, name: str, shared: str, kind: type, chunk: int, few: int, rows: int
) -> None:
    """By each way to score a position's own negatives: all items, vectors copied, vectors looked up."""
    monkeypatch.setattr(sampled_losses, "CHUNK", chunk)
    monkeypatch.setattr(sampled_losses, "TABLE_ROWS_A_NEGATIVE", rows)
    monkeypatch.setattr(sampled_objective, "FEW", few)
    torch.manual_seed(1)
    table = torch.randn(V + 1, D)
    table[0] = 0
    model, window = kind(table), batch()
    built = objective(name, sampling="uniform", shared=shared)
    torch.manual_seed(5)
    loss = built.loss(model, window)
    ours = grads(model, loss)

    torch.manual_seed(5)
    sampler = build_sampler("uniform", COUNTS_V, 0.5)
    assert sampler is not None
    drawn = sampler.draw({"position": 6, "sequence": 2, "batch": 1}[shared], K, torch.tensor([2, 3, 4, 1]))
    each = drawn[{"position": [0, 1, 2, 3], "sequence": [0, 0, 0, 1], "batch": [0, 0, 0, 0]}[shared]]
    plain = by_loop(name, model, [1, 2, 3, 4], [2, 3, 4, 1], each)
    theirs = grads(model, plain)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared", ["position", "sequence"])
@pytest.mark.parametrize("name", NAMES)
def test_unmet_negatives_come_with_the_batch(name: str, shared: str) -> None:
    torch.manual_seed(1)
    model = Fixed(torch.randn(V + 1, D))
    negatives = torch.randint(5, V + 1, (2, 3 if shared == "position" else 1, K))
    negatives[0, 0, 2] = 0
    built = objective(name, sampling="unseen", shared=shared)
    assert built.negatives_per_position == K
    assert built.draws_by_row == (shared == "sequence")
    rows = negatives.expand(2, 3, K).flatten(0, 1)[[0, 1, 2, 3]]
    expected = by_loop(name, model, [1, 2, 3, 4], [2, 3, 4, 1], rows)
    assert built.loss(model, batch(negatives)).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_sharing_changes_no_expectation(name: str) -> None:
    """Over many draws the losses of shared and of own negatives have the same mean."""
    torch.manual_seed(1)
    model, means = Fixed(0.5 * torch.randn(V + 1, D)), []
    for shared in ("position", "sequence", "batch"):
        built = objective(name, sampling="uniform", shared=shared, negatives=2)
        with torch.no_grad():
            means.append(sum(built.loss(model, batch()).item() for _ in range(1500)) / 1500)
    assert means == pytest.approx([means[0]] * 3, rel=0.03)


def test_gbce_is_calibrated_by_its_power() -> None:
    assert power(256, 3417, 0.0) == 1.0
    assert power(256, 3417, 1.0) == pytest.approx(256 / 3416)
    assert power(256, 3417, 0.75) == pytest.approx(256 / 3416 * (0.75 * (1 - 3416 / 256) + 3416 / 256))
    assert power(50, 10, 1.0) == 1.0


def test_gbce_at_t_0_is_the_binary_cross_entropy() -> None:
    model = Fixed(torch.randn(V + 1, D))
    losses = []
    for name, changes in (("bce", {}), ("gbce", {"t": 0.0})):
        torch.manual_seed(3)
        losses.append(objective(name, sampling="uniform", shared="sequence", **changes).loss(model, batch()).item())
    assert losses[1] * (K + 1) == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_far_scores_stay_finite(name: str) -> None:
    """Where the probability itself would be 0 or 1 in fp32."""
    for sign in (1.0, -1.0):
        model = Fixed(torch.cat([torch.zeros(1, D), sign * 20 * torch.ones(6, D), -20 * torch.ones(6, D)]))
        loss = objective(name, sampling="uniform", shared="batch").loss(model, batch())
        loss.backward()
        assert math.isfinite(loss.item())
        assert model.table.grad is not None
        assert torch.isfinite(model.table.grad).all()


@pytest.mark.parametrize("shared", ["position", "sequence", "batch"])
def test_bf16_products_stay_close(shared: str) -> None:
    model, losses = Fixed(torch.randn(V + 1, D)), []
    for mixed in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            losses.append(objective("gbce", sampling="uniform", shared=shared).loss(model, batch()))
    assert losses[1].dtype == torch.float32
    assert losses[0].item() != losses[1].item() == pytest.approx(losses[0].item(), abs=0.02)


def test_all_targets_of_a_batch_but_padding_alone_give_no_gradient() -> None:
    model = Fixed(torch.randn(V + 1, D))
    empty = replace(batch(), targets_BL=torch.zeros(2, 3, dtype=torch.int64))
    loss = objective("bce", sampling="uniform", shared="sequence").loss(model, empty)
    loss.backward()
    assert loss.item() == 0
    assert not model.table.grad.any()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["objective=gbce", "objective.sampling=popularity"], "calibration of gbce holds for uniform"),
        (["objective=bce", "objective.shared=batch"], "share no unseen items"),
        (
            [
                "objective=sampled_softmax",
                "objective.sampling=unseen",
                "objective.shared=sequence",
                "objective.log_q=all",
            ],
            "do not stand for",
        ),
        (
            [
                "objective=sampled_all_action",
                "objective.sampling=unseen",
                "objective.shared=sequence",
                "objective.log_q=all",
            ],
            "do not stand for",
        ),
        (["objective=sampled_all_action", "objective.negatives=1"], "leaves none of one kind"),
        (["objective=gbce", "model=bert4rec"], "objective=gbce cannot train model=bert4rec"),
        (["objective=all_action", "model=bert4rec"], "objective=all_action cannot train model=bert4rec"),
        (["objective=bpr", "model=din"], "objective=bpr cannot train model=din"),
        (["objective=all_action", "hardware.embedding=sparse"], "all_action needs the whole item table"),
    ],
)
def test_impossible_pairs_are_refused_by_name(overrides: list[str], words: str) -> None:
    with pytest.raises(SeqrecError, match=words):
        validate("train", compose("train", overrides))


def test_scores_are_the_model_s_own() -> None:
    """What is trained is what `score` ranks by, bias included."""
    model = Biased(torch.randn(V + 1, D))
    window = batch(torch.full((2, 1, 1), 7))
    loss = objective("bce", negatives=1, sampling="unseen", shared="sequence").loss(model, window).item()
    last_only = Batch(window.users_B, window.items_BL, window.lengths_B)
    scores_BV = model.score_corpus(last_only)
    rows = [model.score_corpus(Batch(torch.tensor([1]), torch.tensor([[i]]), torch.tensor([1])))[0] for i in (1, 2)]
    scores = torch.stack([*rows, *scores_BV])
    own = scores[torch.arange(4), torch.tensor([2, 3, 4, 1])]
    assert loss == pytest.approx((F.softplus(-own) + F.softplus(scores[:, 7])).mean().item(), rel=1e-5)
