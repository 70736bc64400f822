"""The generative retriever: what it says of an item, exactly and by beam search, and whose codes are whose.

Legend: B rows, V items, K codes a tuple, C codes of a level, D width.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model.semantic import Config
from seqrec_cli.config.registry import config_class
from seqrec_cli.kernels.split_heads.op import split_heads
from seqrec_cli.models.build import build_model
from seqrec_cli.models.described_items import attribute_vectors, history_vectors
from seqrec_cli.models.item_tuples import Made, clustered, completed
from seqrec_cli.models.layers.code_tree import NO_ITEM
from seqrec_cli.models.quantiser import Quantiser
from seqrec_cli.models.semantic import Model
from seqrec_cli.objectives.contract import build_objective
from seqrec_cli.saying import silent
from tests.shipped import shipped

FORMS: list[dict[str, Any]] = [
    {},
    {"normalise": "all", "vectors": "attributes"},
    {"tied": False, "item_bias": True, "decoder_blocks": 2},
    {"temperature": 0.1, "levels": 1, "vectors": "random"},
]


def moved(seed: int = 0, **changes: Any) -> Model:
    """A model in evaluation mode away from its start."""
    model = toy.toy_model("semantic", seed, **changes).eval()
    assert isinstance(model, Model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        model.history.items.table.weight[0] = 0  # type: ignore[union-attr]
    return model


def spelled_out(model: Model, last_D: Tensor, item: int) -> float:
    """One item's log probability by the equations, token after token."""
    cfg, tuple_K = model.cfg, model.tuples_VK[item].tolist()
    table = model.history.items.table.weight  # type: ignore[union-attr]
    existing = {tuple(row) for row in model.tuples_VK[1:].tolist()}
    total = 0.0
    for level, code in enumerate(tuple_K):
        sums = [last_D]
        for before in range(level):
            vectors = [table[1 + nth * cfg.codes + tuple_K[nth]] for nth in range(before + 1)]
            sums.append(torch.stack(vectors).sum(0))
        x_1lD = (torch.stack(sums) + model.levels.weight[: level + 1])[None]
        for block in model.blocks:
            x_1lD = block(x_1lD, causal=True)
        query_D = model.norm(x_1lD[0, -1])
        of_level = slice(level * cfg.codes, (level + 1) * cfg.codes)
        codes_CD = (table[1:] if model.output is None else model.output.weight)[of_level]
        if cfg.temperature is not None:
            query_D, codes_CD = F.normalize(query_D, dim=0) / cfg.temperature, F.normalize(codes_CD, dim=1)
        logits_C = codes_CD @ query_D + (0 if model.bias_KC is None else model.bias_KC[level])
        if cfg.normalise == "existing":
            ways = {row[level] for row in existing if list(row[:level]) == tuple_K[:level]}
            logits_C = torch.stack([x if c in ways else x - torch.inf for c, x in enumerate(logits_C)])
        total += float(logits_C.log_softmax(0)[code])
    return total


@pytest.mark.parametrize("form", FORMS)
def test_a_score_is_the_sum_of_its_codes_log_probabilities(form: dict[str, Any]) -> None:
    model, batch = moved(**form), toy.toy_batch()
    with torch.no_grad():
        scores_BV, last_BD = model.score_corpus(batch), model.history.last(batch)
        for row, item in ((0, 1), (3, 17), (7, toy.ITEMS)):
            assert scores_BV[row, item] == pytest.approx(spelled_out(model, last_BD[row], item), abs=1e-4)
        every_BV = torch.arange(1, toy.ITEMS + 1).expand(len(batch), -1)
        states_ND = last_BD.repeat_interleave(toy.ITEMS, 0)
        direct_BV = model.log_probability(states_ND, every_BV.flatten()).view(every_BV.shape)
    torch.testing.assert_close(scores_BV[:, 1:], direct_BV, rtol=1e-4, atol=1e-4)
    sums_B = scores_BV[:, 1:].exp().sum(1)
    if model.cfg.normalise == "existing":
        torch.testing.assert_close(sums_B, torch.ones(len(batch)), rtol=1e-4, atol=1e-4)
    else:
        assert (sums_B < 0.9).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_wide_beam_is_the_exact_ranking(form: dict[str, Any]) -> None:
    model, batch = moved(beam=64, **form), toy.toy_batch()
    columns = toy.ITEMS + 1
    hidden_M = torch.tensor([5, 3 * columns + 7, 3 * columns + 8])
    with torch.no_grad():
        exact_BV = model.score_corpus_without(batch, hidden_M)
        found_BV = model.score_corpus_without(batch, hidden_M, top=10)
    assert torch.equal(exact_BV, model.score_corpus(batch))
    exact_BV.view(-1)[hidden_M] = NO_ITEM
    torch.testing.assert_close(found_BV, exact_BV, rtol=1e-4, atol=1e-4)


def test_a_narrow_beam_finds_as_many_as_are_asked_for_and_no_hidden_one() -> None:
    model, batch = moved(beam=2), toy.toy_batch()
    columns = toy.ITEMS + 1
    with torch.no_grad():
        exact_BV = model.score_corpus(batch)
        best_B = exact_BV.argmax(1)
        hidden_M = torch.arange(len(batch)) * columns + best_B
        found_BV = model.score_corpus_without(batch, hidden_M, top=3)
    reached_BV = found_BV > NO_ITEM
    few_B = reached_BV.sum(1) == 3  # the beam is as wide as the list, and no wider
    assert few_B.sum() >= 4
    assert (reached_BV.sum(1)[~few_B] == toy.ITEMS).all()  # too short a list, and so all items
    assert not reached_BV.view(-1)[hidden_M][few_B].any()
    torch.testing.assert_close(found_BV[reached_BV], exact_BV[reached_BV], rtol=1e-4, atol=1e-4)


def test_a_beam_leads_to_the_few_items_that_are_left() -> None:
    model, batch = moved(beam=1), toy.toy_batch()
    columns, left = toy.ITEMS + 1, torch.tensor([4, 29])
    hidden_BV = torch.ones(len(batch), columns, dtype=torch.bool).index_fill(1, left, False)
    hidden_BV[:, 0] = False
    with torch.no_grad():
        found_BV = model.score_corpus_without(batch, hidden_BV.view(-1).nonzero()[:, 0], top=2)
        exact_BV = model.score_corpus(batch)
    assert ((found_BV > NO_ITEM) == ~hidden_BV.index_fill(1, torch.tensor([0]), True)).all()
    torch.testing.assert_close(found_BV[:, left], exact_BV[:, left], rtol=1e-4, atol=1e-4)


def test_scores_in_pieces_are_those_of_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = moved(), toy.toy_batch()
    whole_BV = model.score_corpus(batch)
    monkeypatch.setattr("seqrec_cli.models.semantic.SCORED", 1)
    torch.testing.assert_close(model.score_corpus(batch), whole_BV, rtol=1e-5, atol=1e-5)


def test_the_loss_of_a_target_is_what_its_score_lacks_of_certainty() -> None:
    model, batch = moved(), toy.toy_batch()
    assert batch.targets_BL is not None
    last_B = batch.targets_BL.gather(1, batch.lengths_B[:, None] - 1)[:, 0]
    alone_BL = torch.zeros_like(batch.targets_BL).scatter(1, batch.lengths_B[:, None] - 1, last_B[:, None])
    alone = replace(batch, targets_BL=alone_BL)
    wanted_B = -model.score_corpus(batch).gather(1, last_B[:, None])[:, 0]
    for one_a_row in (True, False):
        torch.testing.assert_close(model.target_losses(alone, one_a_row), wanted_B, rtol=1e-4, atol=1e-4)


def test_weights_of_targets_weigh_their_losses() -> None:
    model, batch = moved(), toy.toy_batch()
    objective = build_objective(config_class("objective", "codes").from_plain(shipped("objective", "codes")))  # type: ignore[arg-type]
    weights_BL = torch.rand(batch.items_BL.shape, generator=torch.Generator().manual_seed(2))
    losses_N = model.target_losses(batch, False)
    torch.testing.assert_close(objective.target_loss(model, batch), losses_N.mean())
    found = objective.target_loss(model, replace(batch, weights_BL=weights_BL))
    torch.testing.assert_close(found, (losses_N * weights_BL.flatten()[batch.target_positions()]).mean())


@pytest.mark.parametrize("vectors", ["random", "histories"])
def test_the_seed_decides_the_codes(vectors: str) -> None:
    first, again, other = (toy.toy_model("semantic", seed, vectors=vectors).tuples_VK for seed in (3, 3, 4))
    assert torch.equal(first, again)  # type: ignore[arg-type]
    assert not torch.equal(first, other)  # type: ignore[arg-type]


def test_items_that_are_had_by_the_same_users_have_vectors_alike() -> None:
    histories = [torch.tensor(each) for each in ([1, 2], [1, 2, 3], [4, 5], [5, 4, 4], [1, 2], [4, 5])]
    vectors_VW = history_vectors(histories, 6, 3)
    cosines_VV = vectors_VW @ vectors_VW.T
    assert cosines_VV[1, 2] > 0.95
    assert cosines_VV[4, 5] > 0.95
    assert abs(cosines_VV[1, 4]) < 0.3
    assert not vectors_VW[[0, 6]].any()


def test_items_with_the_same_attributes_have_the_same_vector() -> None:
    catalog = toy.toy_catalog()
    vectors_VW = attribute_vectors(catalog)
    genres, decades = catalog.item_values["genre"], catalog.item_values["decade"]
    pairs = [(a, b) for a in range(1, 41) for b in range(a) if set(genres[a]) == set(genres[b])]
    assert any(decades[a] == decades[b] for a, b in pairs)
    for a, b in pairs:
        assert torch.allclose(vectors_VW[a], vectors_VW[b]) == (decades[a] == decades[b])
    torch.testing.assert_close(vectors_VW[1].square().sum(), torch.tensor(2.0))  # two kinds, of length 1 each
    assert not vectors_VW[0].any()


def test_each_source_of_vectors_gives_codes_of_its_own() -> None:
    found = {name: toy.toy_model("semantic", vectors=name).tuples_VK for name in ("histories", "attributes", "random")}
    model = build_model(toy.small_config("semantic", vectors="outputs/a_run"), toy.toy_catalog(), 0)
    with pytest.raises(SeqrecError, match=r"model\.vectors=outputs/a_run: the run's item table was not read"):
        model.fit_closed_form(toy.toy_histories())
    model.use_vectors(torch.randn(toy.ITEMS + 1, 5, generator=torch.Generator().manual_seed(1)))  # type: ignore[operator]
    model.fit_closed_form(toy.toy_histories())
    found["run"] = model.tuples_VK
    assert len({tuple(each.flatten().tolist()) for each in found.values()}) == 4


def test_items_that_nothing_is_told_of_move_no_centroid() -> None:
    cfg, told_NW = toy.small_config("semantic"), torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    assert isinstance(cfg, Config)
    alone, beside = (
        clustered(cfg, torch.cat([torch.zeros(1, 4), told_NW, torch.zeros(more, 4)]), seed=0, tell=silent)
        for more in (0, 9)
    )
    assert torch.equal(alone.quantiser.mean_W, beside.quantiser.mean_W)
    assert torch.equal(alone.quantiser.centroids_SCZ, beside.quantiser.centroids_SCZ)
    assert np.array_equal(alone.tuples_VK, beside.tuples_VK[:31])


def test_the_quantiser_is_the_one_that_is_asked_for() -> None:
    kmeans, rqvae = (toy.toy_model("semantic", quantiser=name) for name in ("kmeans", "rqvae"))
    sizes = {"rqvae_hidden": 9, "rqvae_latent": 3}
    small = toy.toy_model("semantic", quantiser="rqvae", **sizes)
    assert isinstance(kmeans, Model)
    assert isinstance(rqvae, Model)
    assert isinstance(small, Model)
    assert not kmeans.quantiser.up_WH.numel()
    assert (rqvae.quantiser.up_WH.shape[1], rqvae.quantiser.centroids_SCZ.shape) == (128, (3, 7, 32))
    assert (small.quantiser.up_WH.shape[1], small.quantiser.centroids_SCZ.shape) == (9, (3, 7, 3))
    assert not torch.equal(kmeans.tuples_VK, rqvae.tuples_VK)


def test_new_items_take_the_codes_of_their_attributes_or_of_their_neighbours() -> None:
    catalog = toy.toy_catalog()
    more = {name: np.concatenate([rows, rows[7:8], rows[9:10]]) for name, rows in catalog.item_values.items()}
    later = replace(catalog, num_items=toy.ITEMS + 2, item_values=more)
    items_V1 = np.append(np.arange(toy.ITEMS + 1), [0, 0])
    for vectors in ("attributes", "histories", "random"):
        earlier = toy.toy_model("semantic", vectors=vectors)
        model = build_model(toy.small_config("semantic", vectors=vectors), later, 0)
        model.carry_over(earlier, items_V1, later)
        assert torch.equal(model.tuples_VK[:-2], earlier.tuples_VK)  # type: ignore[index]
        if vectors != "attributes":
            assert (model.tuples_VK[-2:] == -1).all()  # type: ignore[index]
            assert (model.score_corpus(toy.toy_batch())[:, -2:] == NO_ITEM).all()
            assert not model.history.items(torch.tensor([toy.ITEMS + 1])).any()  # type: ignore[operator, union-attr]
        model.fit_closed_form([*toy.toy_histories(), torch.tensor([7, toy.ITEMS + 1, 7])])
        tuples_VK = model.tuples_VK
        if vectors == "attributes":
            assert torch.equal(tuples_VK[-2:, :-1], tuples_VK[[7, 9], :-1])  # type: ignore[index]
            assert len({tuple(row) for row in tuples_VK.tolist()}) == toy.ITEMS + 3  # type: ignore[operator]
        elif vectors == "histories":
            assert torch.equal(tuples_VK[-2, :-1], tuples_VK[7, :-1])  # type: ignore[index]
            assert (tuples_VK[-1] == -1).all()  # type: ignore[index]
        else:
            assert (tuples_VK[-2:] >= 0).all()  # type: ignore[index]
        assert torch.isfinite(model.score_corpus(toy.toy_batch())).all()


def test_what_does_not_fit_is_refused() -> None:
    bare, clustered = replace(toy.toy_catalog(), item_attributes=(), item_values={}), {"vectors": "attributes"}
    with pytest.raises(SeqrecError, match=r"model\.vectors=attributes: the dataset has no item attributes"):
        build_model(toy.small_config("semantic", **clustered), bare, 0)
    with pytest.raises(ValueError, match=r"model\.attributes=tied: model=semantic scores items by their codes"):
        toy.small_config("semantic", attributes="tied")
    idle = toy.small_config("semantic", vectors="random").idle
    assert idle["quantiser"] == idle["commitment"] == "model.vectors=random"
    cfg = toy.small_config("semantic")
    assert isinstance(cfg, Config)
    assert cfg.idle["rqvae_steps"] == "model.quantiser=kmeans"
    assert "rqvae_steps" not in toy.small_config("semantic", quantiser="rqvae").idle


def test_a_level_of_the_tree_may_have_no_node() -> None:
    layer = torch.nn.Linear(8, 24)
    for part in split_heads((layer,), torch.zeros(1, 0, 8), 2, 3):
        assert part.shape == (1, 2, 0, 4)


def test_new_items_with_random_codes_get_whole_tuples_that_nobody_has() -> None:
    cfg = toy.small_config("semantic", vectors="random", codes=2, levels=1)
    assert isinstance(cfg, Config)
    tuples_VK = np.array([[-1, -1], [0, 0], [0, 1], [-1, -1], [-1, -1]], np.int32)  # behind 0 all are taken
    for seed in range(4):
        found_VK = completed(cfg, Made(tuples_VK, Quantiser()), [], seed=seed, tell=silent).tuples_VK
        assert found_VK[1:3].tolist() == [[0, 0], [0, 1]]
        assert sorted(found_VK[3:].tolist()) == [[1, 0], [1, 1]]
