"""Rec-Denoiser: its masked attention by hand, the gradient of its masks by its equation, and the norm of Jacobians.

Legend: B rows, L events, M max_length, D width.
"""

from collections.abc import Callable

import pytest
import torch
import toy
from torch import Tensor

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.models.layers.denoising import MaskedBlock, MaskLogits, mask_of_rows, squared_jacobian
from seqrec_cli.models.recdenoiser import Model

M = 12


def model(**changes: object) -> Model:
    made = toy.toy_model("recdenoiser", **({"temperature": None} | changes))
    assert isinstance(made, Model)
    return made


def with_logits(made: Model) -> list[Tensor]:
    """Its mask's logits, given other numbers."""
    generator, found = torch.Generator().manual_seed(2), []
    for mask in made.masks:
        assert isinstance(mask, MaskLogits)
        mask.logit_P.data = torch.randn(M * M, generator=generator)
        found.append(mask.square)
    return found


def test_a_rows_last_event_is_the_windows_last() -> None:
    mask_MM = torch.arange(16.0).view(4, 4)
    rows_BLL = mask_of_rows(mask_MM, torch.tensor([3, 1, 4]), 4)
    assert torch.equal(rows_BLL[0, :3, :3], mask_MM[1:, 1:])
    assert rows_BLL[1, 0, 0] == 15
    assert torch.equal(rows_BLL[2], mask_MM)


def test_evaluation_keeps_probabilities_above_a_half_and_no_other() -> None:
    mask = MaskLogits(2, 0.9)
    torch.testing.assert_close(mask.square.sigmoid(), torch.full((2, 2), 0.9))
    mask.logit_P.data = torch.tensor([2.0, -1.0, 0.0, 1.0])
    kept = torch.tensor([2.0, 1.0]).sigmoid()
    torch.testing.assert_close(mask.expected(), torch.tensor([[kept[0], 0.0], [0.0, kept[1]]]))
    torch.testing.assert_close(mask.open(), torch.tensor([2.0, 0.0, 1.0]).sigmoid().sum())  # without (0, 1): later


def test_attention_is_the_softmax_times_the_mask() -> None:
    made, batch = model(heads=2, dropout=0.5, attention_dropout=0.5).eval(), toy.toy_batch()  # without dropout
    masks = [logit.sigmoid() * (logit > 0) for logit in with_logits(made)]
    row, length = 4, int(toy.toy_batch().lengths_B[4])
    assert made.positions.table is not None
    x_LD = made.items.weight[batch.items_BL[row, :length]] + made.positions.table.weight[:length].flip(0)
    for block, mask_MM in zip(made.blocks, masks, strict=True):
        assert isinstance(block, MaskedBlock)
        inner = block.norm_attention(x_LD)
        k, v = block.attention.key_value(inner).chunk(2, dim=-1)
        q, k, v = (y.unflatten(-1, (2, -1)).transpose(0, 1) for y in (block.attention.query(inner), k, v))
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = (q @ k.mT / 8**0.5).masked_fill(later, -torch.inf).softmax(-1) * mask_MM[M - length :, M - length :]
        assert block.attention.out is not None
        x_LD = x_LD + block.attention.out((weights @ v).transpose(0, 1).flatten(1))
        x_LD = x_LD + block.feed_forward(block.norm_feed_forward(x_LD))
    with torch.no_grad():
        torch.testing.assert_close(made.encode(batch)[row, :length], made.norm(x_LD), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.last(batch)[row], made.norm(x_LD[-1]), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_masks_is_that_of_the_paper() -> None:
    """And all other weights have that of the second pass."""
    made, batch, seen = model(smoothness=0.0).train(), toy.toy_batch(), []
    logits = with_logits(made)

    def loss() -> Tensor:
        assert made._drawn is not None
        seen.append([mask.clone() for mask in made._drawn])
        return toy._next_item_loss(made, batch)

    torch.manual_seed(5)
    estimated = made.estimated_loss(loss)
    gradients = torch.autograd.grad(estimated, list(made.parameters()))
    uniform, directions = made._draws(torch.device("cpu"))
    assert directions == []
    losses, others = [], []
    for masks in ([u > (-p).sigmoid() for u, p in zip(uniform, logits, strict=True)],
                  [u < p.sigmoid() for u, p in zip(uniform, logits, strict=True)]):  # fmt: skip
        assert all(torch.equal(a, b.float()) for a, b in zip(seen[len(losses)], masks, strict=True))
        made._drawn = [mask.float() for mask in masks]
        losses.append(toy._next_item_loss(made, batch))
        others = torch.autograd.grad(losses[-1], list(made.parameters()), allow_unused=True)
    torch.testing.assert_close(estimated, losses[1])
    names = [name for name, _ in made.named_parameters()]
    for name, ours, theirs in zip(names, gradients, others, strict=True):
        if name.startswith("masks"):
            nth = int(name.split(".")[1])
            expected = (losses[0] - losses[1]).detach() * (uniform[nth] - 0.5)
            torch.testing.assert_close(ours, expected.flatten(), rtol=1e-3, atol=1e-6)
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_estimate_is_without_bias() -> None:
    """Of one pair that matters, by all values of its U: the gradient is g'(phi) (loss with it - loss without)."""
    made, phi, totals = model(smoothness=0.0, blocks=1, max_length=12).train(), 0.7, []
    mask = made.masks[0]
    assert isinstance(mask, MaskLogits)
    mask.logit_P.data.fill_(40.0)
    mask.logit_P.data[0] = phi
    losses: Callable[[], Tensor] = lambda: made._masks()[0][0, 0] * 3.0 + 1.0  # noqa: E731
    steps = 400
    for nth in range(steps):
        uniform = torch.full((12, 12), (nth + 0.5) / steps)
        made._draws = lambda _, u=uniform: ([u], [])  # type: ignore[method-assign,misc]
        (gradient,) = torch.autograd.grad(made.estimated_loss(losses) + 0 * mask.logit_P.sum(), mask.logit_P)
        totals.append(gradient[0].item())
    share = torch.tensor(phi).sigmoid().item()
    assert sum(totals) / steps == pytest.approx(3.0 * share * (1 - share), rel=0.02)


def test_a_step_without_dropout_and_masks_has_the_same_draws_in_both_passes() -> None:
    made, batch = model(dropout=0.3, mask_open=1 - 1e-7, smoothness=0.0).train(), toy.toy_batch()
    found: list[float] = []

    def loss() -> Tensor:
        value = toy._next_item_loss(made, batch)
        found.append(value.item())
        return value

    made.estimated_loss(loss)
    assert found[0] == found[1]
    made.eval()
    assert made.estimated_loss(lambda: torch.tensor(2.0)).item() == 2.0


def test_masks_and_directions_are_drawn_anew_by_the_seed_of_a_step() -> None:
    made, found = model(), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        torch.rand(int(seed == 5))  # what else has been drawn does not matter
        found.append([draw for draws in made._draws(torch.device("cpu")) for draw in draws])
    first, again, other = found
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first[::2], first[1::2], strict=True))  # nor are layers alike


def test_the_norm_of_a_jacobian_is_estimated_without_bias() -> None:
    torch.manual_seed(3)
    block = MaskedBlock(3, 1, 4, drop=0.5, attention_drop=0.5, positions=None)
    x_BLD, mask_BLL = torch.randn(1, 3, 3), torch.ones(1, 3, 3)
    jacobian = torch.autograd.functional.jacobian(lambda x: block.eval()(x, mask_BLL), x_BLD)
    real_BL = torch.tensor([[True, True, False]])
    expected = jacobian[0, :2].square().sum().item() / 2  # type: ignore[index]
    estimates = [
        squared_jacobian(block.train(), x_BLD, mask_BLL, real_BL=real_BL, direction_MD=torch.randn(5, 3)).item()
        for _ in range(600)
    ]
    assert block.training
    assert sum(estimates) / len(estimates) == pytest.approx(expected, rel=0.1)


def test_what_is_added_to_the_loss() -> None:
    made, batch = model(sparsity=0.5, smoothness=2.0).train(), toy.toy_batch()
    logits = with_logits(made)
    penalty = made.penalty(batch)
    assert penalty is not None
    torch.testing.assert_close(penalty, 0.5 * sum(logit.sigmoid().tril().sum() for logit in logits))
    made.estimated_loss(lambda: toy._next_item_loss(made, batch))
    smooth = made.auxiliary_loss()
    assert smooth is not None
    smooth.backward()
    assert made.items.weight.grad is not None  # through the blocks' inputs
    assert made.auxiliary_loss() is None
    assert made.auxiliary_count(batch) == int(batch.lengths_B.sum())
    assert made.eval().penalty(batch) is None


def test_compilation_is_refused_in_a_line() -> None:
    said = "hardware.compile=true: model=recdenoiser takes gradients of gradients.*: set it to false"
    with pytest.raises(SeqrecError, match=said) as refused:
        validate("train", compose("train", ["model=recdenoiser", "hardware.compile=true"]))
    assert "\n" not in str(refused.value)
