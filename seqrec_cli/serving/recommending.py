"""Recommendations for a history in the data's own ids: what `recommend` prints and `serve` answers.

Legend: L history events, V items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.context import told_context
from seqrec_cli.data.histories import history_batch, logged_history
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import titles, vocabulary
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.reading import optional_inputs
from seqrec_cli.training.precision import Precision

RawId = str | int
LATEST = 2**53  # seconds: more are a mistake, and no number of 64 bits adds them up


@dataclass(frozen=True)
class Request:
    """For whom, knowing what. Times are seconds since 1970, UTC."""

    user: RawId | None  # None, or one the data do not know: nobody in particular
    history: Sequence[RawId] | None  # items, the latest last; None: the user's events in the log
    times: Sequence[int] | None  # one an event of `history`
    asked_at: int | None  # None: at the latest event's time
    context: Mapping[str, str]  # by attribute
    top: int
    repeats: bool  # items of the history may come back


@dataclass(frozen=True)
class Recommended:
    """Items, the best first, and what of the request was read."""

    items: list[RawId]
    titles: list[str] | None
    scores: list[float]
    events_read: int  # the latest of the history, as many as the model takes
    unknown_items: list[RawId]  # of the history, which the data do not know: left out
    known_user: bool


class Recommending:
    """A trained model that answers requests, one at a time."""

    def __init__(self, model: Recommender, name: str, log: PackedLog, max_length: int, precision: Precision) -> None:
        assert log.folder is not None
        self._model, self._name, self._log = model.to(precision.device).eval(), name, log
        self._max_length, self._precision = max_length, precision
        self._items: list[RawId] = vocabulary(log.folder, "items").tolist()
        self._titles = titles(log.folder)
        self._index = {str(raw): index for index, raw in enumerate(self._items, start=1)}
        self._rows = {str(raw): row for row, raw in enumerate(vocabulary(log.folder, "users").tolist())}
        busiest = logged_history(log, int(np.diff(log.offsets_U1).argmax()), max_length)
        with precision.autocast():
            self._reads = optional_inputs(self._model.score_corpus, busiest.to(precision.device))

    def answer(self, request: Request) -> Recommended:
        """The highest scores among the corpus. Raises SeqrecError where a request is not understood, or too bare."""
        row = None if request.user is None else self._rows.get(str(request.user))
        unknown: list[RawId] = []
        if request.history is None:
            batch, met_N = self._logged(request, row)
        else:
            batch, met_N, unknown = self._told(request, request.history, row)
        best, scores = self._best(batch, request.top, np.zeros(0, np.int64) if request.repeats else met_N)
        return Recommended(
            [self._items[item - 1] for item in best],
            None if self._titles is None else [self._titles[item - 1] for item in best],
            scores,
            int(batch.lengths_B[0]),
            unknown,
            row is not None,
        )

    @torch.inference_mode()
    def _best(self, batch: Batch, top: int, hidden_N: np.ndarray) -> tuple[list[int], list[float]]:
        """The highest scores and their items, the hidden ones left out."""
        with self._precision.autocast():
            scores_V = self._model.score_corpus(batch.to(self._precision.device))[0].float().cpu().clone()
        if not scores_V[1:].isfinite().all():
            raise SeqrecError("the model's scores are not numbers; its training has diverged")
        scores_V[torch.from_numpy(np.append(hidden_N, 0).astype(np.int64))] = -torch.inf
        best = scores_V.topk(min(top, int(scores_V.isfinite().sum())))
        return best.indices.tolist(), best.values.tolist()

    def _logged(self, request: Request, row: int | None) -> tuple[Batch, np.ndarray]:
        """The events the log has of a user."""
        if row is None:
            if request.user is None:
                raise SeqrecError("neither a user nor a history: whom to recommend to?")
            ids = list(self._rows)
            raise SeqrecError(
                f"user={request.user}: the data have no such user (ids such as {ids[0]}, {ids[-1]}); give a history"
            )
        for name in ("times", "asked_at", "context"):
            if getattr(request, name):
                raise SeqrecError(f"{name} is told with a history; of a user's logged events it is known")
        log = self._log
        return logged_history(log, row, self._max_length), log.items_N[log.offsets_U1[row] : log.offsets_U1[row + 1]]

    def _told(
        self, request: Request, history: Sequence[RawId], row: int | None
    ) -> tuple[Batch, np.ndarray, list[RawId]]:
        """A history as it is given, its items, and those of them that the data do not know."""
        indices = [self._index.get(str(raw)) for raw in history]
        unknown = [raw for raw, index in zip(history, indices, strict=True) if index is None]
        known = np.array([place for place, index in enumerate(indices) if index is not None], np.int64)
        if not len(known):
            what = "no item of the history is in the data" if unknown else "the history is empty"
            raise SeqrecError(f"{what} (ids such as {self._items[0]}, {self._items[-1]})")
        met_N = np.array([index for index in indices if index is not None], np.int64)
        times = self._times(request.times, len(history))
        latest_L = known[-self._max_length :]
        asked_at = self._asked_at(request.asked_at, times)
        if asked_at is None and "context_BF" in self._reads and self._log.time_context:
            raise SeqrecError(f"model={self._name} reads the {self._log.time_context[0]} of a request: give asked_at")
        context_1F = told_context(self._log, request.context, asked_at)
        times_L = None if times is None else times[latest_L]
        return history_batch(row, met_N[-self._max_length :], times_L, asked_at, context_1F), met_N, unknown

    @staticmethod
    def _asked_at(asked_at: int | None, times: np.ndarray | None) -> int | None:
        if asked_at is None:
            return None if times is None else int(times[-1])
        _check_seconds("asked_at", [asked_at])
        if times is not None and asked_at < times[-1]:
            raise SeqrecError("asked_at lies before the latest event; leave later events out, or ask later")
        return asked_at

    def _times(self, times: Sequence[int] | None, events: int) -> np.ndarray | None:
        if times is None:
            if {"times_BL", "request_times_B"} & set(self._reads):
                raise SeqrecError(
                    f"model={self._name} reads when events happened: give times, seconds since 1970, one an event"
                )
            return None
        if len(times) != events:
            raise SeqrecError(f"times: {len(times)} for {events} events; give one an event")
        _check_seconds("times", times)
        found = np.array(times, np.int64)
        if (np.diff(found) < 0).any():
            raise SeqrecError("times: the history is not in their order; give the latest event last")
        return found


def _check_seconds(name: str, values: Sequence[int]) -> None:
    if any(abs(value) > LATEST for value in values):
        raise SeqrecError(f"{name}: not a time; give seconds since 1970")
