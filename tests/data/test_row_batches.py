"""Batches of rows of one length, and of rows that have no padding."""

from typing import Any, Literal, cast

import numpy as np
import pytest
import torch

from seqrec_cli.commands.training_setup import objective_for, training_rows, worked_positions
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import count_targets
from seqrec_cli.data.batching import BatchedRows, Batching
from seqrec_cli.data.loader import windows
from tests.toylog import packed, random_histories

LENGTHS = np.random.default_rng(0).integers(1, 30, 400)


def order(size: int = 16, bucket: bool | Literal["equal"] = "equal", **more: Any) -> list[list[np.ndarray]]:
    rows = BatchedRows(LENGTHS, Batching(size, 3, bucket, more.pop("tokens", None), **more))
    return [rows._order(epoch) for epoch in (0, 1)]


@pytest.mark.parametrize("tokens", [None, 60])
def test_batches_of_equal_length_have_no_padding_and_even_sizes(tokens: int | None) -> None:
    first, second = order(tokens=tokens)
    assert len(first) == len(second)
    assert [b.tolist() for b in first] != [b.tolist() for b in second]
    for batches in (first, second):
        assert sorted(np.concatenate(batches)) == list(range(400))
        sizes: dict[int, list[int]] = {}
        for batch in batches:
            (length,) = set(LENGTHS[batch])
            assert len(batch) <= (16 if tokens is None else max(1, tokens // length))
            sizes.setdefault(int(length), []).append(len(batch))
        assert all(max(of) - min(of) <= 1 for of in sizes.values())
    assert [LENGTHS[b[0]] for b in first] != sorted(LENGTHS[b[0]] for b in first)  # in no order of length


@pytest.mark.parametrize("tokens", [30, 35, 64, 500, 10**6])
def test_packed_batches_hold_even_numbers_of_events_in_any_order(tokens: int) -> None:
    found = order(bucket=False, tokens=tokens, packed=True)
    assert len(found[0]) == len(found[1])
    for batches in found:
        assert sorted(np.concatenate(batches)) == list(range(400))
        events = [int(LENGTHS[batch].sum()) for batch in batches]
        assert max(events) <= tokens
        if tokens == 500:
            assert min(events) > tokens - 2 * 29 - 29
            assert len({tuple(np.unique(LENGTHS[batch])) for batch in batches}) == len(batches)  # lengths are mixed
    if tokens == 500:
        assert [set(b) for b in found[0]] != [set(b) for b in found[1]]


def test_a_history_is_cut_into_consecutive_blocks() -> None:
    offsets, ends = np.array([0, 11, 13, 14]), np.array([11, 13, 14])
    rows, starts, lengths = windows(offsets, ends, 4, kind="packed", stride=None)
    blocks = sorted(zip(rows.tolist(), starts.tolist(), lengths.tolist(), strict=True))
    # Ten targets of user 0 in blocks of two, four and four; an event between two blocks ends one and begins the other.
    assert blocks == [(0, 0, 3), (0, 2, 5), (0, 6, 5), (1, 11, 2)]


def rows_by(*words: str) -> BatchedRows:
    cfg = cast(TrainConfig, validate("train", compose("train", ["model.max_length=6", "trainer.batch_size=8", *words])))
    log, device = packed(random_histories(40, 50, 20, seed=3), 50), torch.device("cpu")
    return training_rows(cfg, objective_for(cfg, log, device), log, device=device)


def test_the_command_line_reaches_the_batches() -> None:
    by_prefix = ("objective.window=prefixes", "trainer.bucket_by_length=equal")
    for batch in rows_by(*by_prefix).epoch(0):
        assert len(set(batch.lengths_B.tolist())) == 1
        assert (batch.items_BL > 0).all()
    mixed = list(
        rows_by("objective.window=packed", "trainer.batch_tokens=40", "trainer.bucket_by_length=false").epoch(0)
    )
    events = [int(batch.lengths_B.sum()) for batch in mixed]
    assert max(events) <= 40
    assert min(events[:-1]) > 20
    assert any(len(set(batch.lengths_B.tolist())) > 2 for batch in mixed)
    sliding = list(rows_by("objective.window=sliding").epoch(0))
    assert sum(map(count_targets, mixed)) == sum(map(count_targets, sliding))


def test_a_longer_batch_than_its_setting_is_no_surprise_to_the_memory_plan() -> None:
    rows = rows_by("objective.window=packed", "trainer.batch_tokens=40", "trainer.bucket_by_length=false")
    assert int(rows.largest().lengths_B.sum()) <= 40


@pytest.mark.parametrize(
    ("words", "worked"),
    [
        (["objective.window=sliding"], 3 * 6),
        (["objective.window=packed"], 5 + 2 + 1),
        (["model.padding=zero"], 3 * 9),
        (["model.padding=none"], 3 * 6),
    ],
)
def test_a_plan_counts_the_positions_that_layers_work_on(words: list[str], worked: int) -> None:
    cfg = cast(TrainConfig, validate("train", compose("train", ["model.max_length=9", *words])))
    assert worked_positions(cfg, np.array([5, 2, 1]), 6) == worked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=din", "trainer.bucket_by_length=equal"], "equal is of windows; objective=click has none"),
        (
            ["objective.window=sliding", "trainer.bucket_by_length=false", "trainer.batch_tokens=40"],
            "rows of like length",
        ),
        (["trainer.bucket_by_length=like"], "trainer.bucket_by_length"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words: list[str], said: str) -> None:
    with pytest.raises(SeqrecError, match=said) as refusal:
        validate("train", compose("train", words))
    assert "\n" not in str(refusal.value)
