"""Asking a trained model what follows every training event, given the history before it, and keeping its first items.

Of a causal encoder whose scores are products one pass over a window answers for all its events; an ensemble's members
read windows of their own `max_length`, and their states are joined afterwards. Histories no longer than `max_length`
are read whole. Longer ones are read in windows that overlap, and an event is answered for by the one that has read most
before it: all but `stride` of the latest `max_length` events at least. With a stride of 1 it has read exactly what a
request would give it. Any other model reads every history by itself.

Where the protocol removes what a user has seen from the candidates, it is removed here too: it is never asked for, and
models that were not taught order (EASE, neighbours) like it best. Held-out events are neither read as targets nor asked
about: `ends_U` ends each user before them.

Legend: U users (of a block), R windows, B rows of a batch, L events of a row, N answered events of a block, n of a
chunk, D width, V items, K items kept, M pairs of an event and a seen item.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import ModelConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.loader import HOST, LogTensors, windows
from seqrec_cli.data.soft_targets import SoftTargetsFile
from seqrec_cli.data.splits import train_ends, training_targets, view_of
from seqrec_cli.models.contract import Recommender, SequenceEncoder, corpus_scores, full_precision
from seqrec_cli.models.ensemble import Model as Ensemble
from seqrec_cli.saying import Say
from seqrec_cli.training.precision import Precision

BLOCK_EVENTS = 1 << 14  # whose states are held at once, and after which what is done is kept
ROW_TOKENS = 1 << 13  # padded events of a batch
BYTES_A_SCORE = 12  # float32: it, its softmax's input, and room to sort
TOLD_SECONDS = 20.0  # between lines of progress
QUARTER = 4


class Windows(NamedTuple):
    """Rows of a block of users, and which of their events each answers for: the last `wanted_R` of it."""

    users_R: np.ndarray  # user rows of the log
    starts_R: np.ndarray
    lengths_R: np.ndarray  # of what is read: the event after it is the last target
    wanted_R: np.ndarray


class Asked(NamedTuple):
    """What a teacher is asked, and how."""

    model: Recommender
    cfg: ModelConfig
    log: PackedLog
    precision: Precision
    stride: int | None
    temperature: float
    memory_mb: int

    @property
    def at_once(self) -> bool:
        """Whether one pass over a row answers for all of its events."""
        model, cfg = self.model, self.cfg
        readers = [model] if not isinstance(model, Ensemble) else list(model.members.values())
        return (
            all(isinstance(each, SequenceEncoder) and each.causal and each.scores_by_product for each in readers)
            and not cfg.looks_ahead
            # What is counted from a row's end says of its inner events that more is to come: as in training, but not as
            # in an answer.
            and (self.stride != 1 or not cfg.counts_from_end)
        )


def ask(asked: Asked, file: SoftTargetsFile, tell: Say) -> None:
    """Answers for the users that the file lacks, a block at a time. Raises KeyboardInterrupt with a line that says what
    is kept, and SeqrecError where the teacher's scores are not finite."""
    log, model = asked.log, asked.model
    offsets_U1, ends_U = np.asarray(log.offsets_U1), train_ends(log)
    began, told, first_done = time.perf_counter(), time.perf_counter(), file.users_done or 0
    total = int(np.maximum(ends_U - offsets_U1[:-1] - 1, 0).sum())
    answered = len(training_targets(offsets_U1[: first_done + 1], ends_U[:first_done])[0])
    at_start = answered
    model.to(asked.precision.device).eval()
    answer = _by_windows if asked.at_once else _by_prefixes
    if first_done:
        tell(f"the teacher goes on: {answered:,} of {total:,} events are answered for")
    try:
        for users, _ in user_blocks(offsets_U1[first_done:], BLOCK_EVENTS):
            block = slice(users.start + first_done, users.stop + first_done)
            with torch.inference_mode(), asked.precision.autocast():
                for positions_n, items_nK, logs_nK in answer(asked, block, file.items_NK.shape[1]):
                    file.write(positions_n, items_nK, logs_nK)
                    answered += len(positions_n)
            file.keep(block.stop)
            now = time.perf_counter()
            if now - told > TOLD_SECONDS and answered < total:
                left = (now - began) * (total - answered) / max(answered - at_start, 1)
                tell(f"the teacher has answered for {answered:,} of {total:,} events, about {left:,.0f} s left")
                told = now
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the teacher has answered for {file.users_done:,} of {log.num_users:,} users, nothing of it lost; "
            "the same command goes on"
        ) from None
    assert answered == total, "every training event with a history, and no other, is answered for"


def _by_windows(asked: Asked, users: slice, top: int) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Answers of a block from the states of whole windows: (places in the log, items, logs), a chunk at a time."""
    model, log, device = asked.model, asked.log, asked.precision.device
    offsets_U1, ends_U = np.asarray(log.offsets_U1[users.start : users.stop + 1]), train_ends(log)[users]
    _, positions_N = training_targets(offsets_U1, ends_U)
    if not len(positions_N):
        return
    parts = []
    for encoder, length in _readers(asked):
        rows = _windows(
            offsets_U1, ends_U, length, first_user=users.start, stride=asked.stride or max(1, length // QUARTER)
        )
        states_ND: Tensor | None = None
        for batch, wanted_N, targets_N in _batches(log, rows, device):
            states_nD = encoder.encode(batch).flatten(0, 1)[wanted_N.to(device)].float()
            if states_ND is None:
                states_ND = states_nD.new_zeros(len(positions_N), states_nD.shape[1])
            states_ND[torch.from_numpy(np.searchsorted(positions_N, targets_N)).to(device)] = states_nD
        assert states_ND is not None
        parts.append(states_ND)
    queries_ND = model.joined(parts) if isinstance(model, Ensemble) else parts[0]
    assert isinstance(model, SequenceEncoder)
    table_VD, bias_V = model.item_table(), model.item_bias()
    size = _chunk(asked, len(positions_N))
    for first in range(0, len(positions_N), size):
        at_n = positions_N[first : first + size]
        with full_precision(device):
            scores_nV = corpus_scores(queries_ND[first : first + size], table_VD, bias_V)
        yield at_n, *_first_items(asked, scores_nV, at_n, top=top)


def _by_prefixes(asked: Asked, users: slice, top: int) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """The same from one row a history."""
    log, device = asked.log, asked.precision.device
    offsets_U1, ends_U = np.asarray(log.offsets_U1[users.start : users.stop + 1]), train_ends(log)[users]
    rows_R, starts_R, lengths_R = windows(offsets_U1, ends_U, asked.cfg.max_length, kind="prefixes", stride=None)
    rows = Windows(rows_R + users.start, starts_R, lengths_R - 1, np.ones_like(rows_R))
    for batch, _, positions_n in _batches(log, rows, device, most=_chunk(asked, len(rows_R))):
        with full_precision(device):
            scores_nV = asked.model.score_corpus(batch).float().clone()
        if asked.model.scores_are_weights:  # counts or shares: a softmax of their logs is their own shares
            scores_nV = scores_nV.clamp(min=torch.finfo(torch.float32).tiny).log()
        yield positions_n, *_first_items(asked, scores_nV, positions_n, top=top)


def _readers(asked: Asked) -> list[tuple[SequenceEncoder, int]]:
    """The encoders whose states are joined, each with the events that it reads."""
    if isinstance(asked.model, Ensemble):
        members = getattr(asked.cfg, "members")  # noqa: B009 - of the ensemble's own settings
        return [(asked.model.members[key], of.max_length) for key, of in members.items()]  # type: ignore[misc]
    assert isinstance(asked.model, SequenceEncoder)
    return [(asked.model, asked.cfg.max_length)]


def _windows(offsets_U1: np.ndarray, ends_U: np.ndarray, max_length: int, *, first_user: int, stride: int) -> Windows:
    """Windows that answer for every training event with a history once: the first of a user for all its targets, a
    later one for its last `stride`."""
    stride = min(stride, max_length)
    rows_R, starts_R, lengths_R = windows(offsets_U1, ends_U, max_length, kind="sliding", stride=stride)
    from_start_R = starts_R == offsets_U1[:-1][rows_R]
    # A user's windows come latest first: the earliest is the last of its user.
    earliest_R = np.append(rows_R[1:] != rows_R[:-1], True)
    assert from_start_R[earliest_R].all(), "the earliest window of a user begins with the first event"
    wanted_R = np.where(earliest_R, lengths_R - 1, stride)
    return Windows(rows_R + first_user, starts_R, lengths_R - 1, wanted_R)


def _batches(
    log: PackedLog, rows: Windows, device: torch.device, *, most: int | None = None
) -> Iterator[tuple[Batch, Tensor, np.ndarray]]:
    """(batch, flattened positions that are answered for, places in the log of what follows each), of like length."""
    events = LogTensors.of(log, HOST)
    order_R = np.argsort(-rows.lengths_R, kind="stable")
    first = 0
    while first < len(order_R):
        longest = int(rows.lengths_R[order_R[first]])
        size = max(1, ROW_TOKENS // longest)
        picked_B = order_R[first : first + (size if most is None else min(size, most))]
        first += len(picked_B)
        starts_B, lengths_B, wanted_B = rows.starts_R[picked_B], rows.lengths_R[picked_B], rows.wanted_R[picked_B]
        batch = events.histories(rows.users_R[picked_B], starts_B, lengths_B)
        batch = replace(
            batch,
            request_times_B=events.times_at(starts_B + lengths_B),
            context_BF=events.contexts_at(starts_B + lengths_B),
            host_lengths_B=batch.lengths_B,
        )
        columns_N = ragged_ranges(lengths_B - wanted_B, wanted_B)
        rows_N = np.repeat(np.arange(len(picked_B)), wanted_B)
        wanted_N = torch.from_numpy(rows_N * batch.items_BL.shape[1] + columns_N)
        yield batch.to(device), wanted_N, starts_B[rows_N] + columns_N + 1


def _chunk(asked: Asked, events: int) -> int:
    """Events whose scores of all items fit the memory at once."""
    return max(1, min(events, asked.memory_mb * 2**20 // (BYTES_A_SCORE * (asked.model.num_items + 1))))


def _first_items(asked: Asked, scores_nV: Tensor, positions_n: np.ndarray, *, top: int) -> tuple[Tensor, Tensor]:
    """The `top` items of each row and the logs of their shares of the softmax, with the protocol's candidates alone."""
    if not torch.isfinite(scores_nV[:, 1:].sum()):
        raise SeqrecError("objective.teacher: its scores are not finite; it was not trained well, give another run")
    if view_of(asked.log).seen == "remove":
        _remove_seen(asked.log, scores_nV, positions_n)
    scores_nV = scores_nV / asked.temperature if asked.temperature != 1 else scores_nV
    of_items_nV = scores_nV[:, 1:]  # without padding
    best_nK, columns_nK = of_items_nV.topk(top, dim=1)
    return columns_nK + 1, best_nK - of_items_nV.logsumexp(1, keepdim=True)


def _remove_seen(log: PackedLog, scores_nV: Tensor, positions_n: np.ndarray) -> None:
    """In place: no share for the items of each history, unless it holds all there are."""
    starts_n = np.asarray(log.offsets_U1)[np.searchsorted(log.offsets_U1, positions_n, side="right") - 1]
    lengths_n = positions_n - starts_n
    rows_M = torch.from_numpy(np.repeat(np.arange(len(positions_n)), lengths_n))
    seen_M = torch.from_numpy(np.asarray(log.items_N[ragged_ranges(starts_n, lengths_n)], np.int64))
    seen_nV = torch.zeros(scores_nV.shape, dtype=torch.bool)
    seen_nV[rows_M, seen_M] = True
    seen_nV[seen_nV[:, 1:].all(1)] = False
    scores_nV.masked_fill_(seen_nV.to(scores_nV.device), -torch.inf)
