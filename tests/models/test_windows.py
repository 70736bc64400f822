"""An encoder on rows longer than it reads: each part as a row of its own, with its own times and context."""

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
import toy
from test_features import built, told

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.models.layers.embedding import use_sparse_rows
from seqrec_cli.models.windows import Windowed

WITHOUT_PLACE = {"positions": "none"}  # what a row cut short has others of
M = 3


def alone(batch: Batch, row: int, place: int, first: int) -> Batch:
    """The row's events `first` to `place`, asked when the next one happened and in its context, or as the row is."""
    part, of = slice(first, place + 1), slice(row, row + 1)
    is_last = place + 1 == int(batch.lengths_B[row])
    assert batch.times_BL is not None
    assert batch.context_BLF is not None
    assert batch.request_times_B is not None
    assert batch.context_BF is not None
    return Batch(
        batch.users_B[of],
        batch.items_BL[of, part],
        torch.tensor([place + 1 - first]),
        batch.times_BL[of, part],
        request_times_B=batch.request_times_B[of] if is_last else batch.times_BL[of, place + 1],
        context_BLF=batch.context_BLF[of, part],
        context_BF=batch.context_BF[of] if is_last else batch.context_BLF[of, place + 1],
    )


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sasrec", {**WITHOUT_PLACE, "context": "history"}),
        ("sasrec", {**WITHOUT_PLACE, "context": "request"}),
        ("gru4rec", {"context": "request"}),
        ("gru4rec", {"user_dim": 4}),
        ("hstu", {"time_bias": "past"}),
        ("hstu", {"time_bias": "target"}),
    ],
)
def test_a_part_is_read_as_a_row_of_its_own(name: str, changes: dict[str, Any]) -> None:
    encoder, batch = built(name, **changes), told()
    assert isinstance(encoder, SequenceEncoder)
    windowed = Windowed(encoder, M)
    with torch.inference_mode():
        states_BLD, last_BD = windowed.encode(batch), windowed.last(batch)
        for row in range(len(batch)):
            length = int(batch.lengths_B[row])
            for place in range(length):
                first = max(0, length - M * (1 + (length - 1 - place) // M))
                expected_D = encoder.last(alone(batch, row, place, first))[0]
                torch.testing.assert_close(states_BLD[row, place], expected_D, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(last_BD[row], expected_D, rtol=1e-4, atol=1e-4)


def test_what_is_not_told_stays_untold() -> None:
    encoder = built("sasrec", context="request", **WITHOUT_PLACE)
    assert isinstance(encoder, SequenceEncoder)
    batch, windowed = told(), Windowed(encoder, M)
    with torch.inference_mode():
        for fields in (("context_BLF",), ("context_BF",), ("times_BL",), ("times_BL", "request_times_B")):
            states_BLD = windowed.encode(replace(batch, **dict.fromkeys(fields)))
            assert states_BLD.shape[:2] == batch.items_BL.shape


def test_it_has_what_the_encoder_has() -> None:
    encoder = toy.toy_model("sasrec", item_bias=True)
    assert isinstance(encoder, SequenceEncoder)
    windowed, batch = Windowed(encoder, M), toy.toy_batch()
    assert windowed.item_bias() is encoder.item_bias() is not None
    assert windowed.trainable_models() == (windowed,)
    assert not windowed.sparse_rows
    use_sparse_rows(encoder)
    assert windowed.sparse_rows
    told_of = {"auxiliary_loss": (), "auxiliary_count": (batch,), "penalty": (batch,)}
    for name, given in told_of.items():
        with mock.patch.object(encoder, name, return_value=name) as asked:
            assert getattr(windowed, name)(*given) == name
        asked.assert_called_once_with(*given)
    assert not windowed.sees_target_time
    timed, counted = built("hstu", time_bias="target"), toy.toy_model("ease")
    assert isinstance(timed, SequenceEncoder)
    assert isinstance(counted, SequenceEncoder)
    assert Windowed(timed, M).sees_target_time
    assert Windowed(counted, M).trainable_models() == ()
