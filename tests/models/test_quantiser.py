"""From vectors to codes: residual k-means and RQ-VAE."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models import code_tuples
from seqrec_cli.models import quantiser as quantisers
from seqrec_cli.models.quantiser import Quantiser, RqVae, kmeans, nearest, perplexity
from seqrec_cli.saying import silent

RQVAE = RqVae(hidden=32, latent=4, steps=300, commitment=0.25)


def fitted(x_NW: Tensor, *, levels: int = 2, codes: int = 8, rqvae: RqVae | None = None, seed: int = 0) -> Quantiser:
    quantiser = Quantiser()
    quantiser.fit(x_NW, levels, codes, rqvae=rqvae, seed=seed, tell=silent)
    return quantiser


def clusters(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Eight groups of forty vectors, far from each other, and each one's group."""
    generator = torch.Generator().manual_seed(seed)
    groups_N = torch.arange(8).repeat_interleave(40)
    centres = 10 * torch.randn(8, 5, generator=generator)
    return centres[groups_N] + torch.randn(320, 5, generator=generator), groups_N


def test_k_means_finds_groups_that_are_far_apart() -> None:
    x_NW, groups_N = clusters()
    codes_N = nearest(x_NW, kmeans(x_NW, 8, torch.Generator().manual_seed(1)))
    for group in range(8):
        assert len(codes_N[groups_N == group].unique()) == 1
    assert perplexity(codes_N, 8) == pytest.approx(8.0)


def test_the_second_code_is_of_what_the_first_leaves_over() -> None:
    x_NW, _ = clusters()
    quantiser = fitted(x_NW)
    z_NZ = x_NW - x_NW.mean(0)
    first_CZ, second_CZ = quantiser.centroids_SCZ
    for z_Z, (first, second) in zip(z_NZ[::40], quantiser.codes(z_NZ)[::40].tolist(), strict=True):
        assert first == min(range(8), key=lambda c: float((z_Z - first_CZ[c]).square().sum()))
        rest_Z = z_Z - first_CZ[first]
        assert second == min(range(8), key=lambda c: float((rest_Z - second_CZ[c]).square().sum()))
    codes_NS = quantiser.codes(quantiser.latent(x_NW))
    errors = [
        (z_NZ - quantiser.centroids_SCZ[0][codes_NS[:, 0]]).square().sum(),
        (z_NZ - quantiser.decoded(codes_NS)).square().sum(),
    ]
    assert errors[1] < 0.6 * errors[0] < 0.6 * z_NZ.square().sum()


def test_codes_of_one_cloud_are_used_about_alike() -> None:
    x_NW = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    codes_NS = fitted(x_NW, levels=3, codes=16).codes(x_NW - x_NW.mean(0))
    assert all(perplexity(codes_N, 16) > 12 for codes_N in codes_NS.unbind(1))


def test_more_codes_than_vectors_are_no_harm() -> None:
    x_NW = torch.eye(3)[torch.tensor([0, 0, 1, 1, 2])]
    codes_NS = fitted(x_NW, levels=2, codes=6).codes(x_NW - x_NW.mean(0))
    assert codes_NS[0].tolist() == codes_NS[1].tolist()
    assert len({tuple(row) for row in codes_NS.tolist()}) == 3


@pytest.mark.parametrize("rqvae", [None, RqVae(8, 4, 5, 0.25)])
def test_the_seed_decides_and_nothing_else(rqvae: RqVae | None) -> None:
    x_NW, _ = clusters()
    torch.manual_seed(5)
    one = fitted(x_NW, rqvae=rqvae)
    torch.manual_seed(6)
    again, other = fitted(x_NW, rqvae=rqvae), fitted(x_NW, rqvae=rqvae, seed=1)
    assert torch.equal(one.centroids_SCZ, again.centroids_SCZ)
    assert not torch.equal(one.centroids_SCZ, other.centroids_SCZ)


def test_rqvae_learns_codes_that_say_where_a_vector_is() -> None:
    x_NW, groups_N = clusters()
    quantiser = fitted(x_NW / 10, rqvae=RQVAE)
    z_NZ = quantiser.latent(x_NW / 10)
    assert z_NZ.shape == (320, 4)
    codes_NS = quantiser.codes(z_NZ)
    left = (z_NZ - quantiser.decoded(codes_NS)).square().sum() / (z_NZ - z_NZ.mean(0)).square().sum()
    assert left < 0.2
    shares = [
        float((codes_NS[groups_N == g, 0].mode().values == codes_NS[groups_N == g, 0]).float().mean()) for g in range(8)
    ]
    assert np.mean(shares) > 0.9


def test_the_encoder_learns_from_what_is_restored() -> None:
    """Without a commitment from nothing else: the gradient passes the codes straight through."""
    x_NW, _ = clusters()
    one, more = (fitted(x_NW, rqvae=RqVae(8, 4, steps, 0.0)) for steps in (1, 4))
    assert not torch.allclose(one.up_WH, more.up_WH, atol=1e-3)
    assert not torch.allclose(one.down_HZ, more.down_HZ, atol=1e-3)


def test_where_vectors_lie_as_a_whole_does_not_matter() -> None:
    x_NW, _ = clusters()
    here, there = (fitted(each, rqvae=RqVae(8, 4, 5, 0.25)) for each in (x_NW, x_NW + 8))
    torch.testing.assert_close(here.centroids_SCZ, there.centroids_SCZ, rtol=0.01, atol=0.01)
    same_N = (here.codes(here.latent(x_NW)) == there.codes(there.latent(x_NW + 8))).all(1)
    assert same_N.float().mean() > 0.98


def test_codes_that_nobody_has_chosen_since_the_last_time_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    x_NW, starts, calls = clusters()[0], [], []
    kmeans_of = quantisers.residual_kmeans

    def started(*given: Any, **named: Any) -> Tensor:
        starts.append(kmeans_of(*given, **named))
        calls.clear()
        return starts[0].clone()

    def chosen(residual_NZ: Tensor, centroids_CZ: Tensor) -> Tensor:  # all codes in the first step, then one alone
        calls.append(1)
        nth = nearest(residual_NZ, centroids_CZ)
        return nth if len(calls) <= 2 else torch.zeros_like(nth)

    monkeypatch.setattr(quantisers, "residual_kmeans", started)
    monkeypatch.setattr(quantisers, "nearest", chosen)
    monkeypatch.setattr(quantisers, "RESTARTED_EVERY", 1)
    found_SCZ = fitted(x_NW, rqvae=RqVae(8, 4, 3, 0.25)).centroids_SCZ
    moved_SC = (found_SCZ - starts[0]).abs().amax(-1)
    assert (moved_SC[:, 0] < 0.05).all()  # three steps of the optimizer
    assert (moved_SC[:, 1:] > 0.05).float().mean() > 0.9


@pytest.mark.parametrize("rqvae", [None, RqVae(8, 4, 2, 0.25)])
def test_a_blank_one_takes_the_sizes_it_is_loaded_with(rqvae: RqVae | None) -> None:
    x_NW, _ = clusters()
    quantiser, blank = fitted(x_NW, rqvae=rqvae), Quantiser()
    blank.load_state_dict(copy.deepcopy(quantiser.state_dict()))
    later_NW = x_NW[:7] + 0.1
    assert torch.equal(blank.codes(blank.latent(later_NW)), quantiser.codes(quantiser.latent(later_NW)))


def none(items: int, levels: int) -> np.ndarray:
    return np.full((items + 1, levels + 1), code_tuples.NONE, np.int32)


def tuples(quantiser: Quantiser, x_NW: Tensor) -> np.ndarray:
    items = len(x_NW)
    empty = none(items, len(quantiser.centroids_SCZ))
    return code_tuples.add_tuples(empty, np.arange(1, items + 1), quantiser.latent(x_NW), quantiser=quantiser)


def test_items_alike_are_told_apart_by_the_last_code() -> None:
    x_NW, _ = clusters()
    x_NW = torch.cat([x_NW, x_NW[:3]])
    quantiser = fitted(x_NW, codes=8)
    found_VK = tuples(quantiser, x_NW)
    assert found_VK[0].tolist() == [-1, -1, -1]
    assert len({tuple(row) for row in found_VK[1:].tolist()}) == len(x_NW)
    assert found_VK[1:].min() == 0
    assert found_VK.max() < 8


def test_whom_the_last_code_cannot_tell_apart_goes_to_the_nearest_with_room() -> None:
    x_NW = torch.tensor([[0.0]] * 5 + [[10.0]] * 2)
    quantiser = Quantiser()
    quantiser.mean_W, quantiser.centroids_SCZ = torch.zeros(1), torch.tensor([[[0.0], [4.0], [10.0], [50.0]]])
    found_VK = tuples(quantiser, x_NW)
    assert found_VK[1:].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [2, 0], [2, 1]]
    with pytest.raises(SeqrecError, match=r"model\.codes=4: .* raise model\.codes or model\.levels"):
        tuples(quantiser, torch.zeros(17, 1))


def test_items_added_later_leave_the_others_as_they_are() -> None:
    x_NW, _ = clusters()
    quantiser = fitted(x_NW, codes=16)
    before_VK = tuples(quantiser, x_NW)
    longer_VK = np.concatenate([before_VK, none(1, 2)])  # padding and one item: two new ones
    new_N = np.array([321, 322])
    after_VK = code_tuples.add_tuples(longer_VK, new_N[:1], quantiser.latent(x_NW[4:5]), quantiser=quantiser)
    after_VK = code_tuples.add_tuples(after_VK, new_N[1:], quantiser.latent(x_NW[4:5]), quantiser=quantiser)
    assert np.array_equal(after_VK[:321], before_VK)
    assert after_VK[321:, :2].tolist() == [before_VK[5, :2].tolist()] * 2
    assert len({tuple(row) for row in after_VK[1:].tolist()}) == 322


@pytest.mark.parametrize("items", [1, 40, 49])
def test_codes_that_say_nothing_are_dealt_out_evenly(items: int) -> None:
    random_VK = code_tuples.at_random(items, 7, 1, seed=3)
    for found_VK in (random_VK, code_tuples.by_number(items, 7, 1)):
        assert len({tuple(row) for row in found_VK[1:].tolist()}) == items
    counts = np.bincount(random_VK[1:, 0], minlength=7)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("items", [60, 63, 64])
def test_nearly_all_tuples_of_several_levels_are_dealt_out_and_no_two_alike(items: int) -> None:
    for seed in range(5):  # by chance more items share all but the last code than there are last codes
        found_VK = code_tuples.at_random(items, 4, 2, seed=seed)[1:]
        assert found_VK.min() >= 0
        assert len({tuple(row) for row in found_VK.tolist()}) == items


def test_where_an_item_has_gone_a_new_one_takes_a_code_that_is_free() -> None:
    quantiser = Quantiser()
    quantiser.fit(torch.tensor([[0.0], [10.0], [20.0]]), 1, 3, rqvae=None, seed=0, tell=silent)
    (near,) = quantiser.codes(quantiser.latent(torch.tensor([[0.1]]))).flatten().tolist()
    gone_VK = np.array([[-1, -1], [near, 1], [near, 2], [-1, -1], [-1, -1]], np.int32)  # [near, 0] was somebody's
    z_NZ = quantiser.latent(torch.tensor([[0.1], [0.2]]))
    found_VK = code_tuples.add_tuples(gone_VK, np.array([3, 4]), z_NZ, quantiser=quantiser)
    assert found_VK[1:3].tolist() == gone_VK[1:3].tolist()
    assert found_VK[3].tolist() == [near, 0]
    assert found_VK[4, 0] != near  # no code of these is left
    assert len({tuple(row) for row in found_VK[1:].tolist()}) == 4


def test_too_few_tuples_are_refused() -> None:
    with pytest.raises(SeqrecError, match=r"model\.codes=7: with model\.levels=1 there are 49 tuples .* 50 items"):
        code_tuples.by_number(50, 7, 1)


def test_a_new_item_is_like_all_its_neighbours_in_all_histories() -> None:
    quantiser = Quantiser()
    quantiser.mean_W, quantiser.centroids_SCZ = torch.zeros(1), torch.tensor([[[0.0], [4.0], [11.0], [50.0]]])
    tuples_VK = np.array([[-1, -1], [0, 0], [1, 0], [2, 0], [-1, -1], [-1, -1]], np.int32)
    histories = [torch.tensor(each) for each in ([1, 4], [2, 4, 3], [1, 2])]
    found_N, z_NZ = code_tuples.neighbours_mean(histories, np.array([4, 5]), tuples_VK=tuples_VK, quantiser=quantiser)
    assert found_N.tolist() == [4]
    assert z_NZ.tolist() == [[5.0]]
