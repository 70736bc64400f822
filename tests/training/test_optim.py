"""Decay groups, the learning rate as fractions, and the order of unscale, clip and step."""

from fractions import Fraction

import pytest
import torch
from torch import nn
from training_toys import settings, toy_model, update

from seqrec_cli.training.optim import build_optimizer, learning_rate, parameter_groups


def test_biases_norms_and_embedding_tables_do_not_decay() -> None:
    model = toy_model()
    decayed, undecayed = parameter_groups(model)
    name_of = {id(p): name for name, p in model.named_parameters()}
    assert {name_of[id(p)] for p in decayed} == {"layer.weight", "out.weight"}
    assert {name_of[id(p)] for p in undecayed} == {
        "items.weight", "layer.bias", "norm.weight", "norm.bias", "out.bias",
    }  # fmt: skip


def test_with_decay_embeddings_tables_decay_too() -> None:
    model = toy_model()
    decayed, undecayed = parameter_groups(model, decay_embeddings=True)
    assert any(p is model.items.weight for p in decayed)
    assert all(p.ndim == 1 for p in undecayed)
    before = model.items.weight.detach().clone()
    optimizer = build_optimizer(model, settings(weight_decay=0.5, decay_embeddings=True))
    zero = sum(p.sum() for p in model.parameters()) * 0.0
    update(zero, optimizer, torch.amp.GradScaler("cpu", enabled=False), lr=0.1, clip_norm=None)
    torch.testing.assert_close(model.items.weight.detach(), before * (1 - 0.1 * 0.5))  # w - lr * decay * w


def test_a_tied_table_is_one_parameter_and_frozen_ones_are_left_out() -> None:
    model = toy_model()
    model.out.weight = model.items.weight
    model.layer.weight.requires_grad_(False)
    decayed, undecayed = parameter_groups(model)
    assert decayed == []
    assert sum(p is model.items.weight for p in undecayed) == 1
    groups = build_optimizer(model, settings()).param_groups
    assert [g["weight_decay"] for g in groups] == [0.0]


def test_decay_shrinks_matrices_alone() -> None:
    model = toy_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, settings(weight_decay=0.5))
    zero = sum(p.sum() for p in model.parameters()) * 0.0
    update(zero, optimizer, torch.amp.GradScaler("cpu", enabled=False), lr=0.1, clip_norm=None)
    for name, p in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in ("layer.weight", "out.weight") else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


@pytest.mark.parametrize(
    ("step", "fraction"),
    [(1, Fraction(1, 4)), (2, Fraction(1, 2)), (4, Fraction(1)), (8, Fraction(11, 20)), (12, Fraction(1, 10))],
)
def test_warmup_then_cosine(step: int, fraction: Fraction) -> None:
    # 4 steps of warm-up, 8 of cosine from 1 to 1/10: halfway (step 8) stands at (1 + 1/10) / 2 = 11/20
    cfg = settings(lr=0.2, warmup_steps=4, final_lr=0.1)
    assert learning_rate(cfg, step, 12) == pytest.approx(0.2 * float(fraction), rel=1e-12)


def test_constant_schedule_and_no_warmup() -> None:
    cfg = settings(lr=0.2, warmup_steps=2, schedule="constant")
    assert [learning_rate(cfg, step, 5) for step in (1, 2, 3, 5)] == [0.1, 0.2, 0.2, 0.2]
    assert learning_rate(settings(lr=0.2, warmup_steps=0, final_lr=0.0), 4, 4) == 0.0
    assert learning_rate(settings(lr=0.2, warmup_steps=10), 4, 4) == pytest.approx(0.2 * 4 / 10)


def linear_with_gradient(value: float) -> tuple[nn.Linear, torch.Tensor]:
    layer = nn.Linear(2, 2, bias=False)
    return layer, (layer.weight * value).sum()  # every gradient entry is `value`: its norm is 2 * value


@pytest.mark.parametrize(("clip", "entry"), [(None, 6.0), (3.0, 1.5), (100.0, 6.0)])
@pytest.mark.parametrize("fp16", [False, True])
def test_gradients_are_clipped_after_unscaling(clip: float | None, entry: float, fp16: bool) -> None:
    layer, loss = linear_with_gradient(6.0)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    update(loss, optimizer, torch.amp.GradScaler("cpu", enabled=fp16), lr=0.5, clip_norm=clip)
    torch.testing.assert_close(before - layer.weight.detach(), torch.full((2, 2), 0.5 * entry))
    assert layer.weight.grad is None


def test_fp16_leaves_out_a_step_that_overflowed_and_lowers_the_scale() -> None:
    model = toy_model()
    optimizer, scaler = build_optimizer(model, settings()), torch.amp.GradScaler("cpu")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    scale = scaler.get_scale()
    overflowing = sum(p.sum() for p in model.parameters()) * 1e35  # finite; times the scale it is not
    update(overflowing, optimizer, scaler, lr=0.1, clip_norm=1.0)
    assert scaler.get_scale() == scale / 2
    assert all(torch.equal(p.detach(), before[name]) for name, p in model.named_parameters())
    update(sum(p.sum() for p in model.parameters()), optimizer, scaler, lr=0.1, clip_norm=1.0)
    assert not any(torch.equal(p.detach(), before[name]) for name, p in model.named_parameters())
