"""DIN and average pooling: the split first layer, weights, Dice, pieces, and all positions in one forward."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import toy
from torch import Tensor, nn

from seqrec_cli.data.batch import Batch
from seqrec_cli.models import interest
from seqrec_cli.models.interest import InterestRanker
from seqrec_cli.models.layers import activation_unit
from seqrec_cli.models.layers.activation_unit import ActivationUnit
from seqrec_cli.models.layers.channelwise import MOMENTUM, BatchNorm, Dice, PReLU


def ranker(name: str, **changes: object) -> InterestRanker:
    """A small one whose weights are large enough for differences to show."""
    model = toy.toy_model(name, init_std=0.5, **changes)
    assert isinstance(model, InterestRanker)
    return model.eval()


def unit(activation: str = "prelu", softmax: bool = False, widths: tuple[int, ...] = (9, 5)) -> ActivationUnit:
    torch.manual_seed(0)
    made = ActivationUnit(6, widths, activation, softmax=softmax)  # type: ignore[arg-type]
    for layer in made.activations:
        if not isinstance(layer, nn.Sigmoid):
            nn.init.uniform_(layer.slope)
    return made


def unit_inputs(candidates: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Events [4, 5, 6], candidates [4, C, 6] and who sees what [4, 5, C]; candidate 0 of row 0 sees nothing."""
    generator = torch.Generator().manual_seed(1)
    events, wanted = (torch.randn(4, n, 6, generator=generator) for n in (5, candidates))
    sees = torch.rand(4, 5, candidates, generator=generator) < 0.7
    sees[0, :, 0] = False
    return events, wanted, sees


def unsplit_weights(model: ActivationUnit, events: Tensor, candidates: Tensor) -> Tensor:
    """[B, L, C]: the MLP over [h; c; h - c; h * c], pair by pair."""
    B, L, F = events.shape
    h = events[:, :, None].expand(B, L, candidates.shape[1], F)
    c = candidates[:, None].expand_as(h)
    x = model.first(torch.cat([h, c, h - c, h * c], dim=-1))
    for place, activation in enumerate(model.activations):
        x = activation(x)
        if place < len(model.layers):
            x = model.layers[place](x)
    return model.weight(x)[..., 0]


@pytest.mark.parametrize("activation", ["prelu", "dice", "sigmoid"])
def test_the_split_first_layer_is_the_whole_one(activation: str) -> None:
    model, (events, candidates, sees) = unit(activation).eval(), unit_inputs()
    weights = unsplit_weights(model, events, candidates) * sees
    torch.testing.assert_close(model.weights(events, candidates, sees), weights, rtol=1e-4, atol=1e-5)
    expected = torch.einsum("blc,blf->bcf", weights, events)
    torch.testing.assert_close(model(events, candidates, sees), expected, rtol=1e-4, atol=1e-5)
    shared = model(events, candidates[0], sees)  # the same candidates for all rows
    torch.testing.assert_close(shared, model(events, candidates[:1].expand(4, -1, -1), sees), rtol=1e-4, atol=1e-5)


def test_softmax_is_over_the_events_that_are_seen_and_scaled() -> None:
    model, (events, candidates, sees) = unit(softmax=True), unit_inputs()
    got = model.weights(events, candidates, sees)
    raw = unsplit_weights(model, events, candidates) / 6**0.5
    for b in range(4):
        for c in range(3):
            seen = sees[b, :, c]
            torch.testing.assert_close(got[b, seen, c], raw[b, seen, c].softmax(0), rtol=1e-4, atol=1e-5)
            assert not got[b, ~seen, c].any()


def test_raw_weights_keep_the_strength_of_an_interest() -> None:
    events, candidates, _ = unit_inputs()
    twice, sees = torch.cat([events, events], 1), torch.ones(4, 10, 1, dtype=torch.bool)
    raw, soft = unit(), unit(softmax=True)
    torch.testing.assert_close(raw(twice, candidates, sees), 2 * raw(events, candidates, sees[:, :5]))
    torch.testing.assert_close(soft(twice, candidates, sees), soft(events, candidates, sees[:, :5]))


def learned(model: ActivationUnit, run: Callable[..., Tensor], shared: bool) -> list[Tensor | None]:
    """What the unit makes, all gradients, and its running averages."""
    events, candidates, sees = unit_inputs()
    leaves = [events.requires_grad_(), (candidates[0] if shared else candidates).detach().requires_grad_()]
    out = run(*leaves, sees)
    (out * torch.arange(out.numel()).view_as(out)).sum().backward()
    found = [out.detach(), *(x.grad for x in leaves), *(p.grad for p in model.parameters()), *model.buffers()]
    assert len(found) > 8
    return found


@pytest.mark.parametrize("activation", ["prelu", "dice"])
@pytest.mark.parametrize("shared", [False, True])
def test_rows_by_parts_give_the_same_numbers_and_gradients(
    activation: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for cached in (1 << 20, 1):
        monkeypatch.setattr(activation_unit, "CACHED", cached)
        model = unit(activation).train()
        results.append(learned(model, model, shared))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", ["prelu", "dice", "sigmoid"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_compiled_unit_gives_the_same_numbers_and_gradients(activation: str, shared: bool) -> None:
    results = []
    for compiled in (False, True):
        model = unit(activation).train()
        run = torch.compile(model.forward, backend="aot_eager", fullgraph=True) if compiled else model
        results.append(learned(model, run, shared))
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(eager, traced, rtol=1e-3, atol=1e-4)


def test_prelu_and_its_gradients_are_those_of_torch() -> None:
    ours, theirs = PReLU(4), nn.PReLU(4)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    grads = []
    for layer in (ours, theirs):
        nn.init.constant_(next(layer.parameters()), 0.3)
        leaf = x.clone().requires_grad_()
        layer(leaf).square().sum().backward()
        grads.append([layer(x).detach(), leaf.grad, next(layer.parameters()).grad])
    for mine, reference in zip(*grads, strict=True):
        torch.testing.assert_close(mine, reference)


def dice_by_hand(x_NM: Tensor, slope: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    p = torch.sigmoid((x_NM - mean) / (var + 1e-8).sqrt())
    return p * x_NM + (1 - p) * slope * x_NM


def test_dice_uses_the_statistics_of_real_elements_and_keeps_a_running_average() -> None:
    layer = Dice(3)
    nn.init.constant_(layer.slope, 0.2)
    x = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0)) * 3 + 2
    real = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    mean, var = x[real].mean(0), x[real].var(0, unbiased=False)
    torch.testing.assert_close(layer(x, real), dice_by_hand(x, layer.slope, mean, var))
    torch.testing.assert_close(layer.running_mean, MOMENTUM * mean)
    torch.testing.assert_close(layer.running_var, 1 - MOMENTUM + MOMENTUM * var)
    poisoned = torch.where(real[..., None], x, torch.full_like(x, 1e3))
    again = Dice(3)
    nn.init.constant_(again.slope, 0.2)
    torch.testing.assert_close(again(poisoned, real)[real], layer(x, real)[real])


def test_dice_in_evaluation_knows_no_batch() -> None:
    layer = Dice(3)
    for seed in range(60):
        layer(torch.randn(200, 3, generator=torch.Generator().manual_seed(seed)) * 2 + 5)
    layer.eval()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(99))
    before = layer.running_mean.clone()
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))
    torch.testing.assert_close(
        layer(x), dice_by_hand(x, layer.slope, torch.full((3,), 5.0), torch.full((3,), 4.0)), rtol=0.1, atol=0.1
    )
    assert torch.equal(layer.running_mean, before)


def test_batch_normalisation_is_torchs_and_leaves_padding_out() -> None:
    ours, theirs = BatchNorm(3), nn.BatchNorm1d(3)
    for layer in (ours, theirs):
        nn.init.uniform_(layer.weight)
        nn.init.uniform_(layer.bias)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    x = torch.randn(4, 5, 3) * 3 + 1
    real = torch.ones(4, 5, dtype=torch.bool)
    real[:, 4:] = False
    leaf, alone = x.clone().requires_grad_(), x[:, :4].reshape(-1, 3).requires_grad_()
    got, expected = ours(leaf, real)[:, :4].reshape(-1, 3), theirs(alone)
    torch.testing.assert_close(got, expected)
    weights = torch.randn(16, 3)
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    assert leaf.grad is not None
    assert alone.grad is not None
    torch.testing.assert_close(leaf.grad[:, :4].reshape(-1, 3), alone.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    theirs.running_var.copy_(ours.running_var)  # torch's is that of a sample, n / (n - 1) times ours
    torch.testing.assert_close(ours.eval()(x[0]), theirs.eval()(x[0]))


def test_a_model_with_batch_normalisation_keeps_rows_apart_in_evaluation() -> None:
    model, batch = ranker("din", batch_norm=True), toy.toy_batch()
    items_BC = torch.arange(1, 4).expand(len(batch), 3).clone()
    model.train().score(batch, items_BC)  # statistics of its own
    model.eval()
    scores = model.score(batch, items_BC)
    assert not torch.allclose(scores, ranker("din").score(batch, items_BC))
    alone = batch.part(1, 2)
    torch.testing.assert_close(model.score(alone, items_BC[1:2]), scores[1:2])


def test_the_gradient_of_dice_flows_through_its_statistics() -> None:
    layer = Dice(2)
    nn.init.constant_(layer.slope, 0.1)
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.arange(14.0).view(7, 2)

    def loss(y: Tensor) -> Tensor:
        mean, var = y.mean(0), y.var(0, unbiased=False)
        return (dice_by_hand(y, layer.slope, mean, var) * weights).sum()

    (ours,) = torch.autograd.grad((layer(x) * weights).sum(), x)
    (reference,) = torch.autograd.grad(loss(x), x)
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)


def head(model: InterestRanker, batch: Batch, interest_BF: Tensor, item: int) -> Tensor:
    """The MLP over one concatenated input [B]."""
    inputs = [interest_BF, model.items.joined(torch.tensor(item)).expand(len(batch), -1)]
    layers = [model.from_interest, model.from_item]
    if model.from_user is not None:
        inputs, layers = [*inputs, model.users.joined(batch.users_B)], [*layers, model.from_user]
    x = torch.cat(inputs, dim=1) @ torch.cat([layer.weight for layer in layers], dim=1).T + model.from_interest.bias
    x = model.mlp.activations[0](x)
    for layer, activation in zip(model.mlp.layers, model.mlp.activations[1:], strict=True):
        x = activation(layer(x))
    return model.logit(x)[:, 0]


@pytest.mark.parametrize("user_id", [False, True])
def test_average_pooling_reads_the_mean(user_id: bool) -> None:
    model, batch = ranker("avgpool", user_id=user_id), toy.toy_batch()
    events = model.items.joined(batch.items_BL)
    means = torch.stack([events[b, :n].mean(0) for b, n in enumerate(batch.lengths_B.tolist())])
    got = model.score_corpus(batch)[:, 17]
    torch.testing.assert_close(got, head(model, batch, means, 17), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"softmax": True}, {"unit_activation": "dice"}])
def test_din_reads_the_weighted_sum(changes: dict[str, object]) -> None:
    model, batch = ranker("din", **changes), toy.toy_batch()
    events, candidate = model.items.joined(batch.items_BL), model.items.joined(torch.tensor([[17]]))
    raw = unsplit_weights(model.unit, events, candidate.expand(len(batch), -1, -1))[..., 0]  # type: ignore[arg-type]
    if changes.get("softmax"):
        raw = (raw / events.shape[-1] ** 0.5).masked_fill(~batch.mask_BL, -torch.inf).softmax(1)
    interests = ((raw * batch.mask_BL)[..., None] * events).sum(1)
    got = model.score_corpus(batch)[:, 17]
    torch.testing.assert_close(got, head(model, batch, interests, 17), rtol=1e-4, atol=1e-5)


POSITIONS = [
    ("avgpool", {}),
    ("din", {}),
    ("din", {"softmax": True}),
    ("din", {"unit_activation": "dice", "unit": [7, 5]}),
    ("din", {"user_id": True, "max_length": 4}),
    ("avgpool", {"max_length": 3}),
    ("din", {"batch_norm": True}),
]


@pytest.mark.parametrize(("name", "changes"), POSITIONS)
def test_all_positions_at_once_equal_a_row_a_prefix(name: str, changes: dict[str, object]) -> None:
    model, batch = ranker(name, **changes), toy.padded(toy.toy_batch(), 2)
    generator = torch.Generator().manual_seed(4)
    items = torch.randint(1, toy.ITEMS + 1, (len(batch), 9), generator=generator)
    ends = 1 + (torch.rand(len(batch), 9, generator=generator) * batch.lengths_B[:, None]).long()
    assert int(ends.max()) > 8
    got = model.score_positions(batch, items, ends)
    longest = model.max_length
    for b in range(len(batch)):
        for c in range(9):
            end = int(ends[b, c])
            history = batch.items_BL[b, max(0, end - longest) : end][None]
            prefix = Batch(batch.users_B[b : b + 1], history, torch.tensor([history.shape[1]]))
            expected = model.score(prefix, items[b : b + 1, c : c + 1])[0, 0]
            torch.testing.assert_close(got[b, c], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"unit_activation": "dice"}, {"batch_norm": True}])
def test_padded_targets_of_a_row_teach_nothing(changes: dict[str, object]) -> None:
    batch, losses = toy.toy_batch(), []
    items, ends = batch.candidates_BC, batch.lengths_B[:, None].expand(-1, 2)
    assert items is not None
    for more in (0, 3):
        model = ranker("din", **changes).train()
        padded = [nn.functional.pad(x, (0, more)) for x in (items, ends)]
        logits = model.score_positions(batch, *padded)
        assert torch.isfinite(logits).all()
        loss = logits[:, :2].square().sum()
        loss.backward()
        losses.append([loss.detach(), *(p.grad for p in model.parameters()), *model.buffers()])
    for short, long in zip(*losses, strict=True):
        torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["din", "avgpool"])
def test_pieces_change_no_score(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = ranker(name), toy.toy_batch()
    whole = model.score_corpus(batch).detach()
    items = torch.arange(1, 25).view(8, 3)
    encoded, calls = [], []
    for method, record in (("encode_history", encoded), ("interest", calls)):
        original = getattr(type(model), method)
        monkeypatch.setattr(type(model), method, lambda *a, o=original, r=record: r.append(1) or o(*a))
    monkeypatch.setattr(interest, "CACHED_PIECE", 2_000)
    monkeypatch.setattr(interest, "FEATURES_AT_ONCE", 16)
    made, joined = [], model.items.joined
    monkeypatch.setattr(model.items, "joined", lambda items: made.append(items.numel()) or joined(items))
    with torch.no_grad():
        torch.testing.assert_close(model.score_corpus(batch), whole, rtol=1e-4, atol=1e-5)
        assert len(calls) > 10
        assert made == [batch.items_BL.numel(), 16, 16, 41 - 32]  # the history's, then each candidate's once
        assert len(encoded) == 1  # a history is read once, whatever the number of candidates
        torch.testing.assert_close(model.score(batch, items), whole.gather(1, items), rtol=1e-4, atol=1e-5)


def test_only_the_candidate_tells_the_rows_of_din_apart() -> None:
    """The same user's interest differs between candidates in DIN and not in average pooling."""
    batch = toy.toy_batch()
    seen = {}
    for name in ("din", "avgpool"):
        model = ranker(name)
        history = model._history(batch, batch.mask_BL[..., None])
        interests = model.interest(history, model.items.joined(torch.tensor([3, 17])))
        seen[name] = interests.expand(-1, 2, -1)
    assert torch.equal(seen["avgpool"][:, 0], seen["avgpool"][:, 1])
    assert not torch.allclose(seen["din"][:, 0], seen["din"][:, 1])


@pytest.mark.parametrize("name", ["din", "avgpool"])
def test_works_without_any_attribute(name: str) -> None:
    plain = dataclasses.replace(
        toy.toy_catalog(), item_attributes=(), user_attributes=(), item_values={}, user_values={}
    )
    model = type(ranker(name))(toy.small_config(name), plain).eval()  # type: ignore[arg-type]
    assert model.from_user is None
    assert torch.isfinite(model.score_corpus(toy.toy_batch())).all()
