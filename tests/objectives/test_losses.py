"""The chunked softmax against torch's own, gradients included."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_cli.kernels import registry
from seqrec_cli.objectives import losses
from seqrec_cli.objectives.losses import chunk_rows, corpus_cross_entropy

CPU = torch.device("cpu")


def both(n: int, d: int, v: int, scale: float = 1.0, dtype: torch.dtype | None = None):
    """(ours, torch's): loss, gradient of queries, gradient of the table."""
    generator = torch.Generator().manual_seed(n * 1000 + v)
    queries = torch.randn(n, d, generator=generator)
    table = torch.randn(v + 1, d, generator=generator) * scale
    targets = torch.randint(1, v + 1, (n,), generator=generator)
    results = []
    for ours in (True, False):
        q, w = queries.clone().requires_grad_(), table.clone().requires_grad_()
        if ours:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                loss = corpus_cross_entropy(q, w, targets, chunk_mb=1)
        else:
            loss = F.cross_entropy(q @ w[1:].T, targets - 1)
        (3 * loss).backward()
        results.append((loss.detach(), q.grad, w.grad))
    return results


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 20), st.integers(2, 90))
def test_equals_torch_in_fp32(n, d, v) -> None:
    for ours, theirs in zip(*both(n, d, v), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.fixture
def in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's operators, on processors too where C makes fp32 products."""
    monkeypatch.setattr(registry, "_PRODUCTS", "0")


@pytest.mark.usefixtures("in_chunks")
def test_chunks_do_not_change_the_result(monkeypatch) -> None:
    monkeypatch.setattr(losses, "MOST_ROWS", 7)
    for ours, theirs in zip(*both(50, 8, 33), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("in_chunks")
def test_products_are_of_sizes_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, product = [], torch.mm

    def watched(queries: torch.Tensor, items: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        seen.append(len(queries))
        return product(queries, items, out=out)

    monkeypatch.setattr(torch, "mm", watched)
    monkeypatch.setattr(losses, "chunk_rows", lambda *given, **named: 150)
    torch.manual_seed(0)
    table = torch.randn(30, 5, requires_grad=True)
    for total, sizes in ((1, [64]), (64, [64]), (100, [128]), (130, [150]), (350, [128] * 3)):
        queries, targets = torch.randn(total, 5, requires_grad=True), torch.randint(1, 30, (total,))
        found = torch.autograd.grad(corpus_cross_entropy(queries, table, targets, chunk_mb=1), [queries, table])
        assert seen == sizes
        exact = torch.autograd.grad(F.cross_entropy(queries @ table[1:].T, targets - 1), [queries, table])
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-6)
        seen.clear()


def test_bf16_products_stay_close() -> None:
    (loss, dq, dw), (loss_, dq_, dw_) = both(400, 16, 300, scale=0.3, dtype=torch.bfloat16)
    assert loss.dtype == torch.float32
    assert abs(loss - loss_) < 5e-3
    for ours, theirs in ((dq, dq_), (dw, dw_)):
        assert (ours - theirs).norm() / theirs.norm() < 0.02
        assert ours.dtype == torch.float32


def test_padding_row_gets_no_gradient_and_no_probability() -> None:
    queries, table = torch.ones(4, 3, requires_grad=True), torch.zeros(6, 3)
    table[0] = 100.0
    table.requires_grad_()
    loss = corpus_cross_entropy(queries, table, torch.tensor([1, 2, 3, 4]), chunk_mb=1)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5))
    assert table.grad[0].abs().sum() == 0


@pytest.mark.usefixtures("in_chunks")
def test_far_target_saturates_its_loss_and_keeps_its_gradient() -> None:
    queries = torch.tensor([[1.0]], requires_grad=True)
    loss = corpus_cross_entropy(queries, torch.tensor([[0.0], [500.0], [0.0]]), torch.tensor([2]), chunk_mb=1)
    loss.backward()
    assert 87 < loss.item() < 88
    assert queries.grad.item() == pytest.approx(500.0)


def test_without_gradients_it_is_the_plain_loss() -> None:
    q, w, t = torch.randn(5, 4), torch.randn(9, 4), torch.tensor([1, 8, 3, 3, 2])
    with torch.no_grad():
        assert corpus_cross_entropy(q, w, t, chunk_mb=1).item() == pytest.approx(
            F.cross_entropy(q @ w[1:].T, t - 1).item()
        )


def test_chunk_follows_from_the_budget() -> None:
    assert chunk_rows(columns=1_000_000, itemsize=2, chunk_mb=256, device=CPU) == 134  # 2 MB a row
    assert chunk_rows(columns=3416, itemsize=2, chunk_mb=256, device=CPU) == losses.MOST_ROWS
    assert chunk_rows(columns=3416, itemsize=4, chunk_mb=256, device=CPU) == losses.MOST_FP32_ROWS
    assert chunk_rows(columns=3416, itemsize=2, chunk_mb=256, device=torch.device("cuda")) == 39_290
    assert chunk_rows(columns=10**9, itemsize=4, chunk_mb=1, device=CPU) == 1


@pytest.mark.parametrize("products", ["0", "1"])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_label_smoothing_equals_torch(monkeypatch, bias: bool, products: str) -> None:
    monkeypatch.setattr(losses, "MOST_ROWS", 7)
    monkeypatch.setattr(registry, "_PRODUCTS", products)
    results = []
    for ours in (True, False):
        generator = torch.Generator().manual_seed(0)
        q = torch.randn(50, 8, generator=generator).requires_grad_()
        w = torch.randn(34, 8, generator=generator).requires_grad_()
        b = torch.randn(34, generator=generator).requires_grad_()
        targets = torch.randint(1, 34, (50,), generator=generator)
        if ours:
            loss = corpus_cross_entropy(q, w, targets, chunk_mb=1, bias_V=b if bias else None, label_smoothing=0.2)
        else:
            logits = q @ w[1:].T + (b[1:] if bias else 0)
            loss = F.cross_entropy(logits, targets - 1, label_smoothing=0.2)
        (3 * loss).backward()
        results.append((loss.detach(), q.grad, w.grad, *([b.grad] if bias else [])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_label_smoothing_without_gradients() -> None:
    q, w, t = torch.randn(5, 4), torch.randn(9, 4), torch.tensor([1, 8, 3, 3, 2])
    with torch.no_grad():
        ours = corpus_cross_entropy(q, w, t, chunk_mb=1, label_smoothing=0.3).item()
    assert ours == pytest.approx(F.cross_entropy(q @ w[1:].T, t - 1, label_smoothing=0.3).item(), rel=1e-5)
