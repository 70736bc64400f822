"""An encoder that reads what it scores reads items that its catalog does not have by the table that it is given."""

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
    table_VD = model.item_table().clone()
    before = model.last(batch)
    model.use_item_table(torch.cat([table_VD, table_VD]))
    torch.testing.assert_close(model.last(batch), before)
    twins = torch.where(batch.items_BL > 0, batch.items_BL + len(table_VD), 0)
    changed = type(batch)(**{**vars(batch), "items_BL": twins})
    torch.testing.assert_close(model.last(changed), before, rtol=1e-4, atol=1e-5)
    model.use_item_table(torch.cat([table_VD, -table_VD]))
    assert not torch.allclose(model.last(changed), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "settings", [{"tied": False}, {"temperature": 0.1}, {"attributes": "sum"}, {"attributes": "tied"}]
)
def test_where_something_else_is_read_it_does_not(settings: dict[str, object]) -> None:
    model = toy.toy_model("sasrec", **settings)
    assert isinstance(model, SequenceEncoder)
    assert not model.reads_what_it_scores
