"""BST: its fast path, read-outs, positions and features."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import toy
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models import pieces
from seqrec_cli.models.bst import Model

Activation = Callable[..., Tensor]


def bst(**changes: object) -> Model:
    """A small BST whose weights are large enough for differences to show."""
    model = toy.toy_model("bst", init_std=0.5, **changes)
    assert isinstance(model, Model)
    return model.eval()


def states(model: Model, batch: Batch, item: int) -> Tensor:
    """All positions after all blocks [B, T, D], by the plain transformer over [history; candidate]."""
    history = model._history(batch)
    candidate_D = model.items.summed(torch.tensor(item))
    if model.positions is not None:
        candidate_D = candidate_D + model.positions.weight[0]
    x = torch.cat([history.events_BLD, candidate_D.expand(len(batch), 1, -1)], dim=1)
    mask = nn.functional.pad(history.mask_BL, (0, 1), value=True)
    for block in model.blocks:
        x = block(x, mask_BL=mask)
    return model.norm(x)


def head(model: Model, batch: Batch, read_BF: Tensor, item: int) -> Tensor:
    """The MLP over one concatenated input [B]."""
    inputs = [read_BF, model.items.joined(torch.tensor(item)).expand(len(batch), -1), model.users.joined(batch.users_B)]
    layers = [model.from_sequence, model.from_item, model.from_user]
    weight = torch.cat([layer.weight for layer in layers if layer is not None], dim=1)
    hidden = nn.functional.leaky_relu(torch.cat(inputs, dim=1) @ weight.T + model.from_sequence.bias)
    for layer in model.mlp.layers:
        hidden = nn.functional.leaky_relu(layer(hidden))
    return model.logit(hidden)[:, 0]


def published_by_hand(model: Model, batch: Batch, row: int, item: int, *, block: Activation, mlp: Activation) -> Tensor:
    """Eq. 1-5 and the MLP of one row and candidate in plain torch: one post-norm block, read at the candidate."""
    weight, length = dict(model.named_parameters()), int(batch.lengths_B[row])
    linear = lambda name, y: y @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]  # noqa: E731
    norm = lambda y: (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()  # noqa: E731
    positions = weight["positions.weight"]
    events = model.items.summed(batch.items_BL[row, :length]) + positions[torch.arange(length, 0, -1)]
    x = torch.cat([events, (model.items.summed(torch.tensor(item)) + positions[0])[None]])
    q, (k, v) = linear("blocks.0.attention.query", x), linear("blocks.0.attention.key_value", x).chunk(2, dim=1)
    heads = [(q[:, h] @ k[:, h].T / 8**0.5).softmax(1) @ v[:, h] for h in (slice(0, 8), slice(8, 16))]
    x = norm(x + linear("blocks.0.attention.out", torch.cat(heads, dim=1)))
    x = norm(x + linear("blocks.0.feed_forward.down", block(linear("blocks.0.feed_forward.up", x))))
    read = linear("from_sequence", x[-1]) + weight["from_item.weight"] @ model.items.joined(torch.tensor(item))
    hidden = mlp(read + weight["from_user.weight"] @ model.users.joined(batch.users_B[row]), 0)
    for nth in range(len(model.mlp.layers)):
        hidden = mlp(linear(f"mlp.layers.{nth}", hidden), nth + 1)
    return linear("logit", hidden)[0]


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
}


@pytest.mark.parametrize(
    ("block", "mlp", "batch_norm"),
    [
        ("leaky_relu", "leaky_relu", False),
        ("leaky_relu", "relu", True),
        ("relu", "prelu", False),
        ("gelu", "dice", True),
    ],
)
def test_the_papers_and_the_tutorials_activations(block: str, mlp: str, batch_norm: bool) -> None:
    """LeakyReLU everywhere as in the paper; an MLP of Linear, BatchNorm and ReLU as in torch-rechub."""
    model, batch = bst(block_activation=block, activation=mlp, batch_norm=batch_norm), toy.toy_batch()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, number in [*model.named_parameters(), *model.named_buffers()]:
            if "slope" in name or "running" in name or name.startswith("mlp.norms"):
                number.uniform_(0.2, 0.9, generator=generator)

    def activated(x: Tensor, nth: int) -> Tensor:
        if batch_norm:
            layer = model.mlp.norms[nth]  # type: ignore[index]
            x = (x - layer.running_mean) / (layer.running_var + 1e-5).sqrt() * layer.weight + layer.bias
        if mlp in FUNCTIONS:
            return FUNCTIONS[mlp](x)
        layer = model.mlp.activations[nth]
        if mlp == "prelu":
            return torch.where(x > 0, x, layer.slope * x)
        gate = torch.sigmoid((x - layer.running_mean) / layer.running_var.sqrt())
        return gate * x + (1 - gate) * layer.slope * x

    scores = model.score_corpus(batch)
    for row in (0, 5):
        for item in (3, 40):
            expected = published_by_hand(model, batch, row, item, block=FUNCTIONS[block], mlp=activated)
            torch.testing.assert_close(scores[row, item], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("dropout", "mlp_dropout"), [(0.0, 0.5), (0.5, 0.0)])
def test_the_mlp_drops_by_itself(dropout: float, mlp_dropout: float) -> None:
    model, shares = bst(dropout=dropout, mlp_dropout=mlp_dropout).train(), []
    model.logit.register_forward_pre_hook(lambda _, given: shares.append((given[0] == 0).float().mean().item()))
    first, second = (model.score(toy.toy_batch(), torch.full((8, 40), 3)) for _ in range(2))
    assert not torch.equal(first, second)
    assert shares[0] == pytest.approx(mlp_dropout, abs=0.1)
    shipped = toy.numbers("bst")
    assert shipped["mlp_dropout"] == shipped["dropout"]


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("positions", ["index", "time"])
def test_the_fast_path_equals_the_whole_transformer(norm: str, blocks: int, positions: str) -> None:
    model, batch = bst(norm=norm, blocks=blocks, positions=positions), toy.toy_batch()
    items = torch.tensor([[3, 17, 40]]).expand(len(batch), -1)
    expected = [head(model, batch, states(model, batch, i)[:, -1], i) for i in (3, 17, 40)]
    torch.testing.assert_close(model.score(batch, items), torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_reading_all_positions_starts_from_the_candidate_and_ends_in_zeros() -> None:
    model, batch = bst(read_out="all", blocks=2), toy.toy_batch()
    x = states(model, batch, 9)
    positions = torch.zeros(len(batch), 13, 16)
    for row, length in enumerate(batch.lengths_B.tolist()):
        positions[row, 0] = x[row, -1]
        positions[row, 1 : length + 1] = x[row, :length].flip(0)
    expected = head(model, batch, positions.flatten(1), 9)
    torch.testing.assert_close(model.score_corpus(batch)[:, 9], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"blocks": 2}, {"read_out": "all"}, {"user_id": True}])
def test_pieces_change_no_score(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = bst(**changes), toy.toy_batch()
    whole = model.score_corpus(batch).detach()
    items = torch.arange(1, 25).view(8, 3)
    calls = []
    original = Model._pairs
    monkeypatch.setattr(Model, "_pairs", lambda *args: calls.append(1) or original(*args))
    monkeypatch.setattr(pieces, "BUDGET", 10_000)
    with torch.no_grad():
        torch.testing.assert_close(model.score_corpus(batch), whole, rtol=1e-4, atol=1e-5)
        assert len(calls) > 10
        torch.testing.assert_close(model.score(batch, items), whole.gather(1, items), rtol=1e-4, atol=1e-5)


def test_candidates_do_not_see_one_another() -> None:
    for blocks in (1, 2):
        model, batch = bst(blocks=blocks), toy.toy_batch()
        pair = model.score(batch, torch.tensor([[3, 17]]).expand(8, -1))
        other = model.score(batch, torch.tensor([[3, 25]]).expand(8, -1))
        torch.testing.assert_close(pair[:, 0], other[:, 0], rtol=1e-5, atol=1e-6)


def test_with_two_blocks_the_history_sees_the_candidate() -> None:
    model, batch = bst(blocks=2), toy.toy_batch()
    assert not torch.allclose(states(model, batch, 3)[:, 0], states(model, batch, 17)[:, 0])


def test_time_positions_read_ages_and_need_them() -> None:
    model, batch = bst(positions="time"), toy.toy_batch()
    assert batch.request_times_B is not None
    later = dataclasses.replace(batch, request_times_B=batch.request_times_B + 30 * 86400)
    assert not torch.allclose(model.score_corpus(batch), model.score_corpus(later))
    assert torch.equal(bst().score_corpus(batch), bst().score_corpus(later))
    assert model.sees_target_time
    assert not bst().sees_target_time
    with pytest.raises(SeqrecError, match=r"model\.positions=time needs event times"):
        model.score_corpus(dataclasses.replace(batch, times_BL=None))


def test_index_positions_are_distances_to_the_candidate() -> None:
    model, batch = bst(), toy.toy_batch()
    positions = model._event_positions(batch)
    for row, length in enumerate(batch.lengths_B.tolist()):
        assert positions[row, :length].tolist() == list(range(length, 0, -1))


def test_the_order_of_events_matters_only_by_position() -> None:
    batch = toy.rows(toy.toy_batch(), slice(7, 8))
    swapped = dataclasses.replace(batch, items_BL=batch.items_BL.flip(1))
    assert batch.lengths_B.item() == batch.items_BL.shape[1]
    for positions, same in (("index", False), ("none", True)):
        model = bst(positions=positions)
        assert torch.allclose(model.score_corpus(batch), model.score_corpus(swapped), atol=1e-5) is same


def test_user_features_reach_the_logit() -> None:
    batch = toy.rows(toy.toy_batch(), slice(0, 1))
    as_user = lambda u: dataclasses.replace(batch, users_B=torch.tensor([u]))  # noqa: E731
    by_segment, by_id = bst(), bst(user_id=True)
    assert torch.equal(by_segment.score_corpus(as_user(1)), by_segment.score_corpus(as_user(4)))  # same segment
    assert not torch.allclose(by_segment.score_corpus(as_user(1)), by_segment.score_corpus(as_user(2)))
    assert not torch.allclose(by_id.score_corpus(as_user(1)), by_id.score_corpus(as_user(4)))


def test_items_of_equal_attributes_share_what_they_share() -> None:
    model = bst()
    with torch.no_grad():
        assert model.items.own is not None
        model.items.own.weight.zero_()
    genres, decades = (toy.toy_catalog().item_values[k] for k in ("genre", "decade"))
    scores_V = model.score_corpus(toy.toy_batch())[0]
    sets = [(frozenset(g[g > 0].tolist()), int(d[0])) for g, d in zip(genres, decades, strict=True)]
    twins = [(i, j) for i in range(1, 41) for j in range(i + 1, 41) if sets[i] == sets[j]]
    assert twins
    assert all(torch.isclose(scores_V[i], scores_V[j], atol=1e-5) for i, j in twins)
    assert len(scores_V[1:].unique()) > 10


def test_works_without_any_attribute() -> None:
    plain = dataclasses.replace(
        toy.toy_catalog(), item_attributes=(), user_attributes=(), item_values={}, user_values={}
    )
    config = toy.small_config("bst")
    model = Model(config, plain)  # type: ignore[arg-type]
    assert model.from_user is None
    assert torch.isfinite(model.score_corpus(toy.toy_batch())).all()
