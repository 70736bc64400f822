"""How much of an event's item vector a model reads (`Batch.presence_BL`), of every model that says it heeds it."""

from dataclasses import replace

import pytest
import torch
import toy

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.windows import latest_events
from seqrec_cli.serving.attribution.gradients import Path, integrated_gradients
from seqrec_cli.serving.attribution.removal import leave_one_out

NAMES = [name for name in toy.model_names() if toy.toy_model(name).embeds_events]
PATH = Path(gap=0.01, points=1024)


def moved(name: str) -> Recommender:
    """A model in evaluation mode away from its start, where biases are 0 and norms turn at once as events appear."""
    model, generator = toy.toy_model(name).eval(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def with_presence(batch: Batch, share: float) -> Batch:
    return replace(batch, presence_BL=torch.full(batch.items_BL.shape, share))


def test_every_encoder_heeds_it_and_no_counting_model() -> None:
    family = {name: config_class("model", toy.code_of(name)).capabilities.family for name in toy.model_names()}  # type: ignore[attr-defined]
    assert {name for name, kind in family.items() if kind == "encoder"} <= set(NAMES)
    assert {"din", "dien", "dsin", "bst", "avgpool"} <= set(NAMES)
    assert not {"markov", "popular", "latest", "itemknn", "graph", "auto", "widedeep"} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_all_of_every_event_is_what_is_read_without_it(name: str) -> None:
    model, batch = moved(name), toy.toy_batch()
    whole = model.score_corpus(batch)
    torch.testing.assert_close(model.score_corpus(with_presence(batch, 1.0)), whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model.score_corpus(with_presence(batch, 0.5)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_of_events_that_are_not_there_the_items_do_not_matter(name: str) -> None:
    model, batch = moved(name), toy.toy_batch()
    others = replace(batch, items_BL=(batch.items_BL % toy.ITEMS + 1) * batch.mask_BL)
    none, other = (model.score_corpus(with_presence(each, 0.0)) for each in (batch, others))
    torch.testing.assert_close(other, none, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model.score_corpus(others), model.score_corpus(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_attributions_add_up_and_leaving_out_is_a_score_without(name: str) -> None:
    model = moved(name)
    batch = toy.rows(toy.toy_batch(), slice(4, 5))
    length = int(batch.lengths_B[0])
    batch = Batch(**{k: v[:, :length] if v is not None and "_BL" in k else v for k, v in vars(batch).items()})
    items_C = torch.tensor([3, 17, 30])
    found = integrated_gradients(model, batch, items_C, path=PATH, rows_at_once=64)
    moved_C = found.scores_C - found.baselines_C
    assert moved_C.abs().max() > 1e-3
    largest = float(found.weights_LC.abs().sum(0).max())
    torch.testing.assert_close(found.weights_LC.sum(0), moved_C, rtol=0.02, atol=0.02 * largest)
    torch.testing.assert_close(found.scores_C, model.score(batch, items_C[None])[0], rtol=1e-4, atol=1e-5)
    weights_LC, scores_C = leave_one_out(model, batch, items_C, rows_at_once=3)
    place = 1
    kept = [at for at in range(length) if at != place]
    shorter = {k: v[:, kept] if v is not None and "_BL" in k else v for k, v in vars(batch).items()}
    alone = model.score(Batch(**shorter | {"lengths_B": batch.lengths_B - 1}), items_C[None])[0]
    torch.testing.assert_close(weights_LC[place], scores_C - alone, rtol=1e-3, atol=1e-5)


def test_a_window_cuts_it_with_its_events() -> None:
    batch = toy.toy_batch()
    shares_BL = torch.rand(batch.items_BL.shape, generator=torch.Generator().manual_seed(0))
    cut = latest_events(replace(batch, presence_BL=shares_BL), 3)
    assert cut.presence_BL is not None
    last = int(batch.lengths_B[-1])
    torch.testing.assert_close(cut.presence_BL[-1], shares_BL[-1, last - 3 : last])


def test_a_full_row_of_bert4rec_leaves_its_first_event_out() -> None:
    """So whoever asks what events weigh gives it `places_of_no_event` fewer."""
    model = toy.toy_model("bert4rec", max_length=5).eval()
    batch = replace(toy.rows(toy.toy_batch(), slice(7, 8)), times_BL=None)
    items = batch.items_BL[:, :5]
    five, four = (Batch(batch.users_B, each, torch.tensor([each.shape[1]])) for each in (items, items[:, 1:]))
    torch.testing.assert_close(model.score_corpus(four), model.score_corpus(five))
    assert model.places_of_no_event == 1
    assert toy.toy_model("sasrec").places_of_no_event == 0
