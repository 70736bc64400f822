"""Local and linear attention against loops over queries and keys, and what they are not asked to do.

Legend: B rows, L events, H heads, D width, w window.
"""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model.sasrec import Config
from seqrec_cli.config.validate import validate
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.attention_forms import CHUNK, causal_attention
from seqrec_cli.models.layers.positions import RelativeBias, Rotary

D, H = 8, 2


def made(form: str, length: int, window: int = 3, positions: str = "none") -> MultiHeadAttention:
    torch.manual_seed(0)
    sizes = {"embed_dim": D, "heads": H, "max_length": length, "positions": positions}
    cfg = toy.small_config("sasrec", attention_form=form, attention_window=window, **sizes)
    assert isinstance(cfg, Config)
    layer = causal_attention(cfg)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return layer.eval()


def heads_of(layer: MultiHeadAttention, x_BLD: Tensor) -> tuple[Tensor, ...]:
    k, v = layer.key_value(x_BLD).chunk(2, dim=-1)
    return tuple(y.unflatten(-1, (H, -1)).transpose(1, 2) for y in (layer.query(x_BLD), k, v))


def by_loops(layer: MultiHeadAttention, x_BLD: Tensor, form: str, window: int) -> Tensor:
    q, k, v = heads_of(layer, x_BLD)
    if isinstance(layer.positions, Rotary):
        q, k = layer.positions(q), layer.positions(k)
    rows = []
    for i in range(x_BLD.shape[1]):
        seen = range(max(0, i - window + 1) if form == "local" else 0, i + 1)
        if form == "linear":
            phi_q, phi_k = F.elu(q[:, :, i]) + 1, F.elu(k[:, :, seen.start : i + 1]) + 1
            weights = (phi_k * phi_q[:, :, None]).sum(-1)
            weights = weights / weights.sum(-1, keepdim=True)
        else:
            logits = (k[:, :, seen.start : i + 1] * q[:, :, i, None]).sum(-1) / math.sqrt(D // H)
            if isinstance(layer.positions, RelativeBias):
                table = layer.positions.table.weight
                logits = logits + torch.stack([table[i - j + layer.positions.farthest] for j in seen], dim=1)
            weights = logits.softmax(-1)
        rows.append((weights[..., None] * v[:, :, seen.start : i + 1]).sum(2))
    return torch.stack(rows, dim=1).flatten(2)


@pytest.mark.parametrize("positions", ["none", "rotary", "relative"])
@pytest.mark.parametrize(("length", "window"), [(1, 3), (3, 3), (4, 3), (10, 3), (12, 1), (7, 20), (13, 4)])
def test_local_attention_is_the_softmax_over_the_latest_events(length: int, window: int, positions: str) -> None:
    layer = made("local", 15, window, positions)
    x_BLD = torch.randn(2, length, D)
    expected = by_loops(layer, x_BLD, "local", window)
    torch.testing.assert_close(layer.attend(x_BLD, x_BLD, causal=True), expected, rtol=1e-4, atol=1e-5)
    ends_B = torch.tensor([length - 1, length // 2])
    seen_BL = torch.arange(length) <= ends_B[:, None]
    last_B1D = layer.attend(x_BLD[[0, 1], ends_B, None], x_BLD, mask_BT=seen_BL, positions_BL=ends_B[:, None])
    torch.testing.assert_close(last_B1D[:, 0], expected[[0, 1], ends_B], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 5, CHUNK, CHUNK + 1, 2 * CHUNK + 9])
def test_linear_attention_is_the_sum_over_kernel_features(length: int) -> None:
    layer = made("linear", 200)
    x_BLD = torch.randn(2, length, D)
    expected = by_loops(layer, x_BLD, "linear", 0)
    torch.testing.assert_close(layer.attend(x_BLD, x_BLD, causal=True), expected, rtol=1e-4, atol=1e-5)
    ends_B = torch.tensor([length - 1, length // 2])
    seen_BL = torch.arange(length) <= ends_B[:, None]
    last_B1D = layer.attend(x_BLD[[0, 1], ends_B, None], x_BLD, mask_BT=seen_BL, positions_BL=ends_B[:, None])
    torch.testing.assert_close(last_B1D[:, 0], expected[[0, 1], ends_B], rtol=1e-4, atol=1e-5)


def test_local_weights_are_dropped_in_training_and_in_every_block_of_queries() -> None:
    layer = made("local", 15, 3)
    layer.drop, x_BLD = 0.5, torch.randn(2, 10, D)
    whole_BLD = layer.attend(x_BLD, x_BLD, causal=True)
    torch.testing.assert_close(whole_BLD, by_loops(layer, x_BLD, "local", 3), rtol=1e-4, atol=1e-5)
    dropped_BLD = layer.train().attend(x_BLD, x_BLD, causal=True)
    assert (dropped_BLD != whole_BLD).any(-1).all()  # what is kept counts twice


class Largest(TorchDispatchMode):
    """The largest number of elements that an operator gave."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        found = [leaf.untyped_storage().nbytes() // 4 for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *found])
        return out


@pytest.mark.parametrize("drop", [0.0, 0.2])
@pytest.mark.parametrize("form", ["local", "linear"])
def test_no_tensor_is_as_large_as_all_pairs(form: str, drop: float) -> None:
    layer, L = made(form, 1024, 8, "relative" if form == "local" else "none"), 1024
    layer.drop = drop
    x_1LD = torch.randn(1, L, D, requires_grad=True)
    with Largest() as watched:
        layer.train().attend(x_1LD, x_1LD, causal=True).sum().backward()
    assert watched.elements <= H * L * max(2 * 8, CHUNK) < H * L * L // 8


@pytest.mark.parametrize("model", ["sasrec", "esasrec"])
@pytest.mark.parametrize(
    "changes",
    [
        {"attention_form": "linear"},
        {"attention_form": "local", "attention_window": 2},
        {"attention_form": "local", "attention_window": 4, "positions": "rotary"},
    ],
)
def test_the_form_reaches_every_model_that_has_it(model: str, changes: dict[str, object]) -> None:
    batch, other = toy.toy_batch(), toy.toy_model(model, **{**changes, "attention_form": "softmax"}).eval()
    encoder = toy.toy_model(model, **changes).eval()
    assert isinstance(encoder, ItemEncoder)
    encoder.load_state_dict(other.state_dict())
    assert not torch.allclose(encoder.score_corpus(batch), other.score_corpus(batch), atol=1e-4)
    ends_B = batch.lengths_B - 1
    states_BLD = encoder.encode(batch)
    torch.testing.assert_close(encoder.last(batch), states_BLD[torch.arange(len(batch)), ends_B], rtol=1e-4, atol=1e-5)


def test_the_published_blocks_have_it_too() -> None:
    batch, scores = toy.toy_batch(), []
    for window in (2, 12):
        model = toy.toy_model("sasrec", norm="published", attention_form="local", attention_window=window).eval()
        scores.append(model.score_corpus(batch))
    assert not torch.allclose(*scores, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.attention_form=linear", "model.positions=rotary"], "has no logits that model.positions=rotary"),
        (["model.attention_form=linear", "model.positions=relative"], "has no logits that model.positions=relative"),
        (["model.attention_form=linear", "model.attention_dropout=0.1"], r"attention_dropout=0\.1 has no effect"),
        (["model.attention_window=5"], "attention_window=5 has no effect with model.attention_form=softmax"),
        (["model.attention_form=local", "model.attention_window=0"], "attention_window=0"),
        (["model.attention_form=local", "model.agreement=bias"], "adds to the logits of attention over all events"),
        (["model.blocks=1", "model.agreement=bias"], "from the second block on"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words: list[str], said: str) -> None:
    with pytest.raises(SeqrecError, match=said) as refused:
        validate("train", compose("train", ["model=sasrec", *words]))
    assert "\n" not in str(refused.value)
