"""Nothing held out reaches training, whichever protocol holds it out and whichever rows are learned from.

Every held-out event's item is replaced by another, and the protocol asked again: all training batches stay, bit for
bit. What is held out stays among the items that a negative may be: to leave it out would tell it by its absence.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from test_protocol_leaks import ASKED, busy_log

from seqrec_cli.commands.training_setup import objective_for, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import train_ends, training_counts, training_items, user_training_counts
from seqrec_cli.training.closed_form import training_histories
from tests.covering import covering
from tests.protocols.asking import asked, log_of, view_of
from tests.shipped import shipped

# Kinds of rows, each as the command line asks for it.
ROWS = {
    "windows, the last": ("objective.window=last",),
    "windows, sliding": ("objective.window=sliding",),
    "windows, overlapping": ("objective.window=sliding", "objective.stride=2"),
    "windows, one a target": ("objective.window=prefixes",),
    "windows, packed": ("objective.window=packed", "trainer.batch_tokens=40"),
    "windows, negatives a target": ("objective=bce", "objective.window=prefixes", "objective.negatives=2"),
    "windows, several targets": ("objective=all_action",),
    "windows, negatives a position": ("objective=bce", "objective.shared=position", "objective.negatives=2"),
    "windows, negatives a sequence": ("objective=bce", "objective.shared=sequence", "objective.negatives=2"),
    "cloze, the last": ("model=bert4rec", "objective.window=last"),
    "cloze, sliding": ("model=bert4rec", "objective.window=sliding"),
    "prefixes": ("model=bst", "objective.negatives=1"),
    "positions": ("model=din",),
    "positions, cut at a length": ("model=dien", "model.auxiliary=0"),
    "positions, history negatives": ("model=dien",),
    "prefixes, history negatives": ("model=dien", "objective.positions=false"),
    "history negatives by popularity": ("model=dien", "model.auxiliary_negatives=popularity"),
    "positions, drawn anew": ("model=din", "protocol=positions", "objective.redraw=true"),
}
IDS = [" ".join(map(str, [name, *given.values()])) for name, given in ASKED]
ITS_OWN = {"last"}  # whose fixed negatives are drawn by popularity in the whole log, as published


@functools.cache
def settings(kind: str) -> TrainConfig:
    small = ("model.max_length=6", "trainer.batch_size=8", "trainer.bucket_by_length=true")
    return cast(TrainConfig, validate("train", compose("train", [*small, *ROWS[kind]])))


@functools.cache
def protocol(name: str) -> Any:
    return config_class("protocol", name).from_plain(shipped("protocol", name))


def batches(kind: str, log: PackedLog, name: str, epochs: int = 1) -> Iterator[Batch]:
    """Epochs of the rows that a run learns from."""
    cfg = settings(kind).model_copy(update={"protocol": protocol(name)})
    device = torch.device("cpu")
    rows = training_rows(cfg, objective_for(cfg, log, device), log, device=device)
    for epoch in range(epochs):
        yield from rows.epoch(epoch)


def others_held_out(log: PackedLog) -> PackedLog:
    """The log with another item at every event that does not train."""
    held_N = np.arange(len(log.items_N)) >= np.repeat(train_ends(log), np.diff(log.offsets_U1))
    assert held_N.any()
    return replace(log, items_N=np.where(held_N, log.items_N % log.num_items + 1, log.items_N).astype(np.int32))


@functools.cache
def asked_twice(nth: int) -> tuple[PackedLog, PackedLog]:
    """The log as one of `ASKED` sees it, and with other items held out."""
    name, given = ASKED[nth]
    given = {"held_out_users": 0.2} | given if "held_out_users" in shipped("protocol", name) else given
    log = asked(busy_log(), name, **given)
    other = others_held_out(log)
    if name in ITS_OWN or config_class("protocol", name).needs_impressions:  # type: ignore[attr-defined]
        return log, other
    # Its requests are the same ones whether or not a target repeats an item of the history.
    log = asked(replace(log, view=None), name, **given, seen="keep")
    other = asked(replace(other, view=None), name, **given, seen="keep")
    assert np.array_equal(train_ends(log), train_ends(other))
    return log, other


@pytest.mark.parametrize(
    ("nth", "kind"),
    covering([*itertools.product(range(len(ASKED)), ROWS)], times=3),
    ids=lambda of: of if isinstance(of, str) else IDS[of],
)
def test_what_is_held_out_changes_no_training_batch(nth: int, kind: str) -> None:
    name, (log, other) = ASKED[nth][0], asked_twice(nth)
    if "protocol=positions" in ROWS[kind] and name != "positions":
        return  # the others refuse it
    for one, two in zip(batches(kind, log, name), batches(kind, other, name), strict=True):
        for field, first in vars(one).items():
            second = getattr(two, field)
            assert (first is None) == (second is None), field
            assert first is None or torch.equal(first, second), field


DRAWING = (
    "windows, negatives a target",
    "windows, negatives a position",
    "windows, negatives a sequence",
    "prefixes",
    "positions",
    "positions, history negatives",
    "prefixes, history negatives",
)


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((kind, "leave_last") for kind in DRAWING), ("positions", "positions"), ("prefixes", "positions")],
)
def test_a_held_out_item_is_drawn_as_often_as_any_other_unseen_one(kind: str, name: str) -> None:
    """Users of six of twelve items, the last two held out: of what is drawn, a quarter is of those two."""
    rng = np.random.default_rng(5)
    histories = [(rng.permutation(12)[:6] + 1).tolist() for _ in range(250)]
    log = asked(log_of(histories, times=[*range(1500)], num_items=12), name)
    assert view_of(log).seen == "remove"
    held, drawn = 0, 0
    for batch in batches(kind, log, name, epochs=2):
        if batch.negatives_BLK is not None:
            real_BL = torch.ones_like(batch.negatives_BLK[..., 0], dtype=torch.bool)
            real_BL = batch.mask_BL if real_BL.shape == batch.mask_BL.shape else real_BL
            found = [(int(user), batch.negatives_BLK[b][real_BL[b]]) for b, user in enumerate(batch.users_B)]
        else:
            assert batch.candidates_BC is not None
            assert batch.labels_BC is not None
            wrong_BC = (batch.labels_BC == 0) & (batch.candidates_BC > 0)
            found = [(int(user), batch.candidates_BC[b][wrong_BC[b]]) for b, user in enumerate(batch.users_B)]
        for user, items in found:
            history = torch.tensor(histories[user - 1])
            assert not torch.isin(items, history[:4]).any()
            held, drawn = held + int(torch.isin(items, history[4:]).sum()), drawn + items.numel()
    assert drawn > 500
    assert held / drawn == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / drawn) ** 0.5)


def test_a_protocol_without_labelled_training_rows_refuses_to_draw_them_anew() -> None:
    with pytest.raises(SeqrecError, match=r"objective\.redraw=true"):
        validate("train", compose("train", ["model=din", "objective.redraw=true"]))


@pytest.mark.parametrize("nth", range(len(ASKED)), ids=IDS)
def test_what_is_counted_is_of_training_events_alone(nth: int) -> None:
    log, other = asked_twice(nth)
    assert all(torch.equal(a, b) for a, b in zip(training_histories(log), training_histories(other), strict=True))
    for count in (training_counts, user_training_counts, training_items):
        assert np.array_equal(count(log), count(other)), count.__name__
