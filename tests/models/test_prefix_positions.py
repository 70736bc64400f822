"""What positions a state is learned with, beside those it is asked with: exact where a row is a prefix."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import toy

from seqrec_cli.commands.training_setup import objective_for, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.batching import BatchedRows
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.models.encoder import ItemEncoder
from tests.toylog import packed, random_histories

HISTORIES = random_histories(20, toy.ITEMS, 14, seed=2)
CAUSAL = [
    name
    for name in toy.model_names()
    if (able := config_class("model", toy.code_of(name)).capabilities).family == "encoder" and able.causal  # type: ignore[attr-defined]
]


def rows(window: str) -> BatchedRows:
    words = [
        "model.max_length=12",
        "trainer.batch_size=8",
        "trainer.bucket_by_length=equal",
        f"objective.window={window}",
    ]
    cfg = cast(TrainConfig, validate("train", compose("train", words)))
    log, device = packed(HISTORIES, toy.ITEMS), torch.device("cpu")
    return training_rows(cfg, objective_for(cfg, log, device), log, device=device)


def asked(items: list[int]) -> Batch:
    """The request after these events, alone."""
    return Batch(torch.tensor([1]), torch.tensor([items]), torch.tensor([len(items)]))


def encoder(positions: str) -> ItemEncoder:
    found = toy.toy_model("sasrec", positions=positions, blocks=1, init_std=1.0).eval()
    assert isinstance(found, ItemEncoder)
    return found


@pytest.mark.parametrize("positions", ["reversed", "absolute", "rotary", "relative", "none"])
def test_a_prefix_is_learned_from_as_it_is_asked_about(positions: str) -> None:
    model, seen = encoder(positions), 0
    for batch in rows("prefixes").epoch(0):
        assert (batch.items_BL > 0).all()  # no padding
        learned_BD = model.last(batch)
        for row in (0, len(batch) - 1):
            torch.testing.assert_close(
                learned_BD[row], model.last(asked(batch.items_BL[row].tolist()))[0], rtol=1e-4, atol=1e-5
            )
            seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("positions", "exact"),
    [("absolute", True), ("reversed", False), ("rotary", True), ("relative", True), ("none", True)],
)
def test_of_positions_counted_from_the_end_only_a_window_s_last_is_so(positions: str, exact: bool) -> None:
    """As the critique says of SASRec: predictions within a row are learned with positions that no request has."""
    model = encoder(positions)
    batch = next(iter(rows("sliding").epoch(0)))
    length, within = batch.items_BL.shape[1], batch.items_BL.shape[1] // 2
    states_LD = model.encode(batch)[0]
    alone = [model.last(asked(batch.items_BL[0, :end].tolist()))[0] for end in (within, length)]
    torch.testing.assert_close(states_LD[-1], alone[1], rtol=1e-4, atol=1e-5)
    assert torch.allclose(states_LD[within - 1], alone[0], rtol=1e-3, atol=1e-4) is exact


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in CAUSAL),
        *((name, {"positions": "none"}) for name in ("sasrec", "recdenoiser", "bsarec", "fmlprec", "hstu")),
        *(("sasrec", {"positions": "none", "padding": kind}) for kind in ("masked", "cleared", "zero", "trained")),
        ("ensemble", {"members": {"sasrec": toy.small_config("sasrec", positions="none").model_dump()}}),
    ],
)
def test_a_model_says_whether_its_states_depend_on_where_a_row_ends(name: str, changes: dict[str, Any]) -> None:
    model, batch = toy.toy_model(name, **changes).eval(), toy.toy_batch()
    assert isinstance(model, SequenceEncoder)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        length, row = 5, toy.rows(batch, slice(7, 8))
        short = {key: x[:, :length] for key, x in vars(row).items() if key.endswith("_BL") and x is not None}
        asked_then = replace(row, **short, lengths_B=torch.tensor([length]), request_times_B=row.times_BL[:, length])  # type: ignore[index]
        same = torch.allclose(model.encode(row)[:, length - 1], model.last(asked_then), rtol=1e-3, atol=1e-3)
    assert same is not toy.small_config(name, **changes).counts_from_end


def test_the_position_s_vector_is_that_of_the_distance_to_the_prediction() -> None:
    model = encoder("reversed")
    batch = next(batch for batch in rows("prefixes").epoch(0) if batch.items_BL.shape[1] == 4)
    table = model.positions.table
    assert table is not None
    without_BLD = model.embed_items(batch.items_BL)
    torch.testing.assert_close(
        model.embed_whole(batch) - without_BLD, table.weight[[3, 2, 1, 0]].expand_as(without_BLD)
    )
