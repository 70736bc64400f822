"""A trained run in Python: it recommends, scores, encodes, explains and measures in pandas.

Legend: R users or histories, C items, D width, V items of the data.
"""

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np

from seqrec_cli.api.answered_frames import long_frame, recommended_frame
from seqrec_cli.api.explaining import explained_frame
from seqrec_cli.api.process_state import unchanged_torch
from seqrec_cli.api.requests import Asked, asked_about, ids_of, names_in
from seqrec_cli.commands.measure import Measured, measured, rules_of, validated, validation_loss
from seqrec_cli.commands.recommend import recommending_of, rows_at_once
from seqrec_cli.commands.restore import Restored
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.evaluation.evaluate import Evaluation
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.openings import count_opening, new_opening
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.serving.attribution.mattering import Order
from seqrec_cli.serving.attribution.methods import Method
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Request
from seqrec_cli.training.precision import resolve_precision

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

RawId = str | int
Split = Literal["val", "test"]
Users = Union[RawId, Sequence[RawId], np.ndarray, "pd.Series", "pl.Series", "pd.DataFrame", "pl.DataFrame"]
Histories = Union[
    Sequence[RawId], Sequence[Sequence[RawId]], Mapping[RawId, Sequence[RawId]], "pd.DataFrame", "pl.DataFrame"
]
Times = Sequence[int] | Sequence[Sequence[int]] | Mapping[RawId, Sequence[int]]
Moments = int | datetime | Sequence[int] | Sequence[datetime]
Context = Mapping[str, str] | Sequence[Mapping[str, str]]


class Trained:
    """A trained run, as `load` and `train` give it.

    Users and items are named by the raw ids of the data. `users` may be one id, a list, an array or a series of them,
    or a frame with a column of that name (as the data call it, else `user`). Instead of such users, or with them,
    `histories` come with the question: one list of item ids (the latest last), a list of such lists, a mapping from
    users to lists, or a frame of events (`user`, `item` and, where the model reads it, `time`). With a list of
    histories, `users` says whose they are, for models that know users; `times` are seconds since 1970, one an event;
    `asked_at` is when the answer is for (by default the last event's time), and `context` what the data log of a
    request, by attribute, both one for all or one for each. Items that the data do not have are left out with a
    warning. A frame that answers has a column (or index) `user`, or `row`, where nobody is named.

    Computing leaves torch's threads and random numbers as they were. One object answers one thread at a time.
    """

    def __init__(self, path: Path, restored: Restored) -> None:
        assert restored.log.folder is not None
        self.path = path  # of the run's folder
        self._run = restored
        self._opening = new_opening()  # of the test set, however often this object is asked about it
        restored.model.eval()
        self.users: np.ndarray = vocabulary(restored.log.folder, "users")  # raw ids, int64 or str objects
        self.items: np.ndarray = vocabulary(restored.log.folder, "items")

    def __repr__(self) -> str:
        cfg = self._run.cfg
        sizes = f"{len(self.users):,} users, {len(self.items):,} items"
        return f"Trained({cfg.model.name} on {cfg.dataset.name}, {sizes}, {self.path})"

    @property
    def model(self) -> Recommender:
        """The torch module, in evaluation mode, on the device it answers from."""
        return self._run.model

    @property
    def config(self) -> dict[str, Any]:
        """The run's configuration as plain values, a copy to change and to give to `train`; without its folder."""
        return copy.deepcopy(self._run.as_trained) | {"run_dir": None, "resume": None}

    @property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds: `val`, `test`, `baselines`, `protocol`, and how often the test set was opened;
        without `test` where that is sealed, empty for a run that did not get there."""
        folder = RunFolder(self.path)
        return folder.read_metrics() if folder.metrics_json.is_file() else {}

    @property
    def protocol(self) -> dict[str, Any]:
        """By which protocol its numbers on test are obtained; those of two runs compare where these are equal."""
        return rules_of(self._of(), "test")

    def recommend(
        self,
        users: Users | None = None,
        *,
        histories: Histories | None = None,
        times: Times | None = None,
        asked_at: Moments | None = None,
        context: Context | None = None,
        top: int = 10,
        repeats: bool | None = None,
    ) -> "pd.DataFrame":
        """The `top` items of the corpus for each user (None and no histories: all), as a long frame.

        Columns: `user` or `row`, `rank` from 1, `item`, `title` (where the data have titles) and `score`. With
        `repeats` items of the history may come back, without they do not; None: as the run's protocol ranked them.

        Examples:
            >>> run.recommend([3, 8], top=2)[["user", "rank"]].values.tolist()
            [[3, 1], [3, 2], [8, 1], [8, 2]]
            >>> run.recommend(histories=[[5, 9], [7]], top=1).columns.tolist()
            ['row', 'rank', 'item', 'score']
        """
        if top < 1:
            raise SeqrecError(f"top={top}: ask for one item or more")
        with self._computing():
            asked = self._asked(users, histories, times, asked_at=asked_at, context=context)
            found = self._recommending.best(asked.histories, top, repeats=repeats, rows_at_once=self._rows_at_once)
        return long_frame(asked, found, self.items, titles=self._recommending.titles)

    def recommend_frame(
        self,
        frame: "pd.DataFrame | pl.DataFrame",
        *,
        top: int = 10,
        repeats: bool | None = None,
        explain: bool = False,
        length: int | None = None,
        allow: Users | None = None,
        deny: Users | None = None,
        where: Mapping[str, Any] | None = None,
        mmr: float | None = None,
        mmr_pool: int | None = None,
        mmr_by: str | None = None,
    ) -> "pd.DataFrame":
        """`recommend` for a frame with a request a row, with the settings of `seqrec recommend input=`. Columns `user`,
        `history` (a list), `times`, `asked_at`, context, any null. Whoever nothing is known of gets what is popular.

        Columns: `row` (from 0), `user` (if named), `rank`, `item`, `title` (if there are), `score`, `answered_by`, and
        with `explain` `because`.

        Examples:
            >>> run.recommend_frame(run.recommend([3, 8], top=1)[["user"]], top=1, deny=[7])["row"].tolist()
            [0, 1]
        """
        lists = {"length": length, "allow": allow, "deny": deny, "where": where, "top": top, "repeats": repeats}
        mmrs = {"mmr": mmr, "mmr_pool": mmr_pool, "mmr_by": mmr_by, "explain": explain}
        with self._computing():
            return recommended_frame(self._run, frame, {**lists, **mmrs})

    def score(
        self,
        users: Users | None = None,
        items: Users | None = None,
        *,
        histories: Histories | None = None,
        times: Times | None = None,
        asked_at: Moments | None = None,
        context: Context | None = None,
    ) -> "pd.DataFrame":
        """What the model thinks of items (None: all of the corpus), for each user (None and no histories: all).

        A row a user or history, a column an item, float32. Encoders' scores are inner products, click rankers' are
        logits: the higher the better, but not comparable between models.

        Examples:
            >>> run.score([3, 8], items=[1, 2, 4]).shape
            (2, 3)
        """
        import pandas as pd

        with self._computing():
            asked = self._asked(users, histories, times, asked_at=asked_at, context=context)
            if items is None:
                ids, items_C = self.items, np.arange(1, len(self.items) + 1)
            else:
                items_C = self._recommending.indices(ids_of(items, "item", "items"))
                ids = self.items[items_C - 1]
            scores_RC = self._recommending.score(asked.histories, items_C, self._rows_at_once)
        index = pd.Index(asked.labels_R, name=asked.kind).infer_objects()
        return pd.DataFrame(scores_RC, index=index, columns=pd.Index(ids, name="item").infer_objects())

    def encode(
        self,
        users: Users | None = None,
        *,
        histories: Histories | None = None,
        times: Times | None = None,
        asked_at: Moments | None = None,
        context: Context | None = None,
    ) -> np.ndarray:
        """An encoder's vectors of users or histories, float32 [R, D], in the order they are given.

        Their inner products with `item_vectors()`, plus `item_bias()`, are the scores. Raises SeqrecError for a model
        that makes no such vectors (click rankers).

        Examples:
            >>> run.encode([3, 8]).shape
            (2, 64)
        """
        with self._computing():
            self._recommending.encoder()
            asked = self._asked(users, histories, times, asked_at=asked_at, context=context)
            return self._recommending.encode(asked.histories, self._rows_at_once)

    def item_vectors(self) -> np.ndarray:
        """An encoder's item vectors, float32 [V, D], in the order of `items`. Raises as `encode` does."""
        with self._computing() as torch:
            encoder = self._recommending.encoder()
            with torch.inference_mode():
                vectors: np.ndarray = encoder.item_table()[1:].float().cpu().numpy().copy()
        return vectors

    def item_bias(self) -> np.ndarray | None:
        """What an encoder adds to each item's score, float32 [V]; None for nothing. Raises as `encode` does."""
        with self._computing() as torch:
            encoder = self._recommending.encoder()
            with torch.inference_mode():
                bias_V = encoder.item_bias()
                return None if bias_V is None else bias_V[1:].float().cpu().numpy().copy()

    def explain(
        self,
        user: RawId | None = None,
        item: RawId | None = None,
        *,
        history: Sequence[RawId] | None = None,
        times: Sequence[int] | None = None,
        top: int = 3,
        events: int | None = None,
        method: Method = "auto",
        order: Order = "weight",
    ) -> "pd.DataFrame":
        """Which past events carried a user's scores, or those after a `history` of item ids (the latest last).

        `item` is the one to explain; None: the `top` recommended. `method` is attention (of din, dien, dsin and bst),
        leave_one_out or integrated_gradients; auto: attention where the model has it, else leave_one_out. Columns:
        `item`, `score`, `event` (the item of the past event), `time` (where there are times; UTC) and `weight`, of at
        most `events` rows an item (None: all that the model read), the heaviest first, or with order="time" the oldest.
        `attrs` of the frame has `method` and `scale`: normalised weights are shares of this one history, raw ones are
        signed. Raises SeqrecError for unknown ids, and for a method that the model does not bear.
        """
        request = Request(user, history, times, None, {}, top, None)
        with self._computing():
            return explained_frame(self._recommending, request, item, events=events, method=method, order=order)

    def evaluate(
        self, split: Split = "test", *, cutoffs: Sequence[int] | None = None, beyond_accuracy: bool | None = None
    ) -> dict[str, float]:
        """The metrics of a split ("val" or "test") measured again, under the run's own protocol: on the hardware it was
        trained with, the very numbers of its metrics.json. At other cutoffs, or with the metrics of top lists too
        (`seqrec metrics` lists them), where asked for. To read test is counted as an opening of it.

        Examples:
            >>> run.evaluate("val") == run.metrics["val"]
            True
        """
        if cutoffs is not None and (not cutoffs or min(cutoffs) < 1):
            raise SeqrecError(f"cutoffs={list(cutoffs)}: whole numbers from 1 are needed")
        return self._measured(split, None if cutoffs is None else tuple(cutoffs), beyond_accuracy).metrics

    def ranks(self, split: Split = "test") -> "pd.DataFrame":
        """The rank of every held-out item, measured as `evaluate` does.

        Columns: `user`, `item`, `rank` (from 1; halves where scores tie), `candidates` (items that were ranked),
        `history` (events before the request) and `request` (a number: under some protocols a user has several, and a
        request several items).

        Examples:
            >>> ranks = run.ranks("val")
            >>> float((1 / ranks["rank"]).mean()) == run.metrics["val"]["mrr"]
            True
        """
        import pandas as pd

        found = self._measured(split)
        ranks, requests_T = found.ranks, found.ranks.requests_T
        return pd.DataFrame(
            {
                "user": None if found.user_ids is None else found.user_ids[requests_T],
                "item": found.item_ids,
                "rank": ranks.ranks_T,
                "candidates": ranks.candidates_R[requests_T],
                "history": ranks.histories_R[requests_T],
                "request": requests_T,
            }
        ).infer_objects()

    def _measured(
        self, split: Split, cutoffs: tuple[int, ...] | None = None, beyond_accuracy: bool | None = None
    ) -> Evaluation:
        if split not in ("val", "test"):
            raise SeqrecError(f"split={split}: have val and test")
        of = self._of(cutoffs, beyond_accuracy)
        if split == "test":
            count_opening(self._run.log, "Trained", opening=self._opening, run=RunFolder(self.path))
        with self._computing():
            return validated(of, validation_loss(of)) if split == "val" else measured(of, "test")

    def _of(self, cutoffs: tuple[int, ...] | None = None, beyond_accuracy: bool | None = None) -> Measured:
        run = self._run
        evaluation = run.cfg.evaluation.changed(cutoffs, beyond_accuracy)
        return run.cfg.model_copy(update={"evaluation": evaluation}), run.model, run.log, run.precision

    @contextlib.contextmanager
    def _computing(self) -> Iterator[Any]:
        """The run's threads for a while; torch, for those who need it."""
        import torch

        with unchanged_torch():
            resolve_precision(self._run.cfg.hardware)
            yield torch

    @functools.cached_property
    def _recommending(self) -> Recommending:
        return recommending_of(self._run)

    @property
    def _rows_at_once(self) -> int:
        return rows_at_once(self._run)

    def _asked(self, users: Any, histories: Any, times: Any, *, asked_at: Any, context: Any) -> Asked:
        """Users or histories in any form. In a frame of events columns are called as in the run's own data."""
        named = names_in(self._run.cfg.dataset)
        model, log, asked = self._recommending, self._run.log, {"asked_at": asked_at, "context": context}
        return asked_about(model, log, self.users, names=named, users=users, histories=histories, times=times, **asked)
