"""A model whose scores change with the time of the event it predicts says so, and no other: for every model of
conf/model, as shipped and with every choice of every setting."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import toy
from torch import Tensor

from seqrec_cli.config.dataset import TIME_CONTEXT
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.context import TIME_VALUES
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender

DEVICE = Attribute("device", 4, 1)
TIMED = tuple(Attribute(name, len(TIME_VALUES[name]) + 1, 1) for name in TIME_CONTEXT)
CONTEXTS = {"none": (), "device": (DEVICE,), "hour": (TIMED[0],), "both": (DEVICE, *TIMED)}
MONTH = 30 * 86400


def choices(name: str) -> Iterator[dict[str, Any]]:
    """No change, and each other value of each setting that is chosen from a list or switched."""
    yield {}
    plain = toy.numbers(name)
    fields = config_class("model", plain["name"]).model_fields
    for key, field in fields.items():
        values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        values = (True, False) if field.annotation is bool else values
        yield from ({key: value} for value in values if value != plain[key])


def catalog(context: tuple[Attribute, ...]) -> Catalog:
    return dataclasses.replace(toy.toy_catalog(), context_attributes=context)


def built(name: str, context: tuple[Attribute, ...], changes: dict[str, Any]) -> Recommender | None:
    """The model with every parameter drawn large, so that whatever it reads shows; None where the choice is refused."""
    try:
        model = build_model(toy.small_config(name, **changes), catalog(context), 0)
    except (SeqrecError, ValueError):
        return None
    model.fit_closed_form(toy.toy_histories())
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


def request(context: tuple[Attribute, ...], *, later: int = 0, timed: int = 1) -> Batch:
    """The toy batch, asked `later` seconds later, at the time context of value `timed`."""
    batch = toy.toy_batch()
    assert batch.request_times_B is not None
    values = [timed if attribute.name in TIME_CONTEXT else 2 for attribute in context]
    told = torch.tensor([values]).expand(toy.USERS, -1) if context else None
    return dataclasses.replace(batch, request_times_B=batch.request_times_B + later, context_BF=told)


def scores(model: Recommender, batch: Batch) -> list[Tensor]:
    items_BC = torch.tensor([[3, 17, 29]]).expand(toy.USERS, -1)
    with torch.inference_mode():
        return [model.score(batch, items_BC), model.score_corpus(batch)]


def changes_with_time(model: Recommender, context: tuple[Attribute, ...]) -> bool:
    before = scores(model, request(context))
    others = [request(context, later=MONTH), request(context, timed=5), request(context, later=MONTH, timed=7)]
    return any(not torch.equal(a, b) for other in others for a, b in zip(before, scores(model, other), strict=True))


@pytest.mark.parametrize("name", toy.model_names())
def test_a_model_says_that_it_sees_the_targets_time_exactly_where_its_scores_change_with_it(name: str) -> None:
    tried = set()
    for changes in choices(name):
        for told in CONTEXTS if not changes else ("none", "both"):
            context = CONTEXTS[told]
            model = built(name, context, changes)
            if model is None:
                continue
            tried.add(told)
            assert model.sees_target_time is changes_with_time(model, context), (name, changes, told)
    assert tried == set(CONTEXTS)


def test_the_sweep_over_choices_finds_both_kinds() -> None:
    """Rankers told the hour, and the settings that read ages, are among what the test above has seen change."""
    hour = CONTEXTS["hour"]
    rankers = [n for n in toy.model_names() if toy.small_config(n).capabilities.family == "ranker"]
    assert len(rankers) >= 6
    for name in rankers:
        model = built(name, hour, {})
        assert model is not None
        assert changes_with_time(model, hour)
    assert {"time_bias": "target"} in list(choices("hstu"))
    assert {"positions": "time"} in list(choices("bst"))


def test_candidates_of_several_positions_see_the_hour_of_their_own() -> None:
    model = built("din", CONTEXTS["hour"], {})
    assert model is not None
    batch, items = toy.toy_batch(), torch.tensor([[3, 17]]).expand(toy.USERS, -1)
    ends = torch.tensor([[2, 3]]).expand(toy.USERS, -1)

    def at(hours: list[int]) -> Tensor:
        context = torch.tensor(hours)[:, None].expand(toy.USERS, -1, -1)
        return model.score_positions(dataclasses.replace(batch, context_BCF=context), items, ends)

    same, other = at([5, 6]), at([5, 9])
    assert torch.equal(same[:, 0], other[:, 0])
    assert not torch.equal(same[:, 1], other[:, 1])


def test_an_ensemble_sees_what_a_member_sees() -> None:
    plain = toy.numbers("ensemble")
    for time_bias in ("none", "past", "target"):
        members = {"hstu": {**toy.numbers("hstu"), "time_bias": time_bias}, **plain["members"]}
        small = toy.small_config("ensemble", members=toy._shrunk(plain | {"members": members}, toy.SMALL)["members"])
        model = build_model(small, toy.toy_catalog(), 0).eval()
        assert model.sees_target_time is (time_bias == "target")
