"""Which inputs the C code gets and which torch's operations; a transformer block by both; odd inputs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from seqrec_cli import kernels
from seqrec_cli.kernels.bias_activation_dropout.op import linear_activation_dropout
from seqrec_cli.kernels.bias_activation_dropout.reference import ACTIVATIONS
from seqrec_cli.kernels.bias_dropout_add_norm.op import linear_dropout_add, linear_dropout_add_norm
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.dropout.op import dropout
from seqrec_cli.kernels.embed_norm_dropout.op import embed_norm_dropout
from seqrec_cli.kernels.gru_scan.op import gru_scan
from seqrec_cli.kernels.masked_softmax_dropout.op import LONGEST, attention, usable
from seqrec_cli.kernels.pair_linear.op import pair_linear
from seqrec_cli.kernels.prelu_dice.op import prelu
from seqrec_cli.kernels.registry import WIDEST
from seqrec_cli.kernels.split_heads.op import join_heads, split_heads
from seqrec_cli.models.layers.transformer import TransformerBlock

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler here")
BF16 = torch.bfloat16


class OperatorNames(TorchDispatchMode):
    """Collects the names of this package's operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "seqrec":
            self.names.append(func._opname)
        return func(*args, **(kwargs or {}))


def called(function: Callable[[], object], low: bool = True) -> list[str]:
    """The package's operators that a function calls, under bf16 autocast if `low`."""
    with torch.autocast("cpu", BF16, enabled=low), OperatorNames() as seen:
        function()
    return seen.names


@pytest.fixture
def switch() -> Iterator[Callable[[bool], None]]:
    yield kernels.use
    kernels.use(True)


def test_layers_in_bf16_are_fused(switch: Callable[[bool], None]) -> None:
    layer, norm, x, stream = nn.Linear(4, 8), nn.LayerNorm(8), torch.randn(3, 4), torch.randn(3, 8).to(BF16)
    uses: dict[str, Callable[[nn.Linear, Tensor, Tensor], object]] = {
        "bias_activation_dropout": lambda layer, x, stream: linear_activation_dropout(layer, x, "gelu", 0.1),
        "bias_dropout_add": lambda layer, x, stream: linear_dropout_add(stream, layer, x, 0.1),
        "bias_dropout_add_norm": lambda layer, x, stream: linear_dropout_add_norm(stream, layer, x, 0.1, norm),
        "split_heads": lambda layer, x, stream: split_heads((layer,), x[None], 2, 1),
    }
    for name, use in uses.items():
        assert called(lambda use=use: use(layer, x, stream)) == [name]  # type: ignore[misc]
        unfused = called(lambda use=use: use(layer, x, stream.float()), low=False)  # type: ignore[misc]
        assert name not in unfused
        assert name not in called(lambda use=use: use(nn.Linear(4, 8, bias=False), x, stream))  # type: ignore[misc]
        switch(False)
        assert called(lambda use=use: use(layer, x, stream)) == []  # type: ignore[misc]
        switch(True)
    for wrong in (torch.empty(3, 8), torch.empty(1, 8, dtype=BF16)):  # a stream in fp32; one row for all
        assert called(lambda wrong=wrong: linear_dropout_add(wrong, layer, x, 0.0)) == []  # type: ignore[misc]
    on_meta = nn.Linear(4, 8, device="meta"), torch.empty(3, 4, device="meta")
    assert called(lambda: linear_activation_dropout(*on_meta, "relu", 0.0)) == []
    wide = nn.Linear(4, WIDEST + 1)
    assert called(lambda: linear_activation_dropout(wide, x, "relu", 0.0)) == []


def test_each_kernel_has_its_formats() -> None:
    for dtype, names in ((torch.float32, ["dropout"]), (BF16, ["dropout"]), (torch.float64, [])):
        assert called(lambda dtype=dtype: dropout(torch.ones(5, dtype=dtype), 0.5), low=False) == names  # type: ignore[misc]
    q = torch.randn(2, 2, 5, 4)
    attend = lambda q: attention(q, q, q, causal=True, mask_BT=None, drop=0.1)  # noqa: E731
    assert called(lambda: attend(q), low=False) == ["dropout"]
    assert called(lambda: attend(q.to(BF16)), low=False) == ["masked_softmax_dropout"]
    assert usable(q.to(BF16), LONGEST)
    assert not usable(q.to(BF16), LONGEST + 1)
    assert called(lambda: join_heads(q), low=False) == []
    assert called(lambda: join_heads(q.to(BF16)), low=False) == ["join_heads"]
    for dtype, names in ((torch.float32, ["prelu_dice"]), (BF16, ["prelu_dice"]), (torch.float16, [])):
        assert called(lambda dtype=dtype: prelu(torch.ones(2, 3, dtype=dtype), torch.ones(3)), low=False) == names  # type: ignore[misc]
    pairs = torch.randn(2, 7, 4), torch.randn(2, 3, 4), torch.randn(2, 3, 5), torch.randn(4, 5), torch.randn(4, 5)
    assert called(lambda: pair_linear(*pairs), low=False) == ["pair_linear"]
    assert called(lambda: pair_linear(pairs[0], pairs[1][0], pairs[2][0], *pairs[3:]), low=False) == []
    nothing_P, table = torch.zeros(3, dtype=torch.int64), torch.zeros(2, 4)
    embed = lambda: embed_norm_dropout(nothing_P, nothing_P, table, table[0], None, norm=None, probability=0.0, size=3)  # noqa: E731
    assert called(embed) == ["embed_norm_dropout"]
    gru = lambda: gru_scan(  # noqa: E731
        torch.randn(2, 3, 12), torch.ones(2, 3, 1), torch.randn(12, 4), gate=0, only_last=True, longest=2
    )
    assert called(gru, low=False) == ["gru_states"]
    with torch.no_grad():
        assert called(gru, low=False) == ["gru_last"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_the_same_by_torchs_operations(norm: str, activation: str, switch: Callable[[bool], None]) -> None:
    torch.manual_seed(3)
    block = TransformerBlock(32, 4, 72, norm=norm, activation=activation, drop=0.0)  # type: ignore[arg-type]
    x, mask_BL = torch.randn(6, 40, 32), torch.arange(40) < torch.tensor([40, 3, 1, 17, 40, 22])[:, None]
    grad = torch.randn(6, 40, 32)

    def run(dtype: torch.dtype) -> list[Tensor]:
        leaf = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", BF16, enabled=dtype == BF16):
            made = block(leaf, mask_BL=mask_BL)
        return [made.detach(), *torch.autograd.grad(made, [leaf, *block.parameters()], grad.to(made.dtype))]

    sums = ["bias_dropout_add_norm", "bias_dropout_add_norm" if norm == "post" else "bias_dropout_add"]
    assert called(lambda: block(x.to(BF16), mask_BL=mask_BL)) == [
        *("split_heads", "masked_softmax_dropout", "join_heads"),
        *(sums[0], "bias_activation_dropout", sums[1]),
    ]
    fused, exact = run(BF16), run(torch.float32)
    switch(False)
    plain = run(BF16)
    for mine, torchs, its in zip(fused, plain, exact, strict=True):
        scale = its.float().norm()
        error, torchs_error = (mine.float() - its).norm() / scale, (torchs.float() - its).norm() / scale
        assert error <= 2 * torchs_error + 2**-8  # torch adds biases before it rounds a product


def test_gelu_over_all_its_range() -> None:
    """To 2^-8 of itself and 1e-4: the normal distribution function is a fitted polynomial that ends at 4.5."""
    operator = torch.ops.seqrec.bias_activation_dropout.default
    x = torch.linspace(-12, 12, 24_001)[:, None].to(BF16).requires_grad_()
    exact = x.detach().double().requires_grad_()
    got, expected = operator(x, torch.zeros(1), list(ACTIVATIONS).index("gelu"), 0, 0), nn.functional.gelu(exact)
    grads = [torch.autograd.grad(y.sum(), leaf)[0] for y, leaf in ((got, x), (expected, exact))]
    torch.testing.assert_close(got.double(), expected, rtol=2**-8, atol=1e-4)
    torch.testing.assert_close(grads[0].double(), grads[1], rtol=2**-8, atol=1e-4)


def test_nan_shows_where_it_belongs() -> None:
    x, layer = torch.randn(5, 20).to(BF16), nn.Linear(20, 20)
    nn.init.eye_(layer.weight)
    x[1, 2] = float("nan")
    with torch.autocast("cpu", BF16):
        total, normed = linear_dropout_add_norm(torch.zeros_like(x), layer, x, 0.0, nn.LayerNorm(20))
        found = [linear_activation_dropout(layer, x, kind, 0.0) for kind in ACTIVATIONS]
        (heads,) = split_heads((layer,), x[None], 2, 1)
        weights = torch.ops.seqrec.masked_softmax_dropout(x, None, False, 1.0, 0, 0)[0]
    for one in (total, normed, weights, *found, heads[0].transpose(0, 1).flatten(1)):
        assert one[1].isnan().any()
        assert not one[[0, 2, 3, 4]].isnan().any()
    y = torch.ones(100, dtype=BF16)
    y[3] = float("nan")
    assert dropout(y, 0.01)[3].isnan()


def test_no_rows_at_all() -> None:
    layer, norm, x = nn.Linear(8, 8), nn.LayerNorm(8), torch.randn(0, 4, 8).to(BF16).requires_grad_()
    with torch.autocast("cpu", BF16):
        q, k = split_heads((nn.Linear(8, 16),), x, 2, 2)
        inner = linear_activation_dropout(layer, join_heads(q + k), "gelu", 0.5)
        total, normed = linear_dropout_add_norm(x, layer, inner, 0.5, norm)
    assert total.shape == normed.shape == (0, 4, 8)
    (total.sum() + normed.sum()).backward()
    for parameter in (layer.bias, norm.weight, norm.bias):
        assert torch.equal(parameter.grad, torch.zeros(8))
