"""Tables made in shards: the same first weights on any number of processes, and the rows that each has."""

import pytest
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.models import build
from seqrec_cli.models.layers import sharded_table
from seqrec_cli.models.layers.row_shard import RowShard
from seqrec_cli.models.layers.sharded_table import ShardedTable, count_parameters, shard_of, sharded_tables
from seqrec_cli.processes import Processes, together
from tests.models.toy import ITEMS, small_config, toy_catalog, toy_model


def built(world: int, rank: int) -> torch.nn.Module:
    cfg = small_config("sasrec", tied=False, user_dim=4)
    assert isinstance(cfg, EncoderConfig)
    with together(Processes(rank, world, rank, world)):
        return build.build_sharded(cfg, toy_catalog(), 3)


def tables_of(world: int) -> dict[str, Tensor]:
    """The tables of all ranks put together."""
    ranks = [sharded_tables(built(world, rank)) for rank in range(world)]
    return {name: torch.cat([rank[name].weight.detach() for rank in ranks]) for name in ranks[0]}


def test_a_small_table_begins_as_in_one_process() -> None:
    whole = toy_model("sasrec", seed=3, tied=False, user_dim=4).state_dict()
    found = tables_of(3)
    assert found.keys() == {"items.weight", "users.weight", "output.weight"}
    for name, table in found.items():
        assert torch.equal(table, whole[name])
    assert count_parameters(built(3, 1)) == sum(
        p.numel() for p in toy_model("sasrec", tied=False, user_dim=4).parameters()
    )


def test_a_large_table_is_made_by_rows_alike_on_any_number_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_table, "MADE_WHOLE", 10)
    monkeypatch.setattr(sharded_table, "BLOCK_ROWS", 7)  # blocks lie across the ends of shards
    one, two, three = (tables_of(world) for world in (1, 2, 3))
    for name in ("items.weight", "users.weight", "output.weight"):
        assert torch.equal(one[name], two[name])
        assert torch.equal(one[name], three[name])
        assert not one[name][0].any()
        assert one[name][1:].abs().min(1).values.gt(0).all()
        assert len({tuple(row) for row in one[name].tolist()}) == len(one[name])
    std = small_config("sasrec").init_std  # type: ignore[attr-defined]
    items_VD = one["items.weight"][1:]
    assert items_VD.abs().max() <= 2 * std
    assert items_VD.std().item() == pytest.approx(0.88 * std, rel=0.1)  # of a normal cut at two deviations
    assert not torch.equal(one["items.weight"], one["output.weight"])


def test_each_rank_has_its_rows_and_the_padding_is_the_first_ones() -> None:
    shards = [RowShard(ITEMS + 1, Processes(rank, 3)) for rank in range(3)]
    assert [(shard.first, shard.last, len(shard)) for shard in shards] == [(0, 14, 14), (14, 28, 14), (28, 41, 13)]
    assert [shard.held(torch.tensor([0, 13, 14, 40])).tolist() for shard in shards] == [
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]
    table = ShardedTable(shards[0], 2)
    table.weight.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad[:2].tolist() == [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize(("rows", "world"), [(2, 2), (5, 4), (10, 6)])
def test_a_table_of_too_few_rows_is_refused(rows: int, world: int) -> None:
    with (
        together(Processes(0, world)),
        pytest.raises(SeqrecError, match=rf"leaves one of {world} processes without rows"),
    ):
        shard_of(rows)
