"""Fp32 products in C: on which processors, for which inputs, and a block, a loss and a model by them and by torch's
operators."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from beside_reference import close
from test_where_used import called
from torch import Tensor, nn

from seqrec_cli import machine
from seqrec_cli.kernels import registry
from seqrec_cli.kernels.attention.op import LONGEST, WIDEST, usable
from seqrec_cli.kernels.bias_activation_dropout.op import linear_activation_dropout
from seqrec_cli.kernels.bias_dropout_add_norm.op import linear_dropout_add, linear_dropout_add_norm
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.corpus_gradients import op as corpus_gradients
from seqrec_cli.kernels.linear.op import FEWEST_ROWS, linear
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.kernels.split_heads.op import pack_rows, split_heads
from seqrec_cli.models.layers.transformer import TransformerBlock
from seqrec_cli.objectives.losses import corpus_cross_entropy

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler here")
Products = Callable[[str], None]


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Products:
    return lambda on: monkeypatch.setattr(registry, "_PRODUCTS", on)


@pytest.mark.parametrize(
    ("vendor", "architecture", "in_c"),
    [
        ("AuthenticAMD", "x86_64", True),
        ("HygonGenuine", "AMD64", True),
        ("GenuineIntel", "x86_64", False),
        (None, "x86_64", False),
        (None, "arm64", False),
    ],
)
def test_the_processor_decides(
    vendor: str | None, architecture: str, in_c: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor: 0\n" + (f"vendor_id\t: {vendor}\n" if vendor else ""), encoding="utf-8")
    assert machine.processor_vendor(cpuinfo) == vendor
    assert machine.processor_vendor(tmp_path / "none") is None
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(registry, "processor_vendor", lambda: vendor)
    monkeypatch.setattr(registry, "_PRODUCTS", None)
    assert registry.products_in_c() == in_c
    monkeypatch.setattr(registry, "_PRODUCTS", "0" if in_c else "1")
    assert registry.products_in_c() != in_c


@needs_compiler
def test_layers_of_many_rows_in_fp32_are_fused(products: Products) -> None:
    layer, norm, stream = nn.Linear(4, 8), nn.LayerNorm(8), torch.randn(FEWEST_ROWS, 8)
    x = torch.randn(FEWEST_ROWS, 4)
    uses: dict[str, Callable[[Tensor], object]] = {
        "bias_activation_dropout": lambda x: linear_activation_dropout(layer, x, "gelu", 0.1),
        "bias_dropout_add": lambda x: linear_dropout_add(stream[: len(x)], layer, x, 0.1),
        "bias_dropout_add_norm": lambda x: linear_dropout_add_norm(stream[: len(x)], layer, x, 0.1, norm),
    }
    for name, use in uses.items():
        products("1")
        assert called(lambda use=use: use(x), low=False) == ["linear", name]  # type: ignore[misc]
        assert "linear" not in called(lambda use=use: use(x[1:]), low=False)  # type: ignore[misc]
        products("0")
        assert name not in called(lambda use=use: use(x), low=False)  # type: ignore[misc]
    products("1")
    assert called(lambda: split_heads((layer, layer), x[None], 2, 4), low=False) == ["linear"]
    assert called(lambda: linear(x, layer.weight, layer.bias), low=True) == []
    assert called(lambda: linear(x.double(), layer.weight.double(), None), low=False) == []


@needs_compiler
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_the_same_by_torchs_operations(norm: str, products: Products) -> None:
    torch.manual_seed(3)
    block = TransformerBlock(32, 4, 72, norm=norm, activation="gelu", drop=0.0)  # type: ignore[arg-type]
    x, grad = torch.randn(8, 40, 32), torch.randn(8, 40, 32)

    def run(on: str) -> list[Tensor]:
        products(on)
        leaf = x.clone().requires_grad_()
        made = block(leaf, causal=True)
        return [made.detach(), *torch.autograd.grad(made, [leaf, *block.parameters()], grad)]

    products("1")
    assert "linear" in called(lambda: block(x, causal=True), low=False)
    for mine, torchs in zip(run("1"), run("0"), strict=True):
        close(mine, torchs, 2e-5)


@needs_compiler
def test_attention_in_fp32_is_in_c_without_dropout_and_bias(products: Products) -> None:
    torch.manual_seed(5)
    q, k, v = (torch.randn(3, 2, 40, 8) for _ in range(3))
    mask_BT = torch.arange(40) < torch.tensor([[40], [3], [1]])
    ways: list[dict[str, Any]] = [{"causal": True, "mask_BT": None}, {"causal": False, "mask_BT": mask_BT}]
    for way in ways:
        found = []
        for on in ("1", "0"):
            products(on)
            leaves = [x.clone().requires_grad_() for x in (q, k, v)]
            made = attention(*leaves, drop=0.0, **way)
            found.append([made.detach(), *torch.autograd.grad(made.square().sum(), leaves)])
            names = ["attention"] if on == "1" else []
            assert called(lambda way=way: attention(q, k, v, drop=0.0, **way), low=False) == names  # type: ignore[misc]
        for mine, torchs in zip(*found, strict=True):
            close(mine, torchs, 2e-5)
    products("1")
    for more in ({"drop": 0.1}, {"drop": 0.0, "bias_AHLT": torch.zeros(1, 2, 40, 40)}):
        use = lambda more=more: attention(q, k, v, **ways[0], **more)  # noqa: E731
        assert "attention" not in called(use, low=False)  # type: ignore[arg-type]
    both = lambda: attention(q, k, v, causal=True, mask_BT=mask_BT, drop=0.0)  # noqa: E731
    assert called(both, low=False) == []
    assert called(lambda: attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), drop=0.0, **ways[0]), low=False) == [
        "masked_softmax_dropout"
    ]


@needs_compiler
def test_attention_that_c_has_not_is_left_to_torch(products: Products) -> None:
    products("1")
    x = torch.randn(2, 2, 6, 4)
    mask_BT = torch.ones(2, 6, dtype=torch.bool)

    def fits(q: Tensor = x, k: Tensor = x, v: Tensor = x, mask: Tensor | None = None, causal: bool = False) -> bool:
        return usable(q, k, v, mask_BT=mask, causal=causal)

    assert fits()
    assert fits(causal=True)
    assert fits(x[:, :, :3])
    assert fits(mask=mask_BT)
    assert not fits(x[:, :, :1])
    assert not fits(x[:, :, :3], causal=True)
    assert not fits(mask=mask_BT, causal=True)
    assert not fits(mask=mask_BT.float())
    assert not fits(x[:1])  # one row of queries for all
    assert not fits(v=x[..., :2])
    assert not fits(v=x.double())
    assert not fits(k=x[:, :, :0], v=x[:, :, :0])
    assert not fits(*[torch.empty(1, 1, LONGEST + 1, 1)] * 3)
    assert not fits(*[torch.empty(1, 1, 2, WIDEST + 1)] * 3)
    assert not fits(*[x.to("meta")] * 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fits()


@needs_compiler
@pytest.mark.parametrize("biased", [False, True])
def test_gradients_of_gradients(biased: bool, products: Products) -> None:
    """Of a layer's input and weight, as in the norm of a Jacobian."""
    torch.manual_seed(2)
    x, weight, direction = torch.randn(FEWEST_ROWS, 4), torch.randn(3, 4), torch.randn(FEWEST_ROWS, 3)
    found = []
    for on in ("1", "0"):
        products(on)
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        made = linear(*leaves, torch.ones(3, requires_grad=True) if biased else None).tanh()
        first = torch.autograd.grad(made, leaves, direction, create_graph=True)
        found.append([*torch.autograd.grad(sum(each.square().sum() for each in first), leaves)])  # type: ignore[arg-type]
    for mine, torchs in zip(*found, strict=True):
        close(mine, torchs, 2e-5)


@needs_compiler
def test_a_block_in_evaluation_has_no_gradients_to_make(products: Products) -> None:
    products("1")
    block = TransformerBlock(32, 4, 72, norm="pre", activation="relu", drop=0.1).eval()
    with torch.no_grad():
        assert not block(torch.randn(8, 40, 32), causal=True).requires_grad


@needs_compiler
@pytest.mark.parametrize("weighted", [False, True])
def test_the_softmax_over_the_corpus_is_in_c(weighted: bool, products: Products) -> None:
    torch.manual_seed(1)
    given = torch.randn(150, 9), torch.randn(70, 9), torch.randn(70)
    targets, weights = torch.randint(1, 70, (150,)), torch.rand(150) if weighted else None

    def run(on: str) -> list[Tensor]:
        products(on)
        q, table, bias = (x.clone().requires_grad_() for x in given)
        loss = corpus_cross_entropy(q, table, targets, chunk_mb=1, bias_V=bias, weights_N=weights)
        return [loss.detach(), *torch.autograd.grad(3 * loss, [q, table, bias])]

    products("1")
    q = given[0].clone().requires_grad_()
    assert called(lambda: corpus_cross_entropy(q, given[1], targets, chunk_mb=1), low=False) == ["corpus_gradients"]
    for mine, torchs in zip(run("1"), run("0"), strict=True):
        close(mine, torchs, 2e-5)
    products("1")
    large = torch.zeros(2**15 + 1, 9)  # 8 rows of scores are a megabyte, and C has 32 at least
    assert called(lambda: corpus_cross_entropy(q, large, targets, chunk_mb=1), low=False) == []
    enough = 4 * torch.get_num_threads()
    assert called(lambda: corpus_cross_entropy(q, large, targets, chunk_mb=enough), low=False) == ["corpus_gradients"]


@needs_compiler
def test_threads_share_the_memory_of_scores(products: Products, monkeypatch: pytest.MonkeyPatch) -> None:
    products("1")
    queries, table, seen = torch.randn(5, 3), torch.randn(9, 3), []

    def made(*given: Any) -> tuple[Any, ...]:
        seen.append(given[-1])
        return given[:4]

    monkeypatch.setattr(corpus_gradients, "_corpus_gradients", made)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert corpus_gradients.usable(queries, table, torch.float32, rows=96)
    assert not corpus_gradients.usable(queries, table, torch.float32, rows=95)
    corpus_gradients.corpus_gradients(queries, table, torch.ones(5).long(), bias_V=None, weights_N=None, rows=256)
    assert seen == [64]


@needs_compiler
def test_tensors_that_lie_otherwise_are_read_as_they_are(products: Products) -> None:
    """C takes addresses: of a transposed tensor, or one number in two, it would read others."""
    torch.manual_seed(4)
    rows, weight, far = torch.randn(6, FEWEST_ROWS), torch.randn(6, 5), torch.randn(5, FEWEST_ROWS)
    heads, queries, weights = torch.randn(4, 2, 3, 8, 40), torch.randn(9, 150), torch.rand(150, 2)
    table, targets = torch.randn(9, 70), torch.randint(1, 70, (150,))

    def run(on: str) -> list[Tensor]:
        products(on)
        x, of = rows.T.detach().requires_grad_(), weight.T.detach().requires_grad_()
        made = linear(x, of, None)
        found = [made.detach(), *torch.autograd.grad(made, [x, of], far.T)]
        qkv = [each.transpose(2, 3).detach().requires_grad_() for each in heads[:3]]
        attended = attention(*qkv, mask_BT=None, causal=True, drop=0.0)
        found += [attended.detach(), *torch.autograd.grad(attended, qkv, heads[3].transpose(2, 3))]
        q, items = queries.T.detach().requires_grad_(), table.T.detach().requires_grad_()
        loss = corpus_cross_entropy(q, items, targets, chunk_mb=1, weights_N=weights[:, 0])
        return [*found, loss.detach(), *torch.autograd.grad(loss, [q, items])]

    assert not any(each.is_contiguous() for each in (rows.T, heads[3].transpose(2, 3), queries.T, weights[:, 0]))
    for mine, torchs in zip(run("1"), run("0"), strict=True):
        close(mine, torchs, 2e-5)


@needs_compiler
def test_rows_are_packed_where_their_positions_are_many(products: Products) -> None:
    layer, lengths_B = nn.Linear(4, 4), torch.ones(FEWEST_ROWS // 8, dtype=torch.int64)
    for on, width, packed in (("1", 8, True), ("1", 7, False), ("0", 8, False)):
        products(on)
        assert (pack_rows(lengths_B, width, layer, layer.weight, step=lambda: 1) is not None) == packed


@needs_compiler
def test_far_targets_and_numbers_that_are_none(products: Products) -> None:
    """In C a loss does not saturate, and NaN shows in the loss of its own row."""
    products("1")
    q = torch.tensor([[1.0]], requires_grad=True)
    loss = corpus_cross_entropy(q, torch.tensor([[0.0], [500.0], [0.0]]), torch.tensor([2]), chunk_mb=1)
    loss.backward()
    assert loss.item() == pytest.approx(500.0)
    assert q.grad is not None
    assert q.grad.item() == pytest.approx(500.0)
    queries = torch.randn(40, 3)
    queries[7, 1] = float("nan")
    losses_N = torch.ops.seqrec.corpus_gradients(queries, torch.randn(9, 3), torch.ones(40).long(), None, None, 32)[0]
    assert losses_N[7].isnan()
    assert losses_N.isnan().sum() == 1
