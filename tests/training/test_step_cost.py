"""What a step costs: bytes and FLOPs against counts made by hand, and real steps for the clock."""

import pytest
import torch
from configured import batch_of, built, config

from seqrec_cli.data.batch import count_targets
from seqrec_cli.kernels import build, registry
from seqrec_cli.models.layers import activation_unit
from seqrec_cli.training import step_cost
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.step_cost import count_flops, peak_bytes, timed_steps

CPU = {name: Precision(torch.device("cpu"), name) for name in ("fp32", "bf16")}  # type: ignore[arg-type]
D, F, ITEMS = 8, 16, 30
SASREC = ["model=sasrec", "model.embed_dim=8", "model.ffn_dim=16", "model.heads=2", "model.blocks=2"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_flops_of_sasrec_by_hand(precision: str) -> None:
    model, objective, _ = built(SASREC)
    tokens, pairs, targets, blocks = 15, 75, 15, 2
    forward_token = 2 * (4 * D * D + 2 * D * F)  # query, key and value, output; both feed-forward layers
    forward_pair = 2 * 2 * D  # weights, and what they gather
    by_hand = 3 * (blocks * (tokens * forward_token + pairs * forward_pair) + targets * 2 * D * ITEMS)
    assert count_flops(model, objective, batch_of([5, 5, 5]), precision=CPU[precision]) == by_hand


@pytest.mark.skipif(build.compiler() is None, reason="no C compiler here")
@pytest.mark.parametrize("activation", ["prelu", "dice"])
def test_fused_kernels_count_as_torchs_products_do(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective, rows = built(["model=din", f"model.unit_activation={activation}"])
    batch = rows.largest()
    with_kernels = count_flops(model, objective, batch, precision=CPU["fp32"])
    monkeypatch.setattr(registry, "_on", False)
    monkeypatch.setattr(activation_unit, "CACHED", 1 << 40)  # nothing is computed again in the backward pass
    assert with_kernels == count_flops(model, objective, batch, precision=CPU["fp32"]) > 0


class Product(torch.nn.Module):
    """One product of the events with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(5, 7))

    def trainable_models(self) -> "tuple[Product, ...]":
        return (self,)

    def loss(self, model: "Product", batch: object) -> torch.Tensor:
        return (batch.items_BL.float() @ self.weight).sum()  # type: ignore[attr-defined]


def test_peak_of_one_product_by_hand() -> None:
    """In the backward pass: the loss with its gradient and their stack, the inputs, and the weight's gradient, before
    and after it is turned."""
    model = Product()
    inputs, outputs, gradient = 4 * 3 * 5, 4 * 3 * 7, 4 * 5 * 7
    peak = peak_bytes(model, model, batch_of([5, 5, 5]), precision=CPU["fp32"])  # type: ignore[arg-type]
    assert inputs + max(outputs, gradient) <= peak <= inputs + 2 * outputs + gradient


def test_the_peak_grows_with_the_rows() -> None:
    model, objective, rows = built(["model=sasrec", "trainer.batch_size=32"])
    batch = rows.largest()
    few, many = (peak_bytes(model, objective, batch.part(0, n), precision=CPU["fp32"]) for n in (8, 32))
    assert few < many < 4 * few


@pytest.mark.parametrize("overrides", [[*SASREC, "model.dropout=0.5"], ["model=din", "model.activation=dice"]])
def test_measuring_leaves_the_run_as_it_was(overrides: list[str]) -> None:
    model, objective, rows = built(overrides)
    model.eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    count_flops(model, objective, rows.largest(), precision=CPU["fp32"])
    peak_bytes(model, objective, rows.largest(), precision=CPU["fp32"])
    assert torch.equal(torch.rand(3), expected)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_timed_steps_are_real_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective, rows = built(["model=sasrec"])
    cfg, before = config(["model=sasrec"]).trainer, model.item_table().clone()  # type: ignore[operator]
    monkeypatch.setattr(step_cost, "TIMED_SECONDS", 60.0)
    tokens_P, targets_P, seconds_P = timed_steps(model, objective, rows, cfg=cfg, precision=CPU["fp32"])
    sizes = [batch.items_BL.numel() for batch in rows.epoch(0)]
    assert tokens_P.tolist() == [*sizes, *sizes][step_cost.WARM_UP_STEPS :]
    assert targets_P.sum() == sum(map(count_targets, [*rows.epoch(0), *rows.epoch(0)][step_cost.WARM_UP_STEPS :]))
    assert (seconds_P > 0).all()
    assert not torch.equal(model.item_table(), before)  # type: ignore[operator]
    monkeypatch.setattr(step_cost, "TIMED_SECONDS", 0.0)
    assert len(timed_steps(model, objective, rows, cfg=cfg, precision=CPU["fp32"])[0]) == 1
