"""`model.items=text` and `both`: UniSRec's adaptor against its equations, and what every encoder makes of it."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from pydantic import ValidationError

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.validate import validate
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.build import build_model
from seqrec_cli.models.layers.text_items import LEAST_NOISE, Adaptor, TextItems, as_tables
from seqrec_cli.objectives.contract import build_objective
from tests.shipped import shipped

W, SILENT, COLD = 6, 7, 22  # numbers a text; an item without a text, and one without training events
ENCODERS = ("bert4rec", "bsarec", "esasrec", "gru4rec", "hstu", "lrurec", "nextitnet", "sasrec")


def objective_config() -> Any:
    return config_class("objective", "next_item").from_plain(shipped("objective", "next_item"))


def told_catalog() -> Catalog:
    vectors_VW = np.random.default_rng(3).normal(size=(toy.ITEMS + 1, W)).astype(np.float32)
    vectors_VW[[0, SILENT]] = np.nan
    return replace(toy.toy_catalog(), item_vectors=vectors_VW)


def built(name: str = "sasrec", *, cold: bool = True, **changes: Any) -> Any:
    model = build_model(toy.small_config(name, **changes), told_catalog(), 0)
    counts_V = torch.ones(toy.ITEMS + 1, dtype=torch.int64)
    counts_V[COLD] = 1 - cold
    model.prepare(counts_V, torch.ones(toy.USERS + 1, dtype=torch.int64))
    return model.eval()


def test_the_adaptor_is_that_of_the_equations() -> None:
    torch.manual_seed(0)
    adaptor, texts_RW = Adaptor(W, 4, experts=3, drop=0.0), torch.randn(5, W)
    for parameter in adaptor.parameters():
        torch.nn.init.normal_(parameter)
    expected = torch.zeros(5, 4)
    experts_WKD = adaptor.experts.weight.view(W, 3, 4)
    for r in range(5):
        gates_K = torch.softmax(texts_RW[r] @ adaptor.gate_WK, dim=0)
        for k in range(3):
            expected[r] += gates_K[k] * ((texts_RW[r] - adaptor.centres_KW[k]) @ experts_WKD[:, k])
    torch.testing.assert_close(adaptor.eval()(texts_RW), expected, rtol=1e-4, atol=1e-4)

    adaptor.train()
    torch.manual_seed(5)
    noisy_RK = adaptor._logits(texts_RW)
    torch.manual_seed(5)
    deviations_RK = F.softplus(texts_RW @ adaptor.noise_WK) + LEAST_NOISE
    torch.testing.assert_close(noisy_RK, texts_RW @ adaptor.gate_WK + torch.randn(5, 3) * deviations_RK)


def test_settings_reach_the_adaptor() -> None:
    items = built(items="text", experts=5, text_dropout=0.3).items
    assert items.adaptor.centres_KW.shape == (5, W + 1)
    assert items.adaptor.drop.probability == 0.3
    assert items.own is None
    assert built(items="both").items.own is not None
    assert isinstance(built().items, torch.nn.Embedding)


def test_a_cold_item_has_the_vector_of_its_text_and_no_other_part() -> None:
    model = built(items="both", temperature=None)
    by_text = model.vectors_of_texts()(model.items.numbers_RK)
    table_VD = model.item_table()
    torch.testing.assert_close(table_VD[COLD], by_text[COLD])
    assert not torch.allclose(table_VD[COLD + 1], by_text[COLD + 1])
    torch.testing.assert_close(table_VD[COLD + 1], by_text[COLD + 1] + model.items.own.weight[COLD + 1])
    torch.testing.assert_close(table_VD[SILENT], model.items.own.weight[SILENT])
    assert not table_VD[0].any()
    assert not built(items="text", temperature=None).item_table()[[0, SILENT]].any()


@pytest.mark.parametrize("bias", [False, True])
def test_items_that_training_never_saw_are_no_negatives(bias: bool) -> None:
    model, batch = built(items="text", item_bias=bias, text_dropout=0.0), toy.toy_batch()
    assert batch.targets_BL is not None
    batch = replace(batch, targets_BL=batch.targets_BL.masked_fill(batch.targets_BL == COLD, 0))
    model.train()
    objective = build_objective(objective_config())
    torch.manual_seed(0)
    objective.target_loss(model, batch).backward()
    table = model.items.adaptor.experts.weight.grad.clone()
    model.zero_grad()
    with torch.no_grad():  # its text has no part in the loss
        model.items.numbers_RK[COLD] = 9.0
    read_BL = batch.items_BL == COLD
    assert not read_BL.any()
    torch.manual_seed(0)
    objective.target_loss(model, batch).backward()
    torch.testing.assert_close(model.items.adaptor.experts.weight.grad, table)
    assert (model.eval().item_bias() is None) is not bias


@pytest.mark.parametrize("items", ["text", "both"])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_reads_and_scores_by_texts(name: str, items: str) -> None:
    model, batch = built(name, items=items, experts=2, cold=False), toy.toy_batch()
    model.train()
    toy.toy_loss(model, batch).backward()
    untouched = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []
    model.eval()
    with torch.no_grad():
        corpus = model.score_corpus(batch)
        items_BC = torch.tensor([[COLD, 3, 0]]).expand(toy.USERS, -1)
        torch.testing.assert_close(model.score(batch, items_BC), corpus[:, [COLD, 3, 0]], rtol=1e-4, atol=1e-4)
        read_before = model.last(batch)
        model.items.numbers_RK[batch.items_BL[0, 0]] += 1  # of the first event of the first row
        assert not torch.allclose(model.last(batch)[0], read_before[0])


def test_it_learns_to_tell_users_apart() -> None:
    torch.set_num_threads(1)
    model = build_model(toy.small_config("sasrec", items="text", text_dropout=0.0), told_catalog(), 0)
    course = list(toy.losses(model, steps=40, lr=0.02))
    assert course[-1] < 0.7 * course[0]


@torch.no_grad()
def test_a_kept_table_is_made_anew_when_anything_changes() -> None:
    model = built(items="both", temperature=None)
    first = model.items.weight
    assert model.items.weight is first
    model.items.adaptor.experts.weight.mul_(2.0)
    second = model.items.weight
    assert not torch.equal(first, second)
    model.items.own.weight[3] += 1
    assert not torch.equal(second[3], model.items.weight[3])
    third = model.items.weight
    model.items.own.weight.data.numpy()[3] += 1  # a kernel's write, which torch does not count
    assert model.items.weight is third
    model.train()
    assert not torch.equal(third[3], model.eval().items.weight[3])


def test_large_catalogs_make_the_vectors_of_a_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, items_BL = built(items="both", text_dropout=0.0), toy.toy_batch().items_BL
    model.train()
    monkeypatch.setattr(TextItems, "weight", property(lambda self: pytest.fail("the whole table")))
    monkeypatch.setattr("seqrec_cli.models.layers.text_items.WHOLE_CATALOG", 10)
    monkeypatch.setattr(Adaptor, "_logits", lambda self, texts_RW: texts_RW @ self.gate_WK)
    few = model.items(items_BL)
    monkeypatch.undo()
    model.eval()
    torch.testing.assert_close(few, model.items(items_BL))


def test_programs_hold_the_vectors_and_no_text() -> None:
    model = built(items="both")
    frozen = copy.deepcopy(model)
    as_tables(frozen)
    names = {name for name, _ in (*frozen.named_parameters(), *frozen.named_buffers())}
    assert not [name for name in names if "adaptor" in name or "numbers_RK" in name]
    with torch.no_grad():
        assert torch.equal(frozen.score_corpus(toy.toy_batch()), model.score_corpus(toy.toy_batch()))


def test_added_items_are_read_and_scored(caplog: pytest.LogCaptureFixture) -> None:
    model, batch = built(items="text", temperature=None), toy.toy_batch()
    with torch.no_grad():
        before = model.score_corpus(batch)
        making, numbers_1W = model.vectors_of_texts(), model.items.numbers_RK[5:6]
        vector_1D = making(numbers_1W)
        model.use_item_table(torch.cat([model.item_table(), vector_1D]))
        torch.testing.assert_close(model.score_corpus(batch), before)
        items_BL = batch.items_BL.clone()
        twin_BL = items_BL.masked_fill(items_BL == 5, toy.ITEMS + 1)
        assert (items_BL == 5).any()
        twin = model.score_corpus(replace(batch, items_BL=twin_BL))
        torch.testing.assert_close(twin, before)
        torch.testing.assert_close(making(numbers_1W), vector_1D)  # the adaptor is still there


def test_texts_travel_with_the_weights() -> None:
    model = built(items="both")
    blank = build_model(toy.small_config("sasrec", items="both"), Catalog.blank(told_catalog().facts()), 0)
    blank.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(blank.eval().score_corpus(toy.toy_batch()), model.score_corpus(toy.toy_batch()))
    assert "items.numbers_RK" not in dict(model.named_parameters())


def test_what_cannot_be_had_is_refused_in_words() -> None:
    with pytest.raises(ValidationError, match=r"model.items=text scores items by their texts; set model.tied=true"):
        toy.small_config("sasrec", items="text", tied=False)
    with pytest.raises(ValidationError, match=r"use model.attributes=none, add or concat"):
        toy.small_config("sasrec", items="both", attributes="tied")
    with pytest.raises(SeqrecError, match=r"the data have no vectors of items' texts; set dataset.item_text"):
        build_model(toy.small_config("sasrec", items="text"), toy.toy_catalog(), 0)
    with pytest.raises(SeqrecError, match=r"the data have none; set dataset.item_text"):  # before the data are read
        validate("train", compose("train", ["model=ensemble", "model.members.gru4rec.items=both"]))


def test_attributes_beside_texts_leave_the_texts_out() -> None:
    model = built(items="text", attributes="add")
    assert set(model.attributes.attributes) == {"genre", "decade"}
    assert not model.attributes.numbers
