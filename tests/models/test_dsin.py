"""DSIN: sessions cut by hand, its attention and LSTM against plain ones, and what it needs."""

import dataclasses

import numpy as np
import pytest
import torch
import toy
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models.dsin import Model, cut_sessions
from seqrec_cli.models.layers.lstm import BiLstm


def dsin(**changes: object) -> Model:
    model = toy.toy_model("dsin", init_std=0.5, **changes)
    assert isinstance(model, Model)
    for bias in (model.session_bias, model.position_bias, model.unit_bias):
        torch.nn.init.normal_(bias)
    return model.eval()


def sessions_by_hand(times: list[int], gap: int, most: int, longest: int) -> list[list[int]]:
    """Places of the events of each session, cut event by event."""
    sessions: list[list[int]] = []
    for place, time in enumerate(times):
        if not place or time - times[place - 1] > gap:
            sessions.append([])
        sessions[-1].append(place)
    return [session[-longest:] for session in sessions[-most:]]


def positions_of(positions_KS: Tensor, real_KS: Tensor) -> list[list[int]]:
    return [p[r].tolist() for p, r in zip(positions_KS, real_KS, strict=True) if r.any()]


@pytest.mark.parametrize(("gap", "most", "longest"), [(30, 3, 4), (30, 20, 20), (0, 5, 2), (1000, 2, 3)])
def test_sessions_end_where_the_gap_is_exceeded(gap: int, most: int, longest: int) -> None:
    rng = np.random.default_rng(0)
    histories = [np.cumsum(rng.choice([1, 5, 30, 31, 80], size=n)).tolist() for n in (1, 2, 7, 15, 20, 0)]
    times, mask = torch.zeros(6, 22, dtype=torch.int64), torch.zeros(6, 22, dtype=torch.bool)
    for row, history in enumerate(histories):
        times[row, : len(history)], mask[row, : len(history)] = torch.tensor(history).long(), True
    found = cut_sessions(times, mask, gap, most=most, longest=longest)
    for row, history in enumerate(histories):
        got = positions_of(found.positions_BKS[row], found.real_BKS[row])
        assert got == sessions_by_hand(history, gap, most=most, longest=longest)


def test_the_lstm_is_torchs_in_both_directions() -> None:
    torch.manual_seed(0)
    ours, theirs = BiLstm(5, 4), torch.nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    x, lengths = torch.randn(3, 6, 5), torch.tensor([6, 2, 4])
    keep, write, read, new = (range(4 * i, 4 * i + 4) for i in range(4))
    with torch.no_grad():
        for way, suffix in enumerate(("", "_reverse")):
            order = [*write, *keep, *new, *read]  # torch's order: input, forget, cell, output
            getattr(theirs, f"weight_ih_l0{suffix}").copy_(ours.project[way].weight[order])
            getattr(theirs, f"bias_ih_l0{suffix}").copy_(ours.project[way].bias[order])
            getattr(theirs, f"weight_hh_l0{suffix}").copy_(ours.recurrent[way].weight[order])
            getattr(theirs, f"bias_hh_l0{suffix}").zero_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    got = ours(x, torch.arange(6) < lengths[:, None])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_a_session_attends_to_itself_and_the_candidate_to_the_sessions() -> None:
    """One row and candidate at a time, session by session."""
    model, batch = dsin(), toy.toy_batch()
    assert batch.times_BL is not None
    history = model._history(batch, batch.mask_BL[..., None])
    candidates = model.items.joined(torch.tensor([3, 17]))
    got = model.interest(history, candidates)
    several = 0
    for row, length in enumerate(batch.lengths_B.tolist()):
        cut = sessions_by_hand(batch.times_BL[row, :length].tolist(), 36000, 5, 3)
        several += any(len(session) > 1 for session in cut) and len(cut) > 1
        interests = []
        for k, session in enumerate(cut):
            x = model.items.joined(batch.items_BL[row, session])
            for place in range(len(session)):  # eq. 2
                x[place] = x[place] + model.session_bias[k] + model.position_bias[place] + model.unit_bias
            interests.append(model.within(x[None])[0].mean(0))
        interests_KF = torch.stack(interests)
        context_KH = model.lstm(interests_KF[None], torch.ones(1, len(cut), dtype=torch.bool))[0]
        for place, candidate_F in enumerate(candidates):
            first = (model.interest_keys(interests_KF) @ candidate_F).softmax(0) @ interests_KF  # eq. 9-10
            second = (model.context_keys(context_KH) @ candidate_F).softmax(0) @ context_KH
            torch.testing.assert_close(got[row, place], torch.cat([first, second]), rtol=1e-4, atol=1e-5)
    assert several > 3


def test_events_before_the_sessions_that_are_kept_change_nothing() -> None:
    model, batch = dsin(sessions=2, session_events=2), toy.rows(toy.toy_batch(), slice(7, 8))
    history = model._history(batch, batch.mask_BL[..., None])
    read = history.memory[-1].sum(1)[0] > 0
    assert 0 < int(read.sum()) < int(batch.lengths_B[0])
    other = torch.where(read, batch.items_BL, batch.items_BL % toy.ITEMS + 1)
    assert not torch.equal(other, batch.items_BL)
    changed = dataclasses.replace(batch, items_BL=other)
    torch.testing.assert_close(model.score_corpus(changed), model.score_corpus(batch))


def test_times_are_needed() -> None:
    with pytest.raises(SeqrecError, match=r"model=dsin cuts sessions by the times of events.*use model=din"):
        dsin().score_corpus(dataclasses.replace(toy.toy_batch(), times_BL=None))


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads"):
        toy.small_config("dsin", heads=5)
