"""Histories laid end to end: the loss and gradients of the same histories padded, and nothing seen across them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toy

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.layers import packed_rows
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.packed_rows import PackedRows, alike
from seqrec_cli.objectives.contract import Objective, build_objective
from tests.shipped import shipped

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("sasrec", {"positions": "reversed"}),
    ("sasrec", {"positions": "absolute", "norm": "published", "ffn_dim": 16}),
    (
        "sasrec",
        {"positions": "relative", "user_dim": 4, "user_output": "film", "user_swap": 0.5, "temperature": 0.2},
    ),
    ("esasrec", {"positions": "rotary", "attributes": "add"}),
    ("hstu", {"positions": "absolute"}),
    ("hstu", {"positions": "none", "time_bias": "target"}),
]
WASTES = (0, 400, 1 << 20)  # a group a length, some groups, one group


def test_every_model_that_says_so_is_here() -> None:
    packing = {name for name in names("model") if config_class("model", name).capabilities.packs}  # type: ignore[attr-defined]
    assert packing == {name for name, _ in MODELS}


def objective(name: str, window: str, **changes: Any) -> Objective:
    plain = shipped("objective", name) | {"window": window} | changes
    built = build_objective(config_class("objective", name).from_plain(plain))  # type: ignore[arg-type]
    built.prepare(torch.ones(toy.ITEMS + 1, dtype=torch.int64))
    return built


def shuffled() -> Batch:
    """The toy batch in no order of its lengths, two of which are the same."""
    batch = toy.rows(toy.toy_batch(), torch.tensor([3, 0, 7, 5, 2, 7, 1]))
    return replace(batch, users_B=torch.arange(1, 8))


def loss_and_gradients(built: Objective, model: torch.nn.Module, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(4)  # of drawn negatives
    loss = built.loss(model, batch)  # type: ignore[arg-type]
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(params=WASTES)
def waste(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(packed_rows, "WASTE", request.param)
    return int(request.param)


@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_the_loss_and_gradients_are_those_of_padded_rows(name: str, changes: dict[str, Any], waste: int) -> None:
    model, batch = toy.toy_model(name, **changes).train(), shuffled()
    padded, of_padded = loss_and_gradients(objective("next_item", "sliding", negatives=None), model, batch)
    packed, of_packed = loss_and_gradients(objective("next_item", "packed", negatives=None), model, batch)
    assert packed == pytest.approx(padded, rel=1e-6)
    assert of_packed.keys() == of_padded.keys()
    for key, gradient in of_padded.items():
        assert gradient.any(), key
        torch.testing.assert_close(of_packed[key], gradient, rtol=1e-4, atol=3e-5 * float(gradient.abs().max()) + 1e-7)


@pytest.mark.parametrize(
    ("name", "more"),
    [("bce", {"negatives": 2, "sampling": "uniform"}), ("sampled_softmax", {}), ("all_action", {"horizon": 3})],
)
def test_other_losses_are_the_same_too(name: str, more: dict[str, Any]) -> None:
    model, batch = toy.toy_model("sasrec").train(), shuffled()
    padded, of_padded = loss_and_gradients(objective(name, "sliding", **more), model, batch)
    packed, of_packed = loss_and_gradients(objective(name, "packed", **more), model, batch)
    assert packed == pytest.approx(padded, rel=1e-5)
    torch.testing.assert_close(of_packed["items.weight"], of_padded["items.weight"], rtol=1e-3, atol=1e-5)


def test_context_of_events_and_of_what_followed_is_read() -> None:
    """Each event's own, and of the next one, which is the request's at a row's end."""
    model, batch = toy.toy_model("sasrec").eval(), shuffled()
    features = model.features
    generator = torch.Generator().manual_seed(2)
    table = torch.nn.Embedding.from_pretrained(torch.randn(9, 16, generator=generator))
    features.of_events = features.of_request = lambda codes: table(codes).sum(-2)  # type: ignore[assignment]
    for part in (features.of_events, features.of_request):
        part.summed = part  # type: ignore[union-attr]
    L = batch.items_BL.shape[1]
    batch = replace(
        batch,
        context_BLF=torch.randint(1, 9, (len(batch), L, 1), generator=generator) * batch.mask_BL[..., None],
        context_BF=torch.randint(1, 9, (len(batch), 1), generator=generator),
    )
    expected = model.encode_targets(batch)
    torch.testing.assert_close(model.encode_packed(batch), expected, rtol=1e-4, atol=1e-5)
    other = replace(batch, context_BF=batch.context_BF % 8 + 1)  # type: ignore[operator]
    assert not torch.allclose(model.encode_packed(other), expected, atol=1e-3)


def test_one_target_a_row_is_picked_out_of_the_packed_row() -> None:
    """As validation of the objective's own loss asks."""
    model, batch = toy.toy_model("sasrec").eval(), shuffled()
    last_B = torch.arange(len(batch)) * batch.items_BL.shape[1] + batch.lengths_B - 1
    found = model.encode_packed(replace(batch, positions_N=last_B))
    torch.testing.assert_close(found, model.last(batch), rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_one_row_under_a_block_diagonal_causal_mask(waste: int) -> None:
    torch.manual_seed(0)
    batch, layer = shuffled(), MultiHeadAttention(8, 2, 0.0)
    rows = PackedRows.of(batch)
    x_PD = torch.randn(len(rows.places_P), 8)
    found = rows.each(lambda _, x: layer.attend(x, x, causal=True), x_PD)
    q, k, v = torch.cat([layer.query(x_PD), layer.key_value(x_PD)], -1).view(-1, 3, 2, 4).permute(1, 2, 0, 3)
    same_PP = rows.rows_P[:, None] == rows.rows_P
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=same_PP.tril())
    torch.testing.assert_close(found, expected.transpose(0, 1).flatten(1), rtol=1e-4, atol=1e-5)


def test_an_event_is_seen_by_later_ones_of_its_history_alone() -> None:
    model, batch = toy.toy_model("esasrec").eval(), shuffled()
    rows = PackedRows.of(batch)
    before = model.encode_packed(batch)
    changed = batch.items_BL.clone()
    changed[2, 3] = changed[2, 3] % toy.ITEMS + 1
    moved_P = (model.encode_packed(replace(batch, items_BL=changed)) - before).abs().amax(1) > 1e-6
    within_P = rows.places_P % rows.width
    assert torch.equal(moved_P, (rows.rows_P == 2) & (within_P >= 3))


def test_no_layer_reads_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and feed-forward layers get the events and no more."""
    monkeypatch.setattr(packed_rows, "WASTE", 0)
    model, batch = toy.toy_model("sasrec").eval(), shuffled()
    seen = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, given: (
            seen.append(given[0].numel() // given[0].shape[-1])
            if isinstance(module, torch.nn.LayerNorm | torch.nn.Embedding)
            else None
        )
    )
    model.encode_packed(batch)
    hook.remove()
    events = int(batch.lengths_B.sum())
    assert seen
    assert set(seen) <= {events, 1}  # of ids, whose last dimension counts them, 1


def test_rows_of_like_length_are_one_group() -> None:
    assert alike([5, 5, 5, 2, 2], 0) == [(0, 3), (3, 5)]
    assert alike([5, 5, 5, 2, 2], 10**6) == [(0, 5)]
    assert alike([3], 0) == [(0, 1)]
    wide = 4 * (4 + packed_rows.PAIRS_AN_EVENT) - 3 * (3 + packed_rows.PAIRS_AN_EVENT)
    assert alike([4, 3, 3], wide) == [(0, 2), (2, 3)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=gru4rec"], "objective.window=packed: model=gru4rec has layers that read rows"),
        (["model=bert4rec"], "objective.window=packed: model=bert4rec has layers that read rows"),
        (["model=ensemble"], "objective.window=packed: model=ensemble has layers"),
        (["model.padding=zero"], "model.padding=zero: objective.window=packed lays histories end to end without any"),
        (["hardware.compile=true"], "hardware.compile=true: objective.window=packed has other groups"),
        (["objective.stride=3"], "objective.stride=3 needs objective.window=sliding"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_a_line(words: list[str], said: str) -> None:
    with pytest.raises(SeqrecError, match=said) as refusal:
        validate("train", compose("train", [*words, "objective.window=packed"]))
    assert "\n" not in str(refusal.value)
