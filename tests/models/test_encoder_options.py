"""What all encoders share: positions, attributes, the user, and how states become scores."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from pydantic import ValidationError
from test_contract import Scores, plain_inputs
from torch.export import Dim

from seqrec_cli.commands.plan import parameters_by_part
from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.kernels.split_heads.op import split_heads
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.attention import MultiHeadAttention
from seqrec_cli.models.layers.embedding import use_sparse_rows
from seqrec_cli.models.layers.positions import RelativeBias, Rotary, attention_positions
from seqrec_cli.objectives.contract import build_objective
from tests.covering import covering
from tests.shipped import shipped

KINDS = ("absolute", "reversed", "rotary", "relative", "none")


def config_of(name: str) -> type[EncoderConfig]:
    return config_class("model", toy.code_of(name))  # type: ignore[return-value]


ENCODERS = [
    name
    for name in toy.model_names()
    if issubclass(config_of(name), EncoderConfig) and config_of(name).capabilities.family == "encoder"
]
ATTENDING = [name for name in ENCODERS if config_of(name).capabilities.attends]
CAUSAL = [name for name in ENCODERS if config_of(name).capabilities.causal]
PLACED = [(name, kind) for name, kind in itertools.product(ATTENDING, KINDS)]
OPTIONS = [
    {"tied": False, "item_bias": True},
    {"temperature": 0.2, "tied": False, "attributes": "concat"},
    {"temperature": 0.2, "item_bias": True, "attributes": "add", "user_dim": 5},
    {"user_dim": 4, "user_input": "concat", "user_output": "film"},
    {"temperature": 0.2, "user_dim": 3, "user_input": "none", "user_output": "gate"},
]


def encoder(name: str, **changes: object) -> ItemEncoder:
    if not config_of(name).capabilities.attends and changes.get("positions") in ("rotary", "relative"):
        pytest.skip("nothing to attend with")
    model = toy.toy_model(name, **changes)
    assert isinstance(model, ItemEncoder)
    if model.bias_V is not None:
        torch.nn.init.normal_(model.bias_V)
    return model.eval()


def test_the_encoders_are_found() -> None:
    assert {"sasrec", "bert4rec", "gru4rec", "lrurec"} <= set(ENCODERS)
    assert {"sasrec", "bert4rec", "bsarec", "hstu", "esasrec", "recdenoiser"} == set(ATTENDING)


@pytest.mark.parametrize("changes", OPTIONS)
@pytest.mark.parametrize("name", ENCODERS)
def test_every_way_to_a_score_gives_the_same(name: str, changes: dict[str, object]) -> None:
    model, batch = encoder(name, **changes), toy.toy_batch()
    corpus_BV = model.score_corpus(batch)
    items_BC = torch.randint(1, toy.ITEMS + 1, (toy.USERS, 5), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model.score(batch, items_BC), corpus_BV.gather(1, items_BC), rtol=1e-5, atol=1e-5)
    last_BD, rows = model.last(batch), model.items.weight if model.output is None else model.output.weight
    if model.temperature is not None:
        torch.testing.assert_close(last_BD.norm(dim=1), torch.full((toy.USERS,), 1 / model.temperature))
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    expected_BV = last_BD @ rows.T
    expected_BV = expected_BV if model.bias_V is None else expected_BV + model.bias_V
    torch.testing.assert_close(corpus_BV, expected_BV, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [*OPTIONS, *({"positions": kind} for kind in KINDS)])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_option_reaches_all_parameters(name: str, changes: dict[str, object]) -> None:
    model, batch = encoder(name, **changes), toy.toy_batch()
    toy.toy_loss(model, batch).backward()
    untouched = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []
    for part in model.modules():
        if isinstance(part, torch.nn.Embedding) and part.padding_idx == 0:
            assert not part.weight[0].any()
            assert part.weight.grad is not None
            assert not part.weight.grad[0].any()


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_state_is_the_one_after_the_last_event_and_sees_nothing_behind(name: str, kind: str) -> None:
    model, batch = encoder(name, positions=kind), toy.toy_batch()
    if model.sees_target_time:
        pytest.skip("the time of the prediction is seen, by design")
    hidden_BLD = model.encode(batch)
    expected = torch.stack([hidden_BLD[b, n - 1] for b, n in enumerate(batch.lengths_B.tolist())])
    torch.testing.assert_close(model.last(batch), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encode(toy.padded(batch, 1))[:, :-1], hidden_BLD, rtol=1e-4, atol=1e-5)
    changed = dataclasses.replace(batch, items_BL=batch.items_BL.clone())
    changed.items_BL[-1, 6:] = 1
    torch.testing.assert_close(model.encode(changed)[-1, :6], hidden_BLD[-1, :6], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), PLACED)
def test_order_matters_where_positions_are_told_apart(name: str, kind: str) -> None:
    batch = toy.rows(toy.toy_batch(), slice(7, 8))
    order = [1, 0, *range(2, batch.items_BL.shape[1])]
    swapped = dataclasses.replace(batch, items_BL=batch.items_BL[:, order])
    once = {"blocks": 1, "init_std": 1.0} | ({"position_bias": False} if "position_bias" in toy.numbers(name) else {})
    model = encoder(name, positions=kind, **once)
    same = torch.allclose(model.score_corpus(batch), model.score_corpus(swapped), atol=1e-4)
    by_distance = "filter" in toy.numbers(name)  # which weighs events by how far back they are
    assert same is (kind == "none" and not by_distance)


@pytest.mark.parametrize("changes", [{"attributes": "add"}, {"attributes": "concat"}])
@pytest.mark.parametrize("name", ENCODERS)
def test_attributes_are_read(name: str, changes: dict[str, object]) -> None:
    model, batch = encoder(name, **changes), toy.toy_batch()
    before = model.last(batch)
    assert model.attributes is not None
    with torch.no_grad():
        for part in model.attributes.attributes.values():
            part.table.weight[1:].normal_()  # type: ignore[operator, union-attr]
    assert not torch.allclose(model.last(batch), before, atol=1e-3)
    assert not model.embed_items(torch.tensor([[0]])).any()


@pytest.mark.parametrize("name", ENCODERS)
def test_an_unknown_user_is_a_zero_vector_and_known_ones_differ(name: str) -> None:
    model, batch = encoder(name, user_dim=6, init_std=1.0), toy.toy_batch()
    plain = encoder(name, init_std=1.0)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "user" not in k})
    unknown = dataclasses.replace(batch, users_B=torch.zeros(toy.USERS, dtype=torch.int64))
    torch.testing.assert_close(model.score_corpus(unknown), plain.score_corpus(batch))
    assert not torch.allclose(model.score_corpus(batch), plain.score_corpus(batch), atol=1e-2)


def test_training_takes_some_users_for_unknown_ones() -> None:
    model = encoder("sasrec", user_dim=6, user_dropout=0.75, init_std=1.0).train()
    x, users_B = torch.zeros(4000, 2, 16), torch.ones(4000, dtype=torch.int64)
    batch = Batch(users_B, users_B[:, None], users_B)
    torch.manual_seed(0)
    told_BLD = model.add_user(x, model.with_read_users(batch))
    known_B = told_BLD.any(2).any(1)
    assert known_B.float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(told_BLD[known_B], model.eval().add_user(x, batch)[known_B])  # whole, or not at all


@pytest.mark.parametrize("name", ENCODERS)
def test_training_drops_whole_events_and_scales_the_others(name: str) -> None:
    torch.manual_seed(0)
    model = encoder(name, event_dropout=0.25)
    items_BL = torch.arange(1, toy.ITEMS + 1).repeat(50, 1)
    whole = model.embed_items(items_BL)
    some = model.train().embed_items(items_BL)
    lost_BL = (some == 0).all(-1)
    assert 0.2 < lost_BL.float().mean() < 0.3
    assert lost_BL.any(0).all()
    assert not lost_BL.all(0).any()  # no item is always lost: each event is drawn by itself
    torch.testing.assert_close(some[~lost_BL], whole[~lost_BL] / 0.75)
    assert torch.equal(model.eval().embed_items(items_BL), whole)
    never = encoder(name, event_dropout=0.0)
    assert torch.equal(never.train().embed_items(items_BL), never.eval().embed_items(items_BL))


@pytest.mark.parametrize("name", ENCODERS)
def test_without_a_deviation_tables_and_layers_start_as_xaviers(name: str) -> None:
    model = encoder(name, init_std=None, embed_dim=64, **({"hidden": 64} if name == "gru4rec" else {}))
    table = model.items.weight
    expected = (2 / sum(table.shape)) ** 0.5 * 0.88  # a normal cut at two deviations has 0.88 of its own
    assert table[1:].std().item() == pytest.approx(expected, rel=0.05)
    assert not table[0].any()
    for layer in (part for part in model.modules() if isinstance(part, torch.nn.Linear) and part.weight.numel() > 2000):
        assert layer.weight.std().item() == pytest.approx(0.88 * (2 / sum(layer.weight.shape)) ** 0.5, rel=0.06)
    other = encoder(name, init_std=0.5, embed_dim=64, **({"hidden": 64} if name == "gru4rec" else {}))
    assert other.items.weight[1:].std().item() == pytest.approx(0.44, rel=0.05)


LOSSES: dict[str, dict[str, object]] = {
    "next_item": {"chunk_mb": 1},
    "sampled_softmax": {"negatives": 20_000, "shared": "batch", "sampling": "uniform"},
}


@pytest.mark.parametrize("changes", [{}, *OPTIONS])
@pytest.mark.parametrize("objective", LOSSES)
def test_losses_see_the_scores(objective: str, changes: dict[str, object]) -> None:
    """The full softmax is exact; a sampled one with a large sample is near it."""
    model, batch = encoder("sasrec", **changes), toy.toy_batch()
    settings = shipped("objective", objective) | LOSSES[objective]
    built = build_objective(config_class("objective", objective).from_plain(settings))  # type: ignore[arg-type]
    built.prepare(torch.ones(toy.ITEMS + 1, dtype=torch.int64))
    assert batch.targets_BL is not None
    real_BL = batch.targets_BL > 0
    scores_NV = model.encode(batch)[real_BL] @ model.item_table()[1:].T
    scores_NV = scores_NV if model.bias_V is None else scores_NV + model.bias_V[1:]
    expected = F.cross_entropy(scores_NV, batch.targets_BL[real_BL] - 1)
    gradients = torch.autograd.grad(expected, list(model.parameters()), retain_graph=True)
    torch.manual_seed(0)
    loss = built.loss(model, batch)
    ours = torch.autograd.grad(loss, list(model.parameters()))
    if objective == "next_item":
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        for ours_, theirs in zip(ours, gradients, strict=True):
            torch.testing.assert_close(ours_, theirs, rtol=1e-3, atol=1e-6)
    else:
        assert loss.item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize(("name", "kind"), covering([*itertools.product(ATTENDING, ["rotary", "relative"])]))
def test_positions_in_attention_export_and_compile(name: str, kind: str) -> None:
    model, batch = encoder(name, positions=kind, item_bias=True, temperature=0.1), toy.toy_batch()
    inputs = plain_inputs(batch)
    B, L, C = Dim("B", min=1), Dim("L", min=1, max=12), Dim("C", min=1)
    shapes = ({0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: C})
    program = torch.export.export(Scores(model), inputs, dynamic_shapes=shapes, strict=False)
    few = plain_inputs(toy.padded(toy.rows(batch, slice(2, 7)), 1))
    torch.testing.assert_close(program.module()(*few), Scores(model)(*few), rtol=1e-5, atol=1e-5)
    if toy.small_config(name).not_compiled:
        return
    torch._dynamo.reset()
    compiled = torch.compile(Scores(model.train()), backend="eager", fullgraph=True)
    compiled(*inputs).sum().backward()
    torch.testing.assert_close(compiled(*inputs), Scores(model)(*inputs), rtol=1e-4, atol=1e-5)


def test_row_sparse_tables_with_scores_by_cosine() -> None:
    for changes in OPTIONS:
        dense, sparse = encoder("sasrec", **changes), encoder("sasrec", **changes)
        sparse.load_state_dict(dense.state_dict())
        use_sparse_rows(sparse)
        batch = toy.rows(toy.toy_batch(), slice(0, 3))
        items_BC = torch.tensor([[1, 9], [7, 0], [9, 30]])
        for model in (dense, sparse):
            model.score(batch, items_BC).square().sum().backward()
        for ours, theirs in zip(sparse.parameters(), dense.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
            if ours.grad is not None and theirs.grad is not None:
                largest = float(theirs.grad.abs().max())  # sums in another order differ by a part of it
                torch.testing.assert_close(ours.grad.to_dense(), theirs.grad, rtol=1e-4, atol=1e-5 * max(1.0, largest))
        table = sparse.items if sparse.output is None else sparse.output
        assert table.weight.grad is not None
        assert table.weight.grad.is_sparse
        assert sparse.users is None or sparse.users.weight.grad.is_sparse  # type: ignore[union-attr]


def test_rotation_is_that_of_complex_numbers_and_products_know_the_distance_alone() -> None:
    rotary, d = Rotary(6, 9), 6
    x = torch.randn(2, 3, 9, d, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(9, dtype=torch.float64)
    rates = torch.tensor([10_000 ** (-2 * k / d) for k in range(3)], dtype=torch.float64)
    turned = torch.complex(x[..., :3].double(), x[..., 3:].double()) * torch.exp(1j * positions[:, None] * rates)
    torch.testing.assert_close(rotary(x), torch.cat([turned.real, turned.imag], -1).float(), rtol=1e-5, atol=1e-5)
    chosen = torch.tensor([[4, 0], [8, 3]])
    picked = x[:, :, :2]
    for b, n in np.ndindex(2, 2):
        alone = torch.zeros(1, 1, 9, d)
        alone[0, 0, chosen[b, n]] = picked[b, 1, n]
        torch.testing.assert_close(rotary(picked, chosen)[b, 1, n], rotary(alone)[0, 0, chosen[b, n]])
    q, k = x[0, 0, :1].expand(9, d)[None, None], x[0, 0, 1:2].expand(9, d)[None, None]
    products = (rotary(q) @ rotary(k).transpose(2, 3))[0, 0]
    for shift in range(-8, 9):
        diagonal = products.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", ["rotary", "relative"])
def test_attention_with_positions_by_loops(kind: str, causal: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    positions = attention_positions(kind, 2, 4, longest=7)  # type: ignore[arg-type]
    layer = MultiHeadAttention(8, 2, 0.0, positions=positions)
    x = torch.randn(2, 5, 8)
    mask_BT = None if causal else torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    (q,), (k, v) = split_heads((layer.query,), x, 2, 1), layer.project_kv(x)
    expected = torch.zeros(2, 2, 5, 4)
    for b, h, i in np.ndindex(2, 2, 5):
        seen = [j for j in range(5) if (not causal or j <= i) and (mask_BT is None or mask_BT[b, j])]
        logits = []
        for j in seen:
            if isinstance(positions, RelativeBias):
                logits.append(q[b, h, i] @ k[b, h, j] / 2 + positions.table.weight[i - j + 6, h])
            else:
                turn = lambda y, place: positions(y[None, None, None], torch.tensor([[place]]))[0, 0, 0]  # noqa: E731
                logits.append(turn(q[b, h, i], i) @ turn(k[b, h, j], j) / 2)
        expected[b, h, i] = torch.stack(logits).softmax(0) @ v[b, h, seen]
    expected_BTD = layer.out(expected.transpose(1, 2).flatten(2))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        got = layer(x, x, causal=causal, mask_BT=mask_BT)
        columns_BL = torch.tensor([[3, 1], [3, 1]])
        asked = None if causal else layer(x[:, [3, 1]], x, mask_BT=mask_BT, positions_BL=columns_BL)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(got.float(), expected_BTD, rtol=tolerance, atol=tolerance)
    if asked is not None:
        torch.testing.assert_close(asked.float(), expected_BTD[:, [3, 1]], rtol=tolerance, atol=tolerance)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"rotary turns pairs of numbers, .* gives heads of 3; use an even width"):
        toy.small_config("sasrec", embed_dim=6, heads=2, positions="rotary")
    with pytest.raises(ValidationError, match="temperature"):
        toy.small_config("sasrec", temperature=0.0)
    for name in set(ENCODERS) - set(ATTENDING):
        with pytest.raises(ValidationError, match=f"positions=relative acts on .* model={name} has none; use absolute"):
            toy.small_config(name, positions="relative")


def test_a_plan_counts_both_item_tables() -> None:
    found = parameters_by_part(encoder("gru4rec", tied=False))
    assert found["item_table"] == 2 * (toy.ITEMS + 1) * 16
    assert found["blocks"] == sum(p.numel() for p in encoder("gru4rec").blocks.parameters())  # type: ignore[union-attr, operator]
