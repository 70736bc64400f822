"""Top lists, counted while they are made: what is recommended, in memory that does not grow with the requests.

Of each block of scores, the best items of every request go into one counter over the items for each cutoff and into
running sums; the lists themselves are not kept. Items of equal score stand in the order of their index, so that a list
is the same on every machine.

Legend: B requests of a block, V items (V + 1 columns, 0 is padding), K items a list, C cutoffs, E seen events and
M history events of a block, R requests, P pairs of a request and an item.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.splits import held_out, train_ends, view_of
from seqrec_cli.metrics.kinds import NEEDS, Exposure, ExposureMetric, ListBlock, ListMetric, Need, Training
from seqrec_cli.metrics.table import (
    ATTRIBUTE,
    CLICKS,
    LISTS,
    METRICS,
    OWNERS,
    SEVERAL,
    is_list_metric,
    metric_names,
    parse_metric,
)
from seqrec_cli.processes import Processes

if TYPE_CHECKING:
    from seqrec_cli.evaluation.ranks import Ranks

REQUESTS_AT_ONCE = 4096


class Collector(Protocol):
    """What is handed each block of scores before the ranks are counted."""

    longest: int  # of its lists

    def add(self, scores_BV: Tensor, seen_E: Tensor, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """Take in the scores of the requests of user rows `rows_B` whose histories end before `ends_B`.

        `seen_E` are the positions, in the flattened block, of items that are no candidates. The scores stay as is.
        """

    def add_lists(self, items_BK: np.ndarray, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """The same where the requests' `longest` best items are known, the best first and 0 for none."""

    def merge(self, processes: Processes) -> None:
        """Take in what the others have collected, each of its share of the blocks."""


def top_items(scores_BV: Tensor, k: int) -> Tensor:
    """The k best items of each row, the best first, int64 [B, K]; equal scores by index; 0 where a score is -inf."""
    items = scores_BV.shape[1]
    k = min(k, items - 1)
    values_BK, items_BK = scores_BV.topk(k + 1, dim=1)
    torn_B = (values_BK[:, k] == values_BK[:, k - 1]) & (values_BK[:, k] > -torch.inf)  # a tie across the end
    items_BK, by_index_BK = items_BK[:, :k].sort(dim=1)
    values_BK = values_BK[:, :k].gather(1, by_index_BK)
    if torn_B.any():
        torn_TV = scores_BV[torn_B]
        least_T1 = values_BK[torn_B].amin(dim=1, keepdim=True)
        above_TV, equal_TV = torn_TV > least_T1, torn_TV == least_T1
        left_T1 = k - above_TV.sum(dim=1, keepdim=True)
        chosen_TV = above_TV | (equal_TV & (equal_TV.cumsum(dim=1) <= left_T1))
        items_BK[torn_B] = chosen_TV.nonzero()[:, 1].view(-1, k)
        values_BK[torn_B] = torn_TV[chosen_TV].view(-1, k)
    values_BK, order_BK = values_BK.sort(dim=1, descending=True, stable=True)
    return items_BK.gather(1, order_BK).masked_fill(values_BK == -torch.inf, 0)


class TopLists:
    """Collects what the metrics of lists need, of the cutoffs' first items."""

    def __init__(self, log: PackedLog, cutoffs: tuple[int, ...]) -> None:
        self._log, self._cutoffs, self.longest = log, cutoffs, max(cutoffs)
        self._attributes = [attribute.name for attribute in log.catalog.item_attributes]
        self._of_lists = {name: metric for name, metric in METRICS.items() if isinstance(metric, ListMetric)}
        self._counts_CV1 = np.zeros((len(cutoffs), log.num_items + 1), np.int64)
        shape = (len(self._of_lists), len(self._attributes), len(cutoffs))
        self._sums, self._lists = np.zeros(shape), np.zeros(shape, np.int64)

    def add(self, scores_BV: Tensor, seen_E: Tensor, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """Count the lists of a block (see `Collector`)."""
        flat = scores_BV.view(-1)
        kept_E, kept_B = flat[seen_E], scores_BV[:, 0].clone()
        flat[seen_E] = -torch.inf
        scores_BV[:, 0] = -torch.inf
        items_BK = top_items(scores_BV, self.longest).cpu().numpy()
        flat[seen_E] = kept_E
        scores_BV[:, 0] = kept_B
        self.add_lists(items_BK, rows_B=rows_B, ends_B=ends_B)

    def add_lists(self, items_BK: np.ndarray, *, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        """Count lists that are made already."""
        for counts_V1, k in zip(self._counts_CV1, self._cutoffs, strict=True):
            np.add.at(counts_V1, items_BK[:, :k].ravel(), 1)
        if self._attributes:
            self._add_attributes(items_BK, rows_B, ends_B)

    def merge(self, processes: Processes) -> None:
        """Add up what all have counted."""
        for counted in (self._counts_CV1, self._sums, self._lists):
            processes.sum_array(counted)

    def _add_attributes(self, items_BK: np.ndarray, rows_B: np.ndarray, ends_B: np.ndarray) -> None:
        starts_B = np.asarray(self._log.offsets_U1)[rows_B]
        history_M = np.asarray(self._log.items_N[ragged_ranges(starts_B, ends_B - starts_B)], np.int64)
        rows_M = np.repeat(np.arange(len(rows_B)), ends_B - starts_B)
        for attribute_index, attribute in enumerate(self._attributes):
            block = ListBlock(items_BK, history_M, rows_M, np.asarray(self._log.catalog.item_values[attribute]))
            for nth, metric in enumerate(self._of_lists.values()):
                values_BC = metric.value(block, self._cutoffs)
                self._sums[nth, attribute_index] += np.nansum(values_BC, axis=0)
                self._lists[nth, attribute_index] += np.count_nonzero(~np.isnan(values_BC), axis=0)

    def metrics(self) -> dict[str, float]:
        """Every metric of lists that exists for this log, by name."""
        training = training_of(self._log)
        exposures = []
        for counts_V1 in self._counts_CV1:
            counts_V1 = np.where(np.arange(len(counts_V1)) > 0, counts_V1, 0).astype(np.float64)
            exposures.append(Exposure(counts_V1, counts_V1 > 0, training))
        found = of_exposures(self._log, self._cutoffs, exposures)
        for nth, kind in enumerate(self._of_lists):
            for attribute_index, attribute in enumerate(self._attributes):
                for column, k in enumerate(self._cutoffs):
                    if lists := self._lists[nth, attribute_index, column]:
                        found[f"{kind}:{attribute}@{k}"] = float(self._sums[nth, attribute_index, column] / lists)
        return {name: found[name] for name in list_metric_names(self._log, self._cutoffs) if name in found}


def list_metric_names(log: PackedLog, cutoffs: tuple[int, ...]) -> tuple[str, ...]:
    """The metrics of lists that a log has what they need for."""
    owned: tuple[Need, ...] = () if log.owners_V1 is None else (OWNERS,)
    attributes = [attribute.name for attribute in log.catalog.item_attributes]
    names = metric_names(cutoffs, (LISTS, ATTRIBUTE, *owned), attributes)
    return tuple(name for name in names if is_list_metric(name))


def monitor_is_measured(name: str, log: PackedLog, cfg: EvaluationConfig) -> None:
    """Raises SeqrecError, before anything is trained, where validations of this log will not yield the metric."""
    several: tuple[Need, ...] = (SEVERAL,) if (held_out(log, "val").counts_R > 1).any() else ()
    names = metric_names(cfg.cutoffs, (*several, *(CLICKS if log.clicks else ())))
    names += list_metric_names(log, cfg.cutoffs) if cfg.beyond_accuracy else ()
    if name not in names:
        needed = "; ".join(parse_metric(name)[0].needed)
        raise SeqrecError(
            f"trainer.monitor={name} needs {needed or 'what this log lacks'}{nearest(name, names)} "
            f"(have: {', '.join(names)})"
        )


def not_measured(log: PackedLog) -> list[str]:
    """Which metrics of lists a log lacks something for, in words."""
    have = {ATTRIBUTE: bool(log.catalog.item_attributes), OWNERS: log.owners_V1 is not None}
    found = []
    for need, there in have.items():
        kinds = [kind for kind, metric in METRICS.items() if need in metric.needs]
        if not there:
            found.append(f"not measured: {', '.join(kinds)} (needs {NEEDS[need]})")
    return found


def of_exposures(
    log: PackedLog, cutoffs: tuple[int, ...], exposures: list[Exposure], *, linear_alone: bool = False
) -> dict[str, float]:
    """The metrics of how often items are shown, an exposure a cutoff."""
    found = {}
    for name in list_metric_names(log, cutoffs):
        metric, k = parse_metric(name)
        if isinstance(metric, ExposureMetric) and (metric.linear or not linear_alone) and k is not None:
            value = metric.value(exposures[cutoffs.index(k)])
            if value is not None:
                found[name] = value
    return found


def training_of(log: PackedLog) -> Training:
    """Counts of the training events."""
    offsets_U1, ends_U = np.asarray(log.offsets_U1), np.asarray(train_ends(log))
    lengths_U = ends_U - offsets_U1[:-1]
    items_N = np.asarray(log.items_N[ragged_ranges(offsets_U1[:-1], lengths_U)], np.int64)
    size = log.num_items + 1
    pairs = _distinct(np.repeat(np.arange(len(lengths_U)), lengths_U) * size + items_N)
    return Training(
        np.bincount(items_N, minlength=size),
        np.bincount(pairs % size, minlength=size),
        np.concatenate([[0], lengths_U]),
        None if log.owners_V1 is None else np.asarray(log.owners_V1),
    )


def lists_at_random(log: PackedLog, cutoffs: tuple[int, ...], ranks: "Ranks") -> dict[str, float]:
    """What metrics of lists are expected to be where each list is drawn uniformly from the request's candidates.

    An item that is a candidate of n stands among the first k with the chance k / n, whatever else the list holds; known
    are the metrics that depend on the expected counts alone, and coverage.
    """
    training, exposures, size = training_of(log), [], log.num_items + 1
    removed = view_of(log).seen == "remove"
    for k in cutoffs:
        chance_R = np.minimum(k / ranks.candidates_R, 1.0)
        with np.errstate(divide="ignore"):
            misses_R = np.log1p(-chance_R)
        misses_R = np.maximum(misses_R, np.log(np.finfo(np.float64).tiny))
        counts_V1, misses_V1 = np.full(size, chance_R.sum()), np.full(size, misses_R.sum())
        if removed:
            for first in range(0, len(chance_R), REQUESTS_AT_ONCE):
                part = slice(first, first + REQUESTS_AT_ONCE)
                pairs, of_P = _seen_pairs(log, ranks.rows_R[part], ranks.ends_R[part])
                counts_V1 -= np.bincount(pairs, chance_R[part][of_P], minlength=size)
                misses_V1 -= np.bincount(pairs, misses_R[part][of_P], minlength=size)
        counts_V1[0] = 0
        exposures.append(Exposure(counts_V1, -np.expm1(np.minimum(misses_V1, 0)), training))
    return of_exposures(log, cutoffs, exposures, linear_alone=True)


def _seen_pairs(log: PackedLog, rows_B: np.ndarray, ends_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items of each request's history, and the request (from 0) of each."""
    size = log.num_items + 1
    starts_B = np.asarray(log.offsets_U1)[rows_B]
    lengths_B = ends_B - starts_B
    keys_M = np.repeat(np.arange(len(rows_B)), lengths_B) * size + log.items_N[ragged_ranges(starts_B, lengths_B)]
    pairs = _distinct(keys_M)
    return pairs % size, pairs // size


def _distinct(keys_M: np.ndarray) -> np.ndarray:
    """The distinct keys, ascending: by one sort, which is faster than numpy's hashing of a million."""
    rising_M = np.sort(keys_M)
    kept: np.ndarray = rising_M[np.diff(rising_M, prepend=-1) != 0]
    return kept
