"""An encoder that reads what it scores reads items that its catalog does not have by the table that it is given."""

from dataclasses import replace

import pytest
import torch
import toy

from seqrec_cli.models.contract import SequenceEncoder

READING = {
    name
    for name in toy.model_names()
    if isinstance(model := toy.toy_model(name), SequenceEncoder) and model.reads_what_it_scores
}


def test_the_usual_encoders_do() -> None:
    assert {"sasrec", "bert4rec", "gru4rec", "lrurec", "hstu"} <= READING
    assert "ease" not in READING


@pytest.mark.parametrize("name", sorted(READING))
@torch.no_grad()
def test_a_row_behind_the_catalog_is_read_as_its_twin(name: str) -> None:
    model, batch = toy.toy_model(name).eval(), toy.toy_batch()
    assert isinstance(model, SequenceEncoder)
    assert model.scores_by_product
    # Of one length, for those of temperature are of a length of their own, and what is added has the mean.
    weight_VD = model.items.weight  # type: ignore[union-attr]
    weight_VD[1:] = torch.nn.functional.normalize(weight_VD[1:], dim=1)  # type: ignore[index, arg-type]
    table_VD, before = model.item_table().clone(), model.last(batch)
    twins = replace(batch, items_BL=torch.where(batch.items_BL > 0, batch.items_BL + len(table_VD), 0))
    for _ in range(2):  # the second time in the place of the first
        model.use_item_table(torch.cat([table_VD, table_VD]))
        torch.testing.assert_close(model.last(batch), before)
        torch.testing.assert_close(model.last(twins), before, rtol=1e-4, atol=1e-5)
        model.use_item_table(torch.cat([table_VD, -table_VD]))
        torch.testing.assert_close(model.last(batch), before)
        torch.testing.assert_close(model.item_table(), table_VD)
        assert not torch.allclose(model.last(twins), before, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_with_a_temperature_what_is_added_has_the_mean_length() -> None:
    model = toy.toy_model("sasrec", temperature=0.1).eval()
    assert isinstance(model, SequenceEncoder)
    lengths = model.items.weight[1:].norm(dim=1)  # type: ignore[union-attr, index, operator]
    table_VD = model.item_table()
    model.use_item_table(torch.cat([table_VD, table_VD[1:3]]))
    added = model.items.weight[-2:]  # type: ignore[union-attr, index]
    assert added.norm(dim=1).tolist() == pytest.approx([float(lengths.mean())] * 2, rel=1e-5)


@pytest.mark.parametrize("settings", [{"tied": False}, {"attributes": "add"}, {"attributes": "tied"}])
def test_where_something_else_is_read_it_does_not(settings: dict[str, object]) -> None:
    model = toy.toy_model("sasrec", **settings)
    assert isinstance(model, SequenceEncoder)
    assert not model.reads_what_it_scores
