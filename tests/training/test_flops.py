"""FLOPs against counts made by hand, and the law against whole batches."""

import numpy as np
import pytest
import torch
from planned import batch_of, built, config

from seqrec_cli.config.compose import groups
from seqrec_cli.models.parts import activation_unit, bend_native, native, pair_layer
from seqrec_cli.training.flops import Shapes, count_flops, step_flops
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.rehearsal import crop

CPU = {name: Precision(torch.device("cpu"), name) for name in ("fp32", "bf16")}  # type: ignore[arg-type]
D, F, ITEMS = 8, 16, 30
FITTED = [name for name in groups()["model"] if config([f"model={name}"]).model.capabilities.family != "closed_form"]
SASREC = ["model=sasrec", "model.embed_dim=8", "model.ffn_dim=16", "model.heads=2", "model.blocks=2"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sasrec_by_hand(precision: str) -> None:
    model, objective, _ = built(SASREC)
    batch = batch_of([5, 5, 5])
    tokens, pairs, targets, blocks = 15, 75, 15, 2
    forward_token = 2 * (4 * D * D + 2 * D * F)  # query, key and value, output; both feed-forward layers
    forward_pair = 2 * 2 * D  # weights, and what they gather
    by_hand = {
        "layers": 3 * blocks * tokens * forward_token,
        "attention": 3 * blocks * pairs * forward_pair,
        "targets": 3 * targets * 2 * D * ITEMS,
        "once": 0,
    }
    assert count_flops(model, objective, batch, CPU[precision]) == sum(by_hand.values())
    law = step_flops(model, objective, batch, CPU[precision])
    assert law.parts(Shapes.of_batch(batch)) == pytest.approx(by_hand, abs=1)


@pytest.mark.parametrize(
    "overrides",
    [
        [*SASREC, "model.norm=published", "model.attention_dropout=0.1"],
        [*SASREC, "objective=bce"],
        [*SASREC, "objective=sampled_softmax"],
        ["model=bst", "model.blocks=2", "model.heads=4", "model.embed_dim=8", "model.read_out=all"],
        ["model=bst"],
        ["model=din"],
        ["model=din", "objective.positions=false"],
    ],
    ids=lambda overrides: " ".join(overrides[-2:]),
)
def test_the_law_holds_for_whole_batches(overrides: list[str]) -> None:
    model, objective, rows = built(overrides)
    law = step_flops(model, objective, rows.largest(), CPU["fp32"])
    for batch in list(rows.epoch(0))[:3]:
        counted = count_flops(model, objective, batch, CPU["fp32"])
        assert law.total(Shapes.of_batch(batch))[0] == pytest.approx(counted, rel=1e-9)


@pytest.mark.parametrize("name", FITTED)
def test_the_law_holds_for_every_model(name: str) -> None:
    model, objective, rows = built([f"model={name}"])
    batch = rows.largest()
    law = step_flops(model, objective, batch, CPU["fp32"])
    other = crop(batch, 3, batch.items_BL.shape[1] - 1, None if batch.targets_BL is None else 3)
    counted = count_flops(model, objective, other, CPU["fp32"])
    assert counted > 0
    assert law.total(Shapes.of_batch(other))[0] == pytest.approx(counted, rel=1e-9)


@pytest.mark.parametrize("overrides", [[*SASREC, "model.dropout=0.5"], ["model=din", "model.activation=dice"]])
def test_counting_leaves_the_run_as_it_was(overrides: list[str]) -> None:
    model, objective, rows = built(overrides)
    model.eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    step_flops(model, objective, rows.largest(), CPU["fp32"])
    assert torch.equal(torch.rand(3), expected)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
@pytest.mark.parametrize("activation", ["prelu", "dice"])
def test_what_is_in_c_counts_as_torchs_products_do(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective, rows = built(["model=din", f"model.unit_activation={activation}"])
    batch, counted = rows.largest(), []
    for in_c in (True, False):
        if not in_c:
            monkeypatch.setattr(bend_native, "in_c", lambda x: False)
            monkeypatch.setattr(pair_layer, "_in_c", lambda *given: False)
            monkeypatch.setattr(activation_unit, "CACHED", 1 << 40)
        counted.append(count_flops(model, objective, batch, CPU["fp32"]))
    assert counted[0] == counted[1]


SIZES = [(np.array([1, 2]), np.array([1, 2])), (np.array([2, 2, 2]), np.array([2, 2, 2]))]


@pytest.mark.parametrize(
    ("padded", "candidates", "sums"),
    [
        (True, None, [5, 4 + 6, 8 + 12, 3 + 6, 6 + 12]),
        (False, None, [5, 3 + 6, 5 + 12, 3 + 6, 5 + 12]),
        (True, 3, [5, 4 + 6, 8 + 12, 3 * (4 + 6), 3 * (8 + 12)]),
        (False, 3, [5, 3 + 6, 5 + 12, 3 * (3 + 6), 3 * (5 + 12)]),
    ],
)
def test_shapes_count_padding_or_not(padded: bool, candidates: int | None, sums: list[int]) -> None:
    assert Shapes.of(SIZES, padded, candidates).terms().sum(0).tolist() == [2, *sums]


@pytest.mark.parametrize(
    "overrides", [SASREC, ["model=bst"], ["model=din"]], ids=lambda overrides: overrides[0].partition("=")[2]
)
def test_an_epochs_shapes_are_its_batches(overrides: list[str]) -> None:
    _, objective, rows = built(overrides)
    batches = list(rows.epoch(0))
    candidates = None if batches[0].candidates_BC is None else 1 + objective.negatives_per_row
    expected = np.concatenate([Shapes.of_batch(batch).terms() for batch in batches])
    assert np.array_equal(Shapes.of(rows.sizes(0), True, candidates).terms(), expected)


def test_shapes_of_a_step_in_parts_are_those_of_its_parts() -> None:
    _, _, rows = built(SASREC)
    expected = [sum(Shapes.of_batch(part).terms() for part in batch.parts(50)) for batch in rows.epoch(0)]
    got = Shapes.of(rows.sizes(0), True, None, 50).terms()
    assert np.array_equal(got[:, 1:], np.concatenate(expected)[:, 1:])
    whole = Shapes.of(rows.sizes(0), True, None).terms()
    assert got[:, 2].sum() < whole[:, 2].sum()
