"""BST: its fast path, read-outs, positions and features."""

import dataclasses

import pytest
import torch
import toy
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models import pieces
from seqrec_cli.models.bst import Model


def bst(**changes: object) -> Model:
    """A small BST whose weights are large enough for differences to show."""
    model = toy.toy_model("bst", init_std=0.5, **changes)
    assert isinstance(model, Model)
    return model.eval()


def states(model: Model, batch: Batch, item: int) -> Tensor:
    """All places after all blocks [B, T, D], by the plain transformer over [history; candidate]."""
    history = model._history(batch)
    candidate_D = model.items.summed(torch.tensor(item))
    if model.places is not None:
        candidate_D = candidate_D + model.places.weight[0]
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


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("positions", ["index", "time"])
def test_the_fast_path_equals_the_whole_transformer(norm: str, blocks: int, positions: str) -> None:
    model, batch = bst(norm=norm, blocks=blocks, positions=positions), toy.toy_batch()
    items = torch.tensor([[3, 17, 40]]).expand(len(batch), -1)
    expected = [head(model, batch, states(model, batch, i)[:, -1], i) for i in (3, 17, 40)]
    torch.testing.assert_close(model.score(batch, items), torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_reading_all_places_starts_from_the_candidate_and_ends_in_zeros() -> None:
    model, batch = bst(read_out="all", blocks=2), toy.toy_batch()
    x = states(model, batch, 9)
    places = torch.zeros(len(batch), 13, 16)
    for row, length in enumerate(batch.lengths_B.tolist()):
        places[row, 0] = x[row, -1]
        places[row, 1 : length + 1] = x[row, :length].flip(0)
    expected = head(model, batch, places.flatten(1), 9)
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
    places = model._event_places(batch)
    for row, length in enumerate(batch.lengths_B.tolist()):
        assert places[row, :length].tolist() == list(range(length, 0, -1))


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
