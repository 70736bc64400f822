"""Parts of models: attention, positions, attribute vectors, initial weights."""

import math

import numpy as np
import pytest
import torch
import toy
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Attribute
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.models import pieces
from seqrec_cli.models.initialise import initialise
from seqrec_cli.models.layers import embedding
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.embedding import AttributeEmbedding, FeatureEmbedding, padded_table
from seqrec_cli.models.layers.positions import PositionEmbedding, age_buckets, check_window, positions_from_end
from seqrec_cli.models.layers.transformer import TransformerBlock


def naive_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, mask_BT: Tensor | None) -> Tensor:
    out = torch.zeros_like(q)
    for b, h, i in np.ndindex(*q.shape[:3]):
        open_T = torch.ones(k.shape[2], dtype=torch.bool) if mask_BT is None else mask_BT[b].clone()
        if causal:
            open_T[i + 1 :] = False
        weights = ((k[b, h] @ q[b, h, i]) / math.sqrt(q.shape[-1]))[open_T].softmax(0)
        out[b, h, i] = weights @ v[b, h][open_T]
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_both_paths_of_attention_are_attention(dtype: torch.dtype, causal: bool, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 5, 4, generator=generator)
    mask_BT = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]) if masked else None
    got = attention(q.to(dtype), k.to(dtype), v.to(dtype), causal=causal, mask_BT=mask_BT, drop=0.0)
    assert got.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.04
    torch.testing.assert_close(got.float(), naive_attention(q, k, v, causal, mask_BT), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_without_keys_is_finite(dtype: torch.dtype) -> None:
    q = torch.ones(1, 1, 3, 4, dtype=dtype)
    for causal in (True, False):
        assert torch.isfinite(
            attention(q, q, q, causal=causal, mask_BT=torch.zeros(1, 3, dtype=torch.bool), drop=0.0)
        ).all()


def test_attention_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    q = torch.zeros(200, 2, 6, 3)
    out = attention(q, q, torch.ones_like(q), causal=True, mask_BT=None, drop=0.25)
    assert out.std() > 0.1
    assert out.mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("shared", [True, False])
def test_candidates_read_as_if_appended_to_the_memory(shared: bool) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2, 0.0)
    history, candidates = torch.randn(3, 4, 8), torch.randn(1 if shared else 3, 5, 8)
    mask_BT = torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [False] * 4])
    got = layer.out(layer.attend_from_candidates(candidates, layer.project_kv(history), mask_BT))  # type: ignore[misc]
    for c in range(5):
        x = torch.cat([history, candidates[:, c : c + 1].expand(3, -1, -1)], dim=1)
        whole = layer(x, x, mask_BT=nn.functional.pad(mask_BT, (0, 1), value=True))
        torch.testing.assert_close(got[:, c], whole[:, -1], rtol=1e-5, atol=1e-5)


def test_norms_stand_where_their_names_say() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8) * 5 + 1
    make = lambda norm: TransformerBlock(8, 2, 16, norm=norm, activation="gelu", drop=0.0)  # noqa: E731
    post = make("post")(x)
    torch.testing.assert_close(post.mean(-1), torch.zeros(2, 3), rtol=0, atol=1e-5)
    pre = make("pre")
    nn.init.zeros_(pre.attention.out.weight)
    nn.init.zeros_(pre.attention.out.bias)
    nn.init.zeros_(pre.feed_forward.down.weight)
    nn.init.zeros_(pre.feed_forward.down.bias)
    assert torch.equal(pre(x), x)


def test_positions_count_from_the_end_and_from_the_start() -> None:
    lengths_B = torch.tensor([3, 1, 0])
    assert positions_from_end(lengths_B, 4).tolist() == [[2, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    x = torch.zeros(3, 4, 2)
    reverse, forward, none = (PositionEmbedding(kind, 6, 2) for kind in ("reversed", "absolute", "none"))
    assert reverse.table is not None
    assert forward.table is not None
    assert torch.equal(reverse(x, lengths_B)[0, :3], reverse.table.weight[[2, 1, 0]])
    assert torch.equal(forward(x, lengths_B)[1], forward.table.weight[:4])
    assert torch.equal(none(x, lengths_B), x)
    assert not list(none.parameters())


def test_a_window_too_long_is_refused() -> None:
    with pytest.raises(SeqrecError, match=r"5 events exceeds model\.max_length=4; cut it"):
        check_window(torch.zeros(1, 5), 4)
    for name in ("sasrec", "bst"):
        batch = toy.padded(toy.toy_batch(), 9)
        with pytest.raises(SeqrecError, match="max_length=12"):
            toy.toy_model(name).score_corpus(batch)


def test_age_buckets_grow_with_log_time() -> None:
    day = 86400
    ages = torch.tensor([-5, 0, 60, 3600, day, 30 * day, 365 * day, 3650 * day, 10**10])
    buckets = age_buckets(ages, 32).tolist()
    assert buckets == sorted(buckets)
    assert buckets[:2] == [0, 0]
    assert buckets[-2:] == [31, 31]
    assert len(set(buckets[1:8])) == 7
    assert age_buckets(ages, 2).tolist()[-1] == 1
    assert not age_buckets(ages, 2)[:7].any()


VALUES = np.array([[0, 0, 0], [1, 0, 0], [2, 3, 0], [1, 2, 3]], np.int32)


def test_attribute_vectors_average_the_values_that_are_there() -> None:
    layer = AttributeEmbedding(Attribute("genre", 4, 3), VALUES, 2)
    with torch.no_grad():
        layer.table.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 4.0], [6.0, 2.0]]))
    got = layer(torch.tensor([[0, 1], [2, 3]]))
    assert got.tolist() == [[[0.0, 0.0], [1.0, 0.0]], [[4.0, 3.0], [3.0, 2.0]]]
    torch.testing.assert_close(layer.all_rows(), got.flatten(0, 1))
    assert set(layer.state_dict()) == {"values_RW", "table.weight"}
    assert torch.equal(layer.state_dict()["values_RW"], torch.from_numpy(VALUES.astype(np.int64)))


def test_attribute_vectors_as_a_product_are_those_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for limit in (embedding.DENSE_SHARES, 15):  # the shares of 4 rows and 4 values are 16 numbers
        monkeypatch.setattr(embedding, "DENSE_SHARES", limit)
        torch.manual_seed(0)
        layer = AttributeEmbedding(Attribute("genre", 4, 3), VALUES, 2)
        (layer.all_rows() * torch.arange(8).view(4, 2)).sum().backward()
        results.append([layer.all_rows(), layer.table.weight.grad])
        assert (layer.shares_RA is None) == (limit == 15)
    for product, looked_up in zip(*results, strict=True):
        torch.testing.assert_close(product, looked_up)


def test_loaded_attribute_values_are_those_averaged() -> None:
    trained = AttributeEmbedding(Attribute("genre", 4, 3), VALUES, 2)
    blank = AttributeEmbedding(Attribute("genre", 4, 3), np.zeros_like(VALUES), 2)
    nn.Sequential(blank).load_state_dict({f"0.{name}": value for name, value in trained.state_dict().items()})
    assert trained.all_rows()[1:].any()
    assert torch.equal(blank.all_rows(), trained.all_rows())


def test_features_by_row_and_by_event_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = toy.toy_catalog()
    rows = torch.tensor([[0, 5, 7], [40, 1, 0]])
    results = []
    for limit in (embedding.WHOLE_CATALOG, 3):
        monkeypatch.setattr(embedding, "WHOLE_CATALOG", limit)
        torch.manual_seed(0)
        layer = FeatureEmbedding(toy.ITEMS + 1, catalog.item_attributes, catalog.item_values, dim=4, own=True)
        (layer.summed(rows).square().sum() + layer.joined(rows).sum()).backward()
        results.append([layer.summed(rows), layer.joined(rows), *(p.grad for p in layer.parameters())])
    assert layer.whole is False
    assert results[0][1].shape == (2, 3, layer.width) == (2, 3, 12)
    for whole, each in zip(*results, strict=True):
        torch.testing.assert_close(whole, each)
    torch.testing.assert_close(results[0][0], results[0][1].unflatten(-1, (3, 4)).sum(-2))


def test_a_tied_padding_row_gets_no_gradient() -> None:
    table = padded_table(4, 3)
    (torch.ones(2, 3) @ table.weight.T).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[0.0] * 3] + [[2.0] * 3] * 3


def test_initial_weights_have_their_deviation() -> None:
    torch.manual_seed(0)
    parts = nn.ModuleList([padded_table(2000, 50), nn.Linear(400, 300), nn.Embedding(100, 50)])
    initialise(parts, 0.02)
    table, linear, positions = parts[0].weight, parts[1], parts[2].weight
    assert not table[0].any()
    assert table[1:].std().item() == pytest.approx(0.88 * 0.02, rel=0.02)  # cut at two deviations
    assert table.abs().max() <= 0.04
    assert positions[0].any()
    assert linear.weight.std().item() == pytest.approx(0.88 / 20, rel=0.02)
    assert not linear.bias.any()


def test_pieces_respect_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BUDGET", 1_000_000)
    assert pieces.piece_size(256, 3000, 500) == (31, 64)
    assert pieces.piece_size(4, 3000, 500) == (4, 500)
    assert pieces.piece_size(4, 10, 500) == (4, 10)
    assert pieces.piece_size(4, 10, 10_000_000) == (1, 1)
