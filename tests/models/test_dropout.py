"""Dropout and the softmax with it, in C and in torch's operators."""

import math

import pytest
import torch
from torch import Tensor

from seqrec_cli.models.parts import dropout as module
from seqrec_cli.models.parts import native
from seqrec_cli.models.parts.dropout import Dropout, dropout, softmax

in_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
FORMATS = [torch.float32, torch.bfloat16]


@pytest.fixture(params=[pytest.param("c", marks=in_c), "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(module, "_compiled", lambda x: None)


@in_c
@pytest.mark.parametrize("dtype", FORMATS)
def test_where_a_compiler_is_the_passes_are_compiled(dtype: torch.dtype) -> None:
    assert module._compiled(torch.empty(1, dtype=dtype)) is not None


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_at_every_place(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(640_000, dtype=dtype, requires_grad=True)
    y = dropout(x, probability, training=True)
    dropped = round(probability * 256) / 256
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - dropped)))
    gone = (y == 0).float()
    error = 5 * math.sqrt(dropped * (1 - dropped) / 10_000)
    shares = gone.view(-1, 64).mean(0)  # a place of what is drawn at once, each
    assert (shares - dropped).abs().max() < error
    for apart in (1, 8, 16, 64, 1024):  # neighbours, of a word, of a group and of groups, know nothing of each other
        both = (gone[:-apart] * gone[apart:]).mean()
        assert abs(both - dropped**2) < error / 5
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


@pytest.mark.usefixtures("path")
def test_dropout_draws_anew_and_repeats_with_a_seed() -> None:
    x, layer = torch.ones(37, 5), Dropout(0.5)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.usefixtures("path")
def test_dropout_of_a_tiny_probability_still_drops() -> None:
    assert (dropout(torch.ones(20_000), 0.001, training=True) == 0).any()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", FORMATS)
def test_gradients_pass_where_values_did_in_any_layout(dtype: torch.dtype) -> None:
    x = torch.randn(7, 5, 11).to(dtype).transpose(0, 2).requires_grad_()
    y = dropout(x, 0.4, training=True)
    weights = torch.randn(11, 7, 5).to(dtype).transpose(1, 2)
    (y * weights).sum().backward()
    factors = torch.where(y == 0, 0.0, 256 / (256 - 102)).to(dtype)
    assert 0 < (factors == 0).sum() < x.numel()
    torch.testing.assert_close(y, x * factors, rtol=1e-2, atol=0)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weights * factors, rtol=1e-2, atol=0)


@in_c
def test_what_is_dropped_does_not_depend_on_the_threads() -> None:
    x, before, found = torch.randn(100_003), torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        found.append(dropout(x, 0.3, training=True))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def logits_of(keys: int) -> Tensor:
    torch.manual_seed(keys)
    logits = torch.randn(3, 50, keys) * 4
    logits[:, ::3, keys // 2 + 1 :] = torch.finfo(torch.bfloat16).min / 2  # masked
    return logits.bfloat16()


@in_c
@pytest.mark.parametrize("keys", [1, 16, 17, 107, 300])
def test_the_softmax_in_c_is_softmax(keys: int) -> None:
    logits, exact = logits_of(keys).requires_grad_(), logits_of(keys).float().requires_grad_()
    got, expected = softmax(logits, 0.0), exact.softmax(-1)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, rtol=2**-8, atol=1e-30)
    assert (got[:, ::3, keys // 2 + 1 :] == 0).all()
    weights = torch.randn(3, 50, keys).bfloat16()
    (got * weights).sum().backward()
    (expected * weights.float()).sum().backward()
    assert logits.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logits.grad.float(), exact.grad, rtol=0.02, atol=0.01)


@in_c
@pytest.mark.parametrize("keys", [5, 107])
def test_dropout_of_the_softmax_acts_alike_in_both_passes(keys: int) -> None:
    logits, exact = logits_of(keys).requires_grad_(), logits_of(keys).float().requires_grad_()
    left, probabilities = softmax(logits, 0.25), exact.softmax(-1)
    factors = torch.where(left == 0, 0.0, 256 / 192)
    dropped = (factors == 0)[:, 1::3].float()
    assert dropped.mean().item() == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / dropped.numel()))
    torch.testing.assert_close(left.float(), probabilities * factors, rtol=2**-8, atol=1e-30)
    weights = torch.randn(3, 50, keys).bfloat16()
    (left * weights).sum().backward()
    (probabilities * factors * weights.float()).sum().backward()
    assert logits.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logits.grad.float(), exact.grad, rtol=0.02, atol=0.01)
    assert not torch.equal(softmax(logits, 0.25), left)


@in_c
def test_what_is_no_number_shows() -> None:
    logits = logits_of(20)
    logits[1, 4, 2] = float("nan")
    found = softmax(logits, 0.0)
    assert found[1, 4].isnan().all()
    assert found.isnan().sum() == 20
    x = torch.ones(100, dtype=torch.bfloat16)
    x[3], x[4] = float("nan"), float("inf")
    y = dropout(x, 0.01, training=True)
    assert y[3].isnan()
    assert y[4].isinf() or y[4].isnan()


@in_c
def test_rows_too_long_for_a_stack_and_other_formats_are_left_to_torch() -> None:
    cpu, low = torch.device("cpu"), torch.bfloat16
    assert module.softmax_in_c(low, cpu, module.LONGEST)
    assert not module.softmax_in_c(low, cpu, module.LONGEST + 1)
    assert not module.softmax_in_c(torch.float32, cpu, 5)
    assert not module.softmax_in_c(low, torch.device("meta"), 5)


@in_c
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("drop", [0.0, 0.25])
@pytest.mark.parametrize("keys", [5, 16, 107])
def test_keys_that_are_not_seen_have_no_weight_and_no_gradient(
    keys: int, drop: float, masked: bool, causal: bool
) -> None:
    """Two rows of three heads."""
    torch.manual_seed(keys)
    logits = (torch.randn(6, keys, keys) * 3).bfloat16().requires_grad_()
    exact = logits.detach().float().requires_grad_()
    real_BT = torch.rand(2, keys) < 0.7 if masked else None
    seen = torch.ones(2, 1, keys, keys, dtype=torch.bool)
    if causal:
        seen = seen.tril()
    if real_BT is not None:
        real_BT[:, 0] = True
        seen = seen & real_BT[:, None, None]
    left = softmax(logits, drop, real_BT, causal, scale=0.5)
    expected = (0.5 * exact.view(2, 3, keys, keys)).masked_fill(~seen, -torch.inf).softmax(-1).view_as(exact)
    factors = torch.where(left == 0, 0.0, 256 / 192) if drop else torch.ones(())
    torch.testing.assert_close(left.float(), expected * factors, rtol=2**-8, atol=1e-30)
    weights = torch.randn(6, keys, keys).bfloat16()
    (left * weights).sum().backward()
    (expected * factors * weights.float()).sum().backward()
    assert logits.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logits.grad.float(), exact.grad, rtol=0.02, atol=0.01)
    assert not logits.grad.view(2, 3, keys, keys)[~seen.expand(2, 3, keys, keys)].any()


@in_c
def test_where_no_key_is_seen_all_have_the_same_weight() -> None:
    real_BT = torch.tensor([[False] * 4, [True] * 4])
    found = softmax(torch.randn(2, 3, 4).bfloat16(), 0.0, real_BT, causal=False, scale=1.0)
    assert torch.equal(found[0], torch.full((3, 4), 0.25).bfloat16())
    assert not torch.equal(found[1], found[0])
