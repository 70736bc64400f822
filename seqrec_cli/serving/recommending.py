"""Recommendations for a history in the data's own ids: what `recommend` prints and `serve` answers.

Legend: R histories, B histories of a batch, K recommendations of all, C candidates, D width, V items, M seen events.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import to_device
from seqrec_cli.data.context import told_context
from seqrec_cli.data.histories import Histories, logged_histories
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.item_values import ItemValues
from seqrec_cli.data.splits import training_counts, view_of
from seqrec_cli.data.vocabulary import titles, vocabulary
from seqrec_cli.models.contract import CORPUS_CHUNK, Recommender, SequenceEncoder
from seqrec_cli.models.reading import optional_inputs
from seqrec_cli.serving.cold_start import AnsweredBy, Priors, highest
from seqrec_cli.serving.moments import events_times, moment_asked
from seqrec_cli.serving.requests import RawId, Recommended, Request
from seqrec_cli.serving.scores import hide, refuse_no_numbers
from seqrec_cli.training.precision import Precision

FIRST = np.zeros(1, np.int64)


class Recommending:
    """A trained model that answers requests in the data's own ids, one or many at a time."""

    def __init__(
        self,
        model: Recommender,
        log: PackedLog,
        *,
        name: str,
        max_length: int,
        precision: Precision,
        left_out: np.ndarray | None = None,  # items (from 1) that are never recommended
    ) -> None:
        assert log.folder is not None
        self.model, self.name, self.log = model.to(precision.device).eval(), name, log
        self.max_length, self.precision = max_length, precision
        self.left_out = None if left_out is None else torch.from_numpy(left_out).to(precision.device)
        self.items: list[RawId] = vocabulary(log.folder, "items").tolist()
        self.titles = titles(log.folder)
        self._index = {str(raw): index for index, raw in enumerate(self.items, start=1)}
        self.users: list[RawId] = vocabulary(log.folder, "users").tolist()
        self._rows = {str(raw): row for row, raw in enumerate(self.users)}
        busiest = logged_histories(log, np.array([np.diff(log.offsets_U1).argmax()])).batch(FIRST, max_length)
        with precision.autocast():
            self._reads = optional_inputs(self.model.score_corpus, busiest.to(precision.device))

    def answer(self, request: Request) -> Recommended:
        """The highest scores among the corpus. Raises SeqrecError where a request is not understood."""
        asked, unknown = self.known(request)
        if asked is None:
            by, scores_V = self.cold(request)
            items_K, scores_K = self.best_of(scores_V, request.top)
            return self.told(request, asked, unknown, items_K=items_K, scores_K=scores_K, by=by)
        _, items_K, scores_K = self.best(asked, request.top, repeats=request.repeats, rows_at_once=1)
        return self.told(request, asked, unknown, items_K=items_K, scores_K=scores_K)

    def known(self, request: Request) -> tuple[Histories | None, list[RawId]]:
        """The history that a request is about, and its unknown items; None where nothing is left that the model reads:
        the history is empty or unknown, or the user is and gives none. Raises SeqrecError as `answer` does."""
        self.priors.check(request.attributes, request.item_attributes)
        if request.history is None:
            nobody = request.user is None and request.attributes
            if nobody or (request.user is not None and not self.knows(request.user)):
                return None, []
            return self._logged(request).own(), []
        if not any(str(raw) in self._index for raw in request.history):
            events_times(request.times, len(request.history))
            return None, list(request.history)
        return self.given(request)

    def knows(self, user: RawId) -> bool:
        """Whether the data have this user."""
        return str(user) in self._rows

    def told(
        self,
        request: Request,
        asked: Histories | None,
        unknown: list[RawId],
        *,
        items_K: np.ndarray,
        scores_K: np.ndarray,
        by: AnsweredBy | None = None,
    ) -> Recommended:
        """An answer in the data's own ids; without `by`, the model's or popularity's."""
        items, named = self.named(items_K)
        read = 0 if asked is None else min(int(asked.ends_R[0] - asked.starts_R[0]), self.max_length)
        return Recommended(
            items,
            named,
            scores_K.tolist(),
            read,
            unknown,
            request.user is not None and self.knows(request.user),
            by or ("popularity" if asked is None else "model"),
        )

    def named(self, items_K: np.ndarray) -> tuple[list[RawId], list[str] | None]:
        """Items' raw ids, and their titles where the data have them."""
        items = items_K.tolist()
        titles = None if self.titles is None else [self.titles[item - 1] for item in items]
        return [self.items[item - 1] for item in items], titles

    @cached_property
    def popularity_V(self) -> np.ndarray:
        """What the model `popular` scores by: log(1 + how often an item was seen in training), float32 [V + 1]."""
        return np.log1p(training_counts(self.log)).astype(np.float32)

    @cached_property
    def priors(self) -> Priors:
        """What attributes tell of those whom the model cannot read."""
        return Priors(self.log)

    def cold(self, request: Request) -> tuple[AnsweredBy, np.ndarray]:
        """What there is to go by where the model has nothing to read, the best of it, and every item's score by that,
        float32 [V + 1]."""
        row = None if request.user is None else self._rows.get(str(request.user))
        unknown = [str(raw) for raw in request.history or () if str(raw) not in self._index]
        described = [request.item_attributes[item] for item in unknown if item in request.item_attributes]
        found = self.priors.best(request.attributes, None if row is None else row + 1, described)
        return ("popularity", self.popularity_V) if found is None else found

    def best_of(
        self, scores_V: np.ndarray, top: int, hidden_V1: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(items, scores) of the highest of one row of scores, whatever was seen, but for what is never recommended and
        the hidden items (True)."""
        if scores_V is self.popularity_V:
            return self.popular(top, hidden_V1)
        hidden = [] if hidden_V1 is None else np.flatnonzero(hidden_V1).tolist()
        return highest(scores_V, top, [*hidden, *([] if self.left_out is None else self.left_out.tolist())])

    @cached_property
    def _by_popularity(self) -> np.ndarray:
        order_V = np.argsort(-self.popularity_V[1:], kind="stable") + 1
        return order_V if self.left_out is None else order_V[~np.isin(order_V, self.left_out.cpu().numpy())]

    def popular(self, top: int, hidden_V1: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(items, scores): the answer to a history of which nothing is known; without the hidden items (True)."""
        order_V = self._by_popularity
        items_K = (order_V if hidden_V1 is None else order_V[~hidden_V1[order_V]])[:top]
        return items_K, self.popularity_V[items_K]

    @cached_property
    def item_values(self) -> ItemValues:
        """The items by the values of their attributes."""
        return ItemValues(self.log)

    @property
    def columns(self) -> int:
        """Of a row of scores: padding, and every item."""
        return len(self.items) + 1

    def with_any(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """Items that have one of these values of an attribute. Raises SeqrecError as `ItemValues.with_any`."""
        return self.item_values.with_any(name, texts)

    def codes(self, kind: Literal["items", "users"], ids: Sequence[str]) -> np.ndarray:
        """Indices from 1, int64; 0 where the data have no such item or user."""
        found, before = (self._index, 0) if kind == "items" else (self._rows, 1)
        return np.fromiter((found.get(each, -before) + before for each in ids), np.int64, len(ids))

    def reads(self, *inputs: str) -> bool:
        """Whether the model reads one of these inputs (of `models.reading.OPTIONAL`)."""
        return not set(inputs).isdisjoint(self._reads)

    def logged(self, users: Sequence[RawId]) -> Histories:
        """The events the log has of these users. Raises SeqrecError for one it does not have."""
        rows = [self._rows.get(str(user), -1) for user in users]
        if -1 in rows:
            ids, missing = list(self._rows), rows.count(-1)
            more = f" (and {missing - 1} more)" if missing > 1 else ""
            raise SeqrecError(
                f"user={users[rows.index(-1)]}: the data have no such user (ids such as {ids[0]}, {ids[-1]}); "
                f"give a history{more}"
            )
        return logged_histories(self.log, np.array(rows, np.int64))

    def indices(self, items: Sequence[RawId]) -> np.ndarray:
        """Items' indices in the catalog, from 1. Raises SeqrecError for one that the data do not have."""
        for item in items:
            if str(item) not in self._index:
                raise SeqrecError(
                    f"item={item}: the data have no such item (ids such as {self.items[0]}, {self.items[-1]})"
                )
        return np.array([self._index[str(item)] for item in items], np.int64)

    def known_indices(self, items: Sequence[RawId]) -> tuple[np.ndarray, list[RawId]]:
        """The indices (from 1) of those that the data have, and the others."""
        found = [self._index.get(str(item)) for item in items]
        unknown = [item for item, index in zip(items, found, strict=True) if index is None]
        return np.array([index for index in found if index is not None], np.int64), unknown

    def known_positions(self, items: Sequence[RawId]) -> np.ndarray:
        """Where the items that the data have stand in such a list, from 0, int64."""
        return np.array([nth for nth, item in enumerate(items) if str(item) in self._index], np.int64)

    @property
    def reads_times(self) -> bool:
        """Whether a history of a request's own has to say when its events happened."""
        return bool({"times_BL", "request_times_B"} & set(self._reads))

    @torch.inference_mode()
    def best(
        self,
        asked: Histories,
        top: int,
        *,
        repeats: bool | None,
        rows_at_once: int,
        hidden_V1: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows of `asked`, items, scores), a row's best item first; seen items are left out unless `repeats`.

        Where that is None, as the run's protocol has them: kept among the candidates, or removed. Items where
        `hidden_V1` is True are left out of every row's.
        A row has fewer than `top` where the corpus has no more to give. Rows stand in their order.
        """
        keeps_seen = view_of(self.log).seen == "keep" if repeats is None else repeats
        rows, items, scores = [], [], []
        for rows_B in asked.by_length(self.max_length, rows_at_once):
            batch = asked.batch(rows_B, self.max_length).to(self.precision.device)
            without_seen = rows_B[:0] if keeps_seen else np.arange(len(rows_B))
            hidden_M = self.hidden(asked, rows_B, without_seen=without_seen, hidden_BV1=[hidden_V1] * len(rows_B))
            with self.precision.autocast():
                scores_BV = self.model.score_corpus_without(batch, hidden_M, top).float().clone()
            refuse_no_numbers(scores_BV)
            hide(scores_BV, hidden_M)
            best = scores_BV.topk(min(top, scores_BV.shape[1]), dim=1)
            left_BK = best.values.isfinite().cpu().numpy()
            rows.append(np.broadcast_to(rows_B[:, None], left_BK.shape)[left_BK])
            items.append(best.indices.cpu().numpy()[left_BK])
            scores.append(best.values.cpu().numpy()[left_BK])
        rows_N = np.concatenate(rows)
        order_N = np.argsort(rows_N, kind="stable")
        return rows_N[order_N], np.concatenate(items)[order_N], np.concatenate(scores)[order_N]

    def hidden(
        self,
        asked: Histories,
        rows_B: np.ndarray,
        *,
        without_seen: np.ndarray,
        hidden_BV1: Sequence[np.ndarray | None],
    ) -> torch.Tensor:
        """Where in the flattened [B, V + 1] of these rows' scores stands what is no answer: int64 [M] of items that are
        left out, of those seen by the rows that `without_seen` indexes, and of each row's hidden ones (True)."""
        columns = self.model.num_items + 1
        positions_M, items_M = asked.seen(rows_B[without_seen])
        filtered = [row * columns + np.flatnonzero(each) for row, each in enumerate(hidden_BV1) if each is not None]
        seen_M = torch.from_numpy(np.concatenate([without_seen[positions_M] * columns + items_M, *filtered]))
        seen_M = to_device(seen_M, self.precision.device)
        if self.left_out is None:
            return seen_M
        firsts_B = torch.arange(len(rows_B), device=seen_M.device) * columns
        return torch.cat([seen_M, (firsts_B[:, None] + self.left_out).flatten()])

    @torch.inference_mode()
    def score(self, asked: Histories, items_C: np.ndarray, rows_at_once: int) -> np.ndarray:
        """Every history's scores of these items (from 1), float32 [R, C]."""
        scores_RC = np.empty((len(asked), len(items_C)), np.float32)
        items = torch.from_numpy(items_C).to(self.precision.device)
        for rows_B in asked.by_length(self.max_length, rows_at_once):
            batch = asked.batch(rows_B, self.max_length).to(self.precision.device)
            with self.precision.autocast():
                if len(items_C) <= CORPUS_CHUNK:
                    answer_BC = self.model.score(batch, items.expand(len(batch), -1))
                else:
                    answer_BC = self.model.score_corpus(batch)[:, items]
            refuse_no_numbers(answer_BC, first=0)
            scores_RC[rows_B] = answer_BC.float().cpu().numpy()
        return scores_RC

    @torch.inference_mode()
    def encode(self, asked: Histories, rows_at_once: int) -> np.ndarray:
        """Every history's vector, float32 [R, D]. Raises SeqrecError for a model that makes none."""
        encoder, vectors = self.encoder(), []
        order = list(asked.by_length(self.max_length, rows_at_once))
        for rows_B in order:
            batch = asked.batch(rows_B, self.max_length).to(self.precision.device)
            with self.precision.autocast():
                vectors.append(encoder.last(batch).float().cpu().numpy())
        return np.concatenate(vectors)[np.argsort(np.concatenate(order))]

    def encoder(self) -> SequenceEncoder:
        """The model, where a history becomes a vector in it; else SeqrecError."""
        if not isinstance(self.model, SequenceEncoder):
            raise SeqrecError(
                f"model={self.name} makes no vector of a history, it scores each candidate; take an encoder (sasrec)"
            )
        return self.model

    def _logged(self, request: Request) -> Histories:
        if request.user is None:
            raise SeqrecError(
                "neither a user nor a history: whom to recommend to? (a history of [] is somebody unknown)"
            )
        asked = self.logged([request.user])
        for name in ("times", "asked_at", "context"):
            if getattr(request, name):
                raise SeqrecError(f"{name} goes with a history; of a user's logged events it is known")
        return asked

    def given(self, request: Request) -> tuple[Histories, list[RawId]]:
        """A request's own history, and those of its items that the data do not know: they are left out."""
        history = request.history or ()
        indices = [self._index.get(str(raw)) for raw in history]
        unknown = [raw for raw, index in zip(history, indices, strict=True) if index is None]
        known = np.array([nth for nth, index in enumerate(indices) if index is not None], np.int64)
        if not len(known):
            what = "no item of the history is in the data" if unknown else "the history is empty"
            raise SeqrecError(f"{what} (ids such as {self.items[0]}, {self.items[-1]})")
        if "context_BLF" in self._reads:
            raise SeqrecError(
                f"model={self.name} reads the context of every event "
                f"({', '.join(self.log.catalog.context_names)}), which a history of a request's own does not tell; "
                "ask for a user of the log, or train with model.context=none"
            )
        if request.times is None and self.reads_times:
            raise SeqrecError(
                f"model={self.name} reads when events happened: give times, seconds since 1970, one an event"
            )
        times = events_times(request.times, len(history))
        asked_at = moment_asked(request.asked_at, times)
        if asked_at is None and "context_BF" in self._reads and self.log.time_context:
            raise SeqrecError(f"model={self.name} reads the {self.log.time_context[0]} of a request: give asked_at")
        row = None if request.user is None else self._rows.get(str(request.user))
        asked = Histories(
            users_R=np.array([0 if row is None else row + 1]),
            items_N=np.array([index for index in indices if index is not None], np.int64),
            starts_R=np.zeros(1, np.int64),
            ends_R=np.array([len(known)]),
            times_N=None if times is None else times[known],
            asked_at_R=None if asked_at is None else np.array([asked_at]),
            context_RF=told_context(self.log, request.context, asked_at),
        )
        return asked, unknown
