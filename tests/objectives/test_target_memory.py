"""Negatives from the batches before: what is remembered, and how it counts."""

import pytest
import torch
from test_objectives import Fixed
from test_sampled_objective import COUNTS_V, Biased, D, K, V, batch, by_loop, objective

from seqrec_cli.objectives.samplers import PopularitySampler
from seqrec_cli.objectives.target_memory import TargetMemory

SEVEN = torch.arange(1, 8)


def test_the_oldest_make_room() -> None:
    memory = TargetMemory(COUNTS_V, 5)
    vectors_ND = torch.arange(7.0)[:, None].expand(7, 2)
    memory.remember(SEVEN[:3], vectors_ND[:3])
    assert memory.filled == 3
    assert memory.items_M[:3].tolist() == [1, 2, 3]
    memory.remember(SEVEN[3:6], vectors_ND[3:6])
    assert memory.filled == 5
    assert sorted(memory.items_M.tolist()) == [2, 3, 4, 5, 6]
    assert memory.vectors_MD is not None
    assert (memory.vectors_MD[:, 0] + 1).tolist() == memory.items_M.tolist()
    memory.remember(SEVEN, vectors_ND)  # more than there is room for: the latest
    assert sorted(memory.items_M.tolist()) == [3, 4, 5, 6, 7]


def test_batch_and_memory_are_drawn_alike_and_as_often_as_expected() -> None:
    """Over batches that hold each training event once."""
    torch.manual_seed(0)
    memory = TargetMemory(COUNTS_V, 24)
    events = torch.arange(V + 1).repeat_interleave(COUNTS_V)
    found_V, of_memory = torch.zeros(V + 1), 0
    for _ in range(400):
        for targets_N in events[torch.randperm(len(events))].view(4, -1):
            items, places = memory.draw_places(2, 8, targets_N)
            found_V += torch.bincount(items.flatten(), minlength=V + 1)
            of_memory += int((places >= 0).sum())
            assert torch.isin(items[places < 0], targets_N).all()
            assert torch.equal(memory.items_M[places[places >= 0]], items[places >= 0])
            memory.remember(targets_N, torch.zeros(len(targets_N), 1))
    items = torch.arange(1, V + 1)[COUNTS_V[1:] > 0]
    expected = memory.log_expected(items.expand(8, -1).T, draws=8).exp()[:, 0]
    torch.testing.assert_close(found_V[items] / 3200, expected, rtol=0.06, atol=0.0)
    assert of_memory / (3200 * 8) == pytest.approx(24 / 36, rel=0.03)  # of 24 places and 12 targets


@pytest.mark.parametrize("shared", ["batch", "sequence"])
@pytest.mark.parametrize("kind", [Fixed, Biased])
def test_remembered_vectors_are_those_of_then_and_learn_nothing(kind: type, shared: str) -> None:
    torch.manual_seed(1)
    then, now = torch.randn(V + 1, D), torch.randn(V + 1, D)
    built_once = objective("bce", sampling="cross_batch", shared=shared, memory=4)
    model = kind(now)
    built_once.after_step(kind(then), batch())  # remembers its targets, 2 3 4 1
    torch.manual_seed(5)
    window = built_once.drawn(batch())
    assert window.negatives_BLK is not None
    assert window.negative_places_BLK is not None
    places = window.negative_places_BLK
    assert 0 < (places >= 0).sum() < places.numel()
    loss = built_once.target_loss(model, window)
    loss.backward()
    # By a loop over one table that has the remembered vectors at its end.
    both = Biased(torch.cat([now, then[[2, 3, 4, 1]]]))
    bias_V = torch.zeros(V + 1) if model.item_bias() is None else model.item_bias().detach()
    both.bias = torch.nn.Parameter(torch.cat([bias_V, bias_V[[2, 3, 4, 1]]]))
    rows_BK = torch.where(places >= 0, V + 1 + places, window.negatives_BLK)[:, 0]
    each = rows_BK[[0, 0, 0, 1]]
    hit = window.negatives_BLK[:, 0][[0, 0, 0, 1]] == torch.tensor([2, 3, 4, 1])[:, None]
    expected = by_loop("bce", both, [1, 2, 3, 4], [2, 3, 4, 1], each.masked_fill(hit, 0))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(model.table.grad, both.table.grad[: V + 1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("log_q", ["none", "negatives", "all"])
def test_remembered_negatives_too_count_by_how_often_they_are_expected(log_q: str) -> None:
    torch.manual_seed(1)
    then, now = torch.randn(V + 1, D), torch.randn(V + 1, D)
    made = objective("sampled_softmax", sampling="cross_batch", shared="batch", memory=4, log_q=log_q)
    made.after_step(Fixed(then), batch())  # its targets, 2 3 4 1
    window = made.drawn(batch())
    assert window.negatives_BLK is not None
    assert window.negative_places_BLK is not None
    items_K, places_K = window.negatives_BLK[0, 0], window.negative_places_BLK[0, 0]
    vectors_KD = torch.where((places_K < 0)[:, None], now[items_K], then[items_K])
    expected_V = K * COUNTS_V.clamp(min=1) / COUNTS_V.sum()
    expected_K = expected_V[items_K]
    assert expected_K.unique().numel() > 1
    losses = []
    for query, target in zip([1, 2, 3, 4], [2, 3, 4, 1], strict=True):
        scores_K = vectors_KD @ now[query] - (0 if log_q == "none" else expected_K.log())
        own = now[target] @ now[query]
        beside = own - expected_V[target].log() if log_q == "all" else own
        kept_K = (items_K != target) | (log_q == "all")
        losses.append(torch.cat([beside[None], scores_K[kept_K]]).logsumexp(0) - own)
    loss = made.target_loss(Fixed(now), window)
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_a_validation_draws_as_from_a_memory_of_all_batches() -> None:
    training = objective("bce", sampling="cross_batch", shared="batch")
    training.after_step(Fixed(torch.randn(V + 1, D)), batch())
    measured = training.measured()
    assert isinstance(measured.sampler, PopularitySampler)
    assert not isinstance(measured.sampler, TargetMemory)
    assert measured.drawn(batch()).negative_places_BLK is None
    assert isinstance(training.sampler, TargetMemory)  # itself as before
    assert objective("bce", sampling="uniform", shared="batch", negatives=K).state() is None
