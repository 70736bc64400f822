"""Who is drawn as a negative, and how often: every sampler against its own claim."""

import math

import pytest
import torch

from seqrec_cli.config.objective.bce import Config
from seqrec_cli.objectives.samplers import MixedSampler, PopularitySampler, UniformSampler, build_sampler
from tests.shipped import shipped

V = 12
COUNTS_V = torch.tensor([0, 5, 0, 1, 9, 2, 2, 7, 1, 4, 3, 8, 6])
ANY = torch.tensor([3])  # targets, where the sampler does not look at them


def test_popular_items_are_drawn_by_their_counts() -> None:
    torch.manual_seed(0)
    sampler = PopularitySampler(COUNTS_V)
    items = sampler.draw(3, 100_000, ANY)
    assert items.shape == (3, 100_000)
    found_V, expected_V = torch.bincount(items.flatten(), minlength=V + 1), COUNTS_V / COUNTS_V.sum() * items.numel()
    assert found_V[0] == found_V[2] == 0
    drawn = expected_V > 0
    chi2 = ((found_V - expected_V)[drawn] ** 2 / expected_V[drawn]).sum().item()
    assert chi2 < 29.6  # 10 degrees of freedom, 0.1 %
    expected_in_a_group = sampler.log_expected(items, draws=items.shape[1]).exp()[0, :50]
    torch.testing.assert_close(expected_in_a_group, (expected_V / 3)[items[0, :50]], rtol=1e-4, atol=0.0)


def test_uniform_draws_reach_every_item_and_no_padding() -> None:
    torch.manual_seed(0)
    items = UniformSampler(V).draw(1, 12_000, ANY)
    found_V = torch.bincount(items.flatten(), minlength=V + 1)
    assert found_V[0] == 0
    assert ((found_V[1:] - 1000) ** 2 / 1000).sum().item() < 31.3  # 11 degrees of freedom, 0.1 %
    assert UniformSampler(V).log_expected(items, draws=items.shape[1])[0, 0].item() == pytest.approx(math.log(1000))


@pytest.mark.parametrize("sampling", ["uniform", "popularity", "in_batch", "mixed"])
def test_items_are_drawn_as_often_as_expected(sampling: str) -> None:
    """Over batches that hold each training event once; the expectation is what log-q takes off."""
    torch.manual_seed(0)
    sampler = build_sampler(sampling, COUNTS_V, 0.25)
    assert sampler is not None
    events = torch.arange(V + 1).repeat_interleave(COUNTS_V)
    draws = torch.cat([sampler.draw(2, 8, batch) for _ in range(1000) for batch in events.view(4, -1)])
    items = (
        torch.arange(1, V + 1)[COUNTS_V[1:] > 0] if sampling in ("popularity", "in_batch") else torch.arange(1, V + 1)
    )
    expected = sampler.log_expected(items.expand(8, -1).T, draws=8).exp()[:, 0]
    assert expected.sum().item() == pytest.approx(8, rel=1e-5)
    found = torch.bincount(draws.flatten(), minlength=V + 1)[items] / len(draws)
    torch.testing.assert_close(found, expected, rtol=0.08, atol=0.0)


def test_in_batch_draws_are_the_batch_s_own_targets() -> None:
    sampler = build_sampler("in_batch", COUNTS_V, 0.5)
    assert sampler is not None
    items = sampler.draw(3, 40, torch.tensor([4, 9, 9]))
    assert items.shape == (3, 40)
    assert set(items.flatten().tolist()) == {4, 9}


def test_mixed_draws_are_of_both_kinds_by_their_share() -> None:
    items = MixedSampler(COUNTS_V, 0.25).draw(5, 400, torch.tensor([4]))
    assert (items[:, :300] == 4).all()
    assert set(items[:, 300:].flatten().tolist()) == set(range(1, V + 1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("unseen", "batch", 5, 0.5), "share no unseen items"),
        (("mixed", "batch", 1, 0.4), "leaves none of one kind"),
        (("mixed", "batch", 3, 0.9), "leaves none of one kind"),
    ],
)
def test_draws_that_cannot_be_made_are_refused(settings: tuple[str, str, int, float], words: str) -> None:
    names = ("sampling", "shared", "negatives", "uniform_share")
    with pytest.raises(ValueError, match=words):
        Config(**shipped("objective", "bce") | dict(zip(names, settings, strict=True)))
