"""From a model to its numbers: ranks over the corpus and click metrics, for every family alike.

Legend: B users of a batch, C candidates of a user, N labelled candidates in all, R evaluated users.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.arrow import from_numpy
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import labelled_batches
from seqrec_cli.data.splits import held_out, subsample, view_of
from seqrec_cli.data.view import HeldOut
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.evaluation.drawn import Sampling
from seqrec_cli.evaluation.ranks import Ranks, rank_held_out
from seqrec_cli.evaluation.sampled import rank_sampled
from seqrec_cli.evaluation.stored import StoredClicks, StoredRanks, intervals
from seqrec_cli.evaluation.top_lists import Collector, TopLists
from seqrec_cli.files import atomic_file
from seqrec_cli.metrics.clicks import Calibration, calibration
from seqrec_cli.metrics.kinds import MetricError
from seqrec_cli.metrics.table import compute_metrics
from seqrec_cli.models.contract import Recommender
from seqrec_cli.processes import current
from seqrec_cli.training.precision import Precision


@dataclass(frozen=True)
class Evaluation:
    """`metrics` by the names and in the order of `metric_names`, and what they were computed from."""

    metrics: dict[str, float]
    ranks: Ranks
    clicks: StoredClicks  # all labelled candidates with their logits
    user_ids: np.ndarray | None  # raw ids of the requests' users
    item_ids: np.ndarray | None  # raw ids of the targets

    @property
    def reliability(self) -> Calibration:
        """The share of clicks beside the predicted probability."""
        return calibration(self.clicks.labels_N, self.clicks.logits_N)

    @property
    def intervals(self) -> dict[str, list[float]]:
        """95 % [low, high] of the metrics that are means over users."""
        return intervals(self.metrics, StoredRanks.of(self.ranks), self.clicks)

    def save_ranks(self, path: Path) -> None:
        """One row a target to Parquet, atomically; `user_index` and `item_index` count from 1, as in the vocabularies,
        `request` from 0: of a request's several targets each has a row."""
        ranks = self.ranks
        requests_T = ranks.requests_T
        columns = {
            "user": None if self.user_ids is None else self.user_ids[requests_T],
            "item": self.item_ids,
            "user_index": ranks.rows_R[requests_T] + 1,
            "item_index": ranks.items_T,
            "rank": ranks.ranks_T,
            "candidates": ranks.candidates_R[requests_T],
            "history": ranks.histories_R[requests_T],
            "request": requests_T,
        }
        table = pa.table({name: from_numpy(values) for name, values in columns.items() if values is not None})
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            pq.write_table(table, temporary)


@contextlib.contextmanager
def measuring(model: Recommender, precision: Precision) -> Iterator[None]:
    """Evaluation mode (each module's own mode comes back), no gradients, and the run's number format."""
    modes = [(module, module.training) for module in model.modules()]
    model.to(precision.device).eval()
    try:
        with torch.inference_mode(), precision.autocast():
            yield
    finally:
        for module, training in modes:
            module.training = training


def measure(
    model: Recommender,
    log: PackedLog,
    split: HeldOut,
    *,
    cfg: EvaluationConfig,
    max_length: int,
    device: torch.device,
    collectors: Sequence[Collector] = (),
) -> tuple[Ranks, StoredClicks]:
    """Ranks, and the scores of the split's fixed click candidates.

    Where the protocol samples candidates, the ranks are among those. Where it ranks the corpus and the click candidates
    are those of the ranked requests, their logits are read from the corpus scores: a history is encoded once.
    """
    if split not in log.clicks:
        raise SeqrecError(f"the dataset holds no click candidates for split={split}; run preprocess again")
    view = view_of(log)
    sampling = Sampling.of(view.candidates)
    if sampling is not None:
        if collectors:
            raise SeqrecError(
                f"evaluation.beyond_accuracy=true measures lists of the whole corpus, not of {view.candidates} "
                "candidates; set it to false, or candidates=full"
            )
        ranks = rank(model, log, split, cfg=cfg, max_length=max_length, device=device)
        return ranks, score_clicks(model, log, split, cfg=cfg, max_length=max_length, device=device)
    clicks, targets = log.clicks[split], subsample(held_out(log, split), cfg.ranked_users)
    same = np.array_equal(clicks.rows_R, targets.rows_R) and np.array_equal(clicks.ends_R, targets.ends_R)
    # With a shortlist a corpus score says where an item stands, and is not `score`'s for most of them.
    same = same and model.shortlist is None
    read_RC = np.asarray(clicks.items_RC) if same else None
    ranks, logits_RC = rank_held_out(
        model, log, split, cfg=cfg, max_length=max_length, device=device, read_RC=read_RC, collectors=collectors
    )
    if logits_RC is None:
        return ranks, score_clicks(model, log, split, cfg=cfg, max_length=max_length, device=device)
    return ranks, StoredClicks.of(clicks, logits_RC, log.offsets_U1)


def rank(
    model: Recommender, log: PackedLog, split: HeldOut, *, cfg: EvaluationConfig, max_length: int, device: torch.device
) -> Ranks:
    """Ranks alone, among the protocol's candidates: all that choosing by a metric of ranks needs."""
    view = view_of(log)
    sampling = Sampling.of(view.candidates)
    if sampling is None:
        return rank_held_out(model, log, split, cfg=cfg, max_length=max_length, device=device)[0]
    seed = view.manifest["settings"]["seed"]
    return rank_sampled(
        model, log, split, sampling=sampling, cfg=cfg, max_length=max_length, device=device, seed=seed
    ).ranks


def score_clicks(
    model: Recommender, log: PackedLog, split: HeldOut, *, cfg: EvaluationConfig, max_length: int, device: torch.device
) -> StoredClicks:
    """The scores of the fixed candidates of a split; of several processes each scores some batches."""
    clicks, processes, batch_size = log.clicks[split], current(), cfg.batch_size
    logits_RC = np.zeros(clicks.items_RC.shape)
    batches = labelled_batches(log, split, max_length=max_length, batch_size=batch_size, share=processes.share)
    for picked_B, batch in batches:
        moved = batch.to(device)
        assert moved.candidates_BC is not None
        logits_RC[picked_B] = model.score(moved, moved.candidates_BC).cpu().double().numpy()
    return StoredClicks.of(clicks, processes.sum_array(logits_RC), log.offsets_U1)


def raw_ids(log: PackedLog, name: Literal["users", "items"], indices: np.ndarray) -> np.ndarray | None:
    """Raw ids of indices from 1; None for a log in memory, which has no vocabulary."""
    return None if log.folder is None else vocabulary(log.folder, name)[indices - 1]


def evaluate(
    model: Recommender,
    log: PackedLog,
    split: HeldOut,
    *,
    cfg: EvaluationConfig,
    max_length: int,
    precision: Precision,
) -> Evaluation:
    """Measure a model on one split. The model moves to `precision.device`; its mode is left as it was.

    Raises SeqrecError if the split has nobody to evaluate, or the model gives NaN.
    """
    lists = [TopLists(log, cfg.cutoffs)] if cfg.beyond_accuracy else []
    with measuring(model, precision):
        ranks, clicks = measure(
            model, log, split, cfg=cfg, max_length=max_length, device=precision.device, collectors=lists
        )
    try:
        metrics = compute_metrics(
            cfg.cutoffs,
            ranks=ranks,
            labels_N=clicks.labels_N,
            logits_N=clicks.logits_N,
            users_N=clicks.users_N,
        )
    except MetricError as error:  # a click metric that does not exist for such labels or logits
        raise SeqrecError(str(error)) from error
    for collected in lists:
        metrics |= collected.metrics()
    return Evaluation(
        metrics=metrics,
        ranks=ranks,
        clicks=clicks,
        user_ids=raw_ids(log, "users", ranks.rows_R + 1),
        item_ids=raw_ids(log, "items", ranks.items_T),
    )
