"""BERT4Rec: the mask, the window, the positions it reads, its variants, and what it can learn."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toy
from pydantic import ValidationError
from torch import nn

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import MASKED, Batch
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.cloze_rows import ClozeRows, Masking
from seqrec_cli.data.sizes import PACKED_STEP, TARGETS_STEP
from seqrec_cli.kernels import registry
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.linear import op as linear
from seqrec_cli.models import bert4rec
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.models.layers import transformer
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.objectives.contract import build_objective
from tests.shipped import shipped
from tests.toylog import batching, packed

VARIANTS = [
    {"norm": "post", "embedding_norm": False, "positions": "absolute"},
    {"head": "linear", "norm": "pre"},
    {"head": "linear", "norm": "post", "blocks": 1},
    {"attributes": "add", "positions": "none"},
]


def small(**changes: object) -> bert4rec.Model:
    model = toy.toy_model("bert4rec", **changes).eval()
    assert isinstance(model, bert4rec.Model)
    return model


def masked(batch: Batch, positions: list[tuple[int, int]]) -> Batch:
    """The batch with events hidden, their items as targets."""
    rows, columns = torch.tensor(positions).T
    items, targets = batch.items_BL.clone(), torch.zeros_like(batch.items_BL)
    targets[rows, columns] = items[rows, columns]
    items[rows, columns] = MASKED
    return dataclasses.replace(batch, items_BL=items, targets_BL=targets)


def events(*items: int) -> Batch:
    return Batch(torch.tensor([1]), torch.tensor([items]), torch.tensor([len(items)]))


def test_the_mask_is_no_item_and_no_column_of_the_corpus() -> None:
    model, batch = small(), toy.toy_batch()
    assert model.item_table().shape == (toy.ITEMS + 1, 16)
    assert model.item_bias().shape == (toy.ITEMS + 1,)
    before = model.score_corpus(batch)
    assert before.shape[1] == toy.ITEMS + 1
    nn.init.normal_(model.mask_D, std=5.0)
    assert not torch.allclose(model.score_corpus(batch), before)  # it is read, though
    toy.toy_loss(model, batch).backward()
    assert model.mask_D.grad is not None
    assert model.mask_D.grad.abs().sum() > 0


def test_predicting_reads_a_mask_behind_the_latest_events() -> None:
    model = small(max_length=5)
    for history in ([3], [3, 9, 4], [3, 9, 4, 7], [8, 3, 9, 4, 7]):
        kept = history[-4:]
        asked = Batch(torch.tensor([1]), torch.tensor([[*kept, MASKED]]), torch.tensor([len(kept) + 1]))
        torch.testing.assert_close(model.last(events(*history))[0], model.encode(asked)[0, -1])
    assert torch.equal(model.last(events(8, 3, 9, 4, 7)), model.last(events(1, 3, 9, 4, 7)))
    with pytest.raises(SeqrecError, match=r"exceeds model\.max_length=5"):
        model.last(events(1, 2, 3, 4, 5, 6))


def test_scores_are_the_product_and_the_bias() -> None:
    model, batch = small(), toy.toy_batch()
    with torch.no_grad():
        model.bias_V.copy_(torch.randn(toy.ITEMS + 1))
    expected = model.last(batch) @ model.item_table().T + model.bias_V
    torch.testing.assert_close(model.score_corpus(batch), expected)
    items_BC = torch.tensor([[1, 40, 7]]).expand(toy.USERS, -1)
    torch.testing.assert_close(model.score(batch, items_BC), expected[:, [1, 40, 7]])


@pytest.mark.parametrize("changes", [{}, *VARIANTS])
def test_states_at_targets_are_those_of_all_positions(changes: dict[str, object]) -> None:
    model = small(**changes)
    batch = masked(toy.toy_batch(), [(0, 1), (2, 0), (2, 2), (2, 4), (7, 8), (7, 9)])
    assert batch.targets_BL is not None
    expected = model.encode(batch)[batch.targets_BL > 0]
    torch.testing.assert_close(model.encode_targets(batch), expected, rtol=1e-4, atol=1e-5)
    told = dataclasses.replace(batch, positions_N=batch.target_positions(), masked_BM=batch.target_columns())
    torch.testing.assert_close(model.encode_targets(told), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, *VARIANTS])
def test_in_training_sizes_come_again_and_change_nothing(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = small(**changes, dropout=0.0, attention_dropout=0.0, ffn_dropout=0.0), []
    after = transformer.TransformerBlock._after_attention

    def watched(self: transformer.TransformerBlock, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[:-1])
        return after(self, x, attended)

    monkeypatch.setattr(transformer.TransformerBlock, "_after_attention", watched)
    for positions in ([(0, 1), (2, 0), (2, 2), (2, 4), (7, 8), (7, 9)], [(1, 1)]):
        batch, results = masked(toy.toy_batch(), positions), []
        for training in (False, True):
            states_ND = model.train(training).encode_targets(batch)
            assert seen[-1] == (TARGETS_STEP if training else len(positions),)
            weights_ND = torch.linspace(-1, 1, states_ND.numel()).view_as(states_ND)
            used = [p for p in model.parameters() if p is not model.bias_V]
            gradients = torch.autograd.grad((states_ND * weights_ND).sum(), used, allow_unused=True)
            results.append([states_ND.detach(), *(g for g in gradients if g is not None)])
        for plain, padded in zip(*results, strict=True):
            torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(compiler() is None, reason="no C compiler here")
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("changes", [{}, *VARIANTS])
def test_in_kernels_rows_are_read_without_their_padding(
    changes: dict[str, object], training: bool, low: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16, and in fp32 where products are made in C."""
    monkeypatch.setattr(registry, "_PRODUCTS", "1")
    monkeypatch.setattr(linear, "FEWEST_ROWS", 1)
    tolerance = 2**-6 if low == torch.bfloat16 else 1e-5
    model, seen = small(**changes, dropout=0.0, attention_dropout=0.0, ffn_dropout=0.0).train(training), []
    batch = masked(toy.toy_batch(), [(0, 1), (2, 0), (2, 2), (2, 4), (7, 8), (7, 9)])
    attend = MultiHeadAttention.attend

    def watched(self: MultiHeadAttention, queries: torch.Tensor, memory: torch.Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(memory.shape[:-1])
        return attend(self, queries, memory, *rest, **more)

    def run() -> list[torch.Tensor]:
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=low == torch.bfloat16):
            states_ND = model.encode_targets(batch)
        weights_ND = torch.linspace(-1, 1, states_ND.numel()).view_as(states_ND)
        used = [p for p in model.parameters() if p is not model.bias_V]
        gradients = torch.autograd.grad((states_ND * weights_ND).sum(), used, allow_unused=True)
        return [states_ND.detach(), *(g for g in gradients if g is not None)]

    monkeypatch.setattr(MultiHeadAttention, "attend", watched)
    without, count = run(), int(batch.lengths_B.sum())
    assert seen == [(-(-count // PACKED_STEP) * PACKED_STEP if training else count,)] * len(model.blocks)
    monkeypatch.setattr(bert4rec, "pack_rows", lambda *_, **__: None)
    with_padding = run()
    assert seen == [batch.items_BL.shape] * len(model.blocks)
    for mine, its in zip(without, with_padding, strict=True):
        assert (mine - its).norm() <= tolerance * its.norm() + 1e-6


@pytest.mark.parametrize("changes", [{}, *VARIANTS])
def test_every_event_is_seen_from_both_sides_and_padding_from_none(changes: dict[str, object]) -> None:
    model, batch = small(**changes), masked(toy.toy_batch(), [(3, 2)])
    before = model.encode_targets(batch)
    for column in (0, 5):
        items_BL = batch.items_BL.clone()
        items_BL[3, column] = items_BL[3, column] % toy.ITEMS + 1
        after = model.encode_targets(dataclasses.replace(batch, items_BL=items_BL))
        assert not torch.allclose(before, after, atol=1e-5)
    torch.testing.assert_close(model.encode_targets(toy.padded(batch, 2)), before, rtol=1e-4, atol=1e-5)
    changed = batch.items_BL.masked_fill(~batch.mask_BL, 5)
    torch.testing.assert_close(model.encode_targets(dataclasses.replace(batch, items_BL=changed)), before)


@pytest.mark.parametrize("changes", VARIANTS)
def test_variants_learn(changes: dict[str, object]) -> None:
    course = list(toy.losses(small(**changes), steps=60, lr=0.01))
    assert course[-1] < 0.5 * course[0]


def test_the_published_network_by_hand() -> None:
    """One block, one head: eq. 1 to 7 with LayerNorm before the product."""
    changes = {"norm": "post", "embedding_norm": False, "positions": "absolute", "blocks": 1, "heads": 1}
    model = small(**changes, temperature=None)
    with torch.no_grad():
        model.bias_V.copy_(torch.randn(toy.ITEMS + 1))
    weight = dict(model.named_parameters())
    linear = lambda name, y: y @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]  # noqa: E731
    norm = nn.LayerNorm(16, elementwise_affine=False)
    x = torch.cat([weight["items.weight"][[4, 9]], weight["mask_D"][None]]) + weight["positions.table.weight"][:3]
    q = linear("blocks.0.attention.query", x)
    k, v = linear("blocks.0.attention.key_value", x).chunk(2, dim=1)
    x = norm(x + linear("blocks.0.attention.out", (q @ k.T / 4).softmax(1) @ v))
    x = norm(x + linear("blocks.0.feed_forward.down", F.gelu(linear("blocks.0.feed_forward.up", x))))
    state_D = norm(F.gelu(linear("head.0", x)))[2]
    expected = model.item_table() @ state_D + model.bias_V
    torch.testing.assert_close(model.score_corpus(events(4, 9))[0], expected, rtol=1e-4, atol=1e-5)


def test_attributes_reach_the_input_and_must_be_there() -> None:
    model, batch = small(attributes="add"), toy.toy_batch()
    before = model.score_corpus(batch)
    assert model.attributes is not None
    with torch.no_grad():
        for part in model.attributes.attributes.values():
            part.table.weight[1:].normal_()  # type: ignore[operator, union-attr]
    assert not torch.allclose(model.score_corpus(batch), before, atol=1e-3)
    with pytest.raises(SeqrecError, match=r"model\.attributes=concat: the dataset has no item attributes"):
        build_model(toy.small_config("bert4rec", attributes="concat"), Catalog(2, 5), 0)


@pytest.mark.parametrize("last", [0.0, 0.3])
def test_learns_sequences_until_the_held_out_item_ranks_first(last: float) -> None:
    """Every history runs through the cycle 1..12 from another place; what is held out follows from the last event."""
    torch.set_num_threads(1)
    log = packed([[1 + (start + k) % 12 for k in range(40)] for start in range(12)], 12)
    cfg = toy.small_config("bert4rec", embed_dim=32, ffn_dim=64, max_length=8)
    model = build_model(cfg, log.catalog, 0)
    assert isinstance(model, SequenceEncoder)
    rows = ClozeRows(
        log,
        8,
        batching(16),
        window="sliding",
        stride=None,
        masking=Masking(0.2, 0.1, 0.1, last),
        device=torch.device("cpu"),
    )
    plain = shipped("objective", "cloze") | {"negatives": None, "last": last}
    objective = build_objective(config_class("objective", "cloze").from_plain(plain))  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for epoch in range(60):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - epoch / 60)
        for batch in rows.epoch(epoch):
            optimizer.zero_grad()
            objective.loss(model.train(), batch).backward()
            optimizer.step()
    histories = torch.tensor([[1 + (start + k) % 12 for k in range(8)] for start in range(12)])
    scores = model.eval().score_corpus(Batch(torch.arange(12), histories, torch.full((12,), 8)))
    assert torch.equal(scores[:, 1:].argmax(1), histories[:, -1] % 12)


def test_settings_and_class_agree_on_the_direction() -> None:
    assert bert4rec.Config.capabilities.causal is bert4rec.Model.causal is False
    with pytest.raises(ValidationError, match="max_length"):
        toy.small_config("bert4rec", max_length=1)


@pytest.mark.parametrize("objective", sorted(set(names("objective")) - {"cloze", "click", "unbiased_click"}))
def test_objectives_of_causal_models_are_refused(objective: str) -> None:
    teacher = ["objective.teacher=x"] if objective == "distil" else []
    with pytest.raises(SeqrecError, match=f"objective={objective} cannot train model=bert4rec") as refusal:
        validate("train", compose("train", ["model=bert4rec", f"objective={objective}", *teacher]))
    assert "\n" not in str(refusal.value)


def test_it_brings_its_objective_and_clicks_may_train_it() -> None:
    assert compose("train", ["model=bert4rec"]).objective.name == "cloze"
    validate("train", compose("train", ["model=bert4rec", "objective=click"]))


def test_dropout_inside_the_feed_forward_layers_acts_in_training_alone() -> None:
    model, batch = small(ffn_dropout=0.5), toy.toy_batch()
    plain = small()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.encode(batch), plain.encode(batch))
    inputs = []
    model.blocks[0].feed_forward.down.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    model.train()
    first, second = model.encode(batch), model.encode(batch)
    assert not torch.equal(first, second)
    shares = [(inner == 0).float().mean().item() for inner in inputs]
    assert shares == pytest.approx([0.5, 0.5], abs=0.1)
    assert torch.equal(plain.train().encode(batch), plain.encode(batch))
