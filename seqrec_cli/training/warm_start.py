"""Weights of a trained model in a model of the same settings for a later log: what both know keeps its vector.

Which axis of which parameter counts items, users or the values of an attribute is found by building the model without
storage for catalogs of one more of each. Rows of the later log that the earlier one lacks begin as the mean of the
known rows that share their attributes' values, or of all known rows.

Legend: R rows of an axis in the later model, K rows of it in the earlier one, A values of an attribute, V items.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import ModelConfig
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.models.build import model_of
from seqrec_cli.models.contract import Recommender
from seqrec_cli.models.layers.embedding import CATALOG_BUFFERS

KINDS = ("item_attributes", "user_attributes", "context_attributes")
TEXTS_ALIKE = 1e-3  # numbers of vectors of length 1
Source = tuple[str, str]  # ("items", ""), ("users", "") or (kind of attribute, its name)


@dataclass(frozen=True)
class Matched:
    """Where the later log's items, users and attribute values were in the earlier one: its index, 0 if it had none."""

    earlier: Catalog
    items_V1: np.ndarray
    users_U1: np.ndarray
    values: dict[Source, np.ndarray]  # by kind and name, from value 0

    def of(self, source: Source) -> np.ndarray:
        """The earlier index of each later one."""
        return {("items", ""): self.items_V1, ("users", ""): self.users_U1, **self.values}[source]

    @property
    def known_items(self) -> int:
        return int((self.items_V1 > 0).sum())

    @property
    def known_users(self) -> int:
        return int((self.users_U1 > 0).sum())


def matching(later: np.ndarray | list[str], earlier: np.ndarray | list[str]) -> np.ndarray:
    """For index 0 (none) and each later id, the earlier index from 1, or 0: int64 [later + 1]."""
    index = {str(raw): nth for nth, raw in enumerate(list(earlier), 1)}
    return np.array([0, *(index.get(str(raw), 0) for raw in list(later))], np.int64)


def counted_axes(cfg: ModelConfig, catalog: Catalog) -> dict[str, dict[int, list[Source]]]:
    """For each parameter, the axes whose size depends on the catalog, and on what of it."""
    facts = catalog.facts()
    usual = _shapes(cfg, facts)
    found: dict[str, dict[int, list[Source]]] = {name: {} for name in usual}
    for source, more in _probes(facts):
        for name, shape in _shapes(cfg, more).items():
            for axis, size in enumerate(shape):
                if size != usual[name][axis]:
                    found[name].setdefault(axis, []).append(source)
    return found


def _probes(facts: dict[str, Any]) -> list[tuple[Source, dict[str, Any]]]:
    """Facts with one more of each thing that is counted."""
    probes: list[tuple[Source, dict[str, Any]]] = []
    for name, source in (("num_items", ("items", "")), ("num_users", ("users", ""))):
        probes.append((source, facts | {name: facts[name] + 1}))
    for kind in KINDS:
        for nth, (name, *_) in enumerate(facts[kind]):
            more = copy.deepcopy(facts)
            more[kind][nth][1] += 1
            probes.append(((kind, name), more))
    return probes


def _shapes(cfg: ModelConfig, facts: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = model_of(cfg, Catalog.blank(facts))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@torch.no_grad()
def start_from(
    model: Recommender, earlier: Recommender, cfg: ModelConfig, *, catalog: Catalog, matched: Matched
) -> None:
    """Give `model`, of the later `catalog`, the weights of `earlier`, which has the same settings.

    Tables that are read by hashes of indices (Wide & Deep's wide part) begin anew, for the indices are others now.
    Raises SeqrecError for a model in closed form, which has none, and for settings that do not fit.
    """
    if not model.trainable_models():
        raise SeqrecError(
            f"start_from: model={cfg.name} is fitted in closed form and has no weights to begin with; leave it out"
        )
    _refuse_other_texts(cfg, catalog, matched)
    axes, weights = counted_axes(cfg, catalog), dict(earlier.named_parameters())
    counted = {name for name, _ in model.named_parameters() if axes[name]}
    for name, parameter in model.named_parameters():
        if name in model.hashed_tables:
            continue
        found = weights[name].to(parameter.device)
        for axis, sources in axes[name].items():
            found = _moved(found, axis, parameter.shape[axis], sources=sources, catalog=catalog, matched=matched)
        if found.shape != parameter.shape:
            raise SeqrecError(f"start_from: {name} has other sizes than the run's; leave model.* settings out")
        parameter.copy_(found)
    buffers = dict(earlier.named_buffers())
    for name, buffer in model.named_buffers():  # running statistics; what belongs to the catalog is the later one's
        known_of_rows = name.rpartition(".")[2] in CATALOG_BUFFERS
        if (
            name not in counted
            and not known_of_rows
            and buffer.is_floating_point()
            and buffers[name].shape == buffer.shape
        ):
            buffer.copy_(buffers[name])
    model.carry_over(earlier, matched.items_V1, _in_earlier_values(catalog, matched))


def _in_earlier_values(catalog: Catalog, matched: Matched) -> Catalog:
    """The later catalog with its items' attributes by the earlier one's values, 0 for those that it lacks."""
    values = {
        name: matched.values["item_attributes", name][values_VW] for name, values_VW in catalog.item_values.items()
    }
    return replace(catalog, item_attributes=matched.earlier.item_attributes, item_values=values)


def _refuse_other_texts(cfg: ModelConfig, catalog: Catalog, matched: Matched) -> None:
    """An adaptor reads the vectors that it was trained with, and TF-IDF's (or principal components) are fitted to a
    log's own items. Raises SeqrecError where known items have others now."""
    each = (cfg, *getattr(cfg, "members", {}).values())
    ours_VW, theirs_VW = catalog.item_vectors, matched.earlier.item_vectors
    if ours_VW is None or theirs_VW is None or all(getattr(model, "items", "ids") == "ids" for model in each):
        return
    known_V = matched.items_V1 > 0
    ours, theirs = ours_VW[known_V], theirs_VW[matched.items_V1[known_V]]
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, atol=TEXTS_ALIKE, equal_nan=True):
        raise SeqrecError(
            "the items' text vectors are others than those that the run's model.items was trained with (TF-IDF and its "
            "SVD are fitted to a log's own items); prepare both logs with one dataset.item_vectors=FILE, or with a "
            "model of sentence-transformers at its own width"
        )


def _moved(
    weights: Tensor, axis: int, size: int, *, sources: list[Source], catalog: Catalog, matched: Matched
) -> Tensor:
    """The weights with the later log's rows on this axis."""
    weights_KD = weights.movedim(axis, 0)
    if len(sources) == 1:
        rows_R = matched.of(sources[0])
        extra = size - len(rows_R)  # rows behind those that are counted: any unknown one
        rows_R = np.concatenate([rows_R, np.arange(len(weights_KD) - extra, len(weights_KD))])
        alike = _alike(sources[0], catalog)
    elif all(kind == "context_attributes" for kind, _ in sources):
        rows_R, alike = _context_rows(sources, catalog, matched), None
    else:
        raise SeqrecError(f"start_from: a table of {', '.join(map(str, sources))} together cannot be carried over")
    index = torch.from_numpy(rows_R).to(weights.device)
    moved_RD = weights_KD[index].clone()
    new_R = index == 0
    new_R[0] = False
    if new_R.any():
        moved_RD[new_R] = _begun(moved_RD, new_R, alike)[new_R]
    return moved_RD.movedim(0, axis)


def _begun(moved_RD: Tensor, new_R: Tensor, alike: list[np.ndarray] | None) -> Tensor:
    """What new rows begin with: the mean of the known rows with the same attribute values, else of all known rows."""
    known_R = ~new_R
    known_R[0] = False
    flat_RD = moved_RD.reshape(len(moved_RD), -1)
    mean_D = flat_RD[known_R].mean(0) if known_R.any() else flat_RD.new_zeros(flat_RD.shape[1])
    sums_RD, counts_R = torch.zeros_like(flat_RD), flat_RD.new_zeros(len(flat_RD))
    for values_RW in alike or ():
        values = torch.from_numpy(np.asarray(values_RW, np.int64)).to(flat_RD.device)
        means_AD, present_A = _means_by_value(flat_RD, known_R, values)
        told = present_A[values] & (values > 0)
        sums_RD[: len(values)] += torch.einsum("rwd,rw->rd", means_AD[values], told.to(means_AD.dtype))
        counts_R[: len(values)] += told.sum(1)
    begun_RD = torch.where(counts_R[:, None] > 0, sums_RD / counts_R[:, None].clamp(min=1), mean_D)
    return begun_RD.view_as(moved_RD)


def _means_by_value(flat_RD: Tensor, known_R: Tensor, values_RW: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of known rows with each value, [A, D], and whether there are any."""
    size = int(values_RW.max()) + 1
    sums_AD, counts_A = flat_RD.new_zeros(size, flat_RD.shape[1]), flat_RD.new_zeros(size)
    rows = torch.nonzero(known_R[: len(values_RW)])[:, 0]
    for values_N in values_RW[rows].T:
        sums_AD.index_add_(0, values_N, flat_RD[rows])
        counts_A.index_add_(0, values_N, torch.ones_like(values_N, dtype=counts_A.dtype))
    return sums_AD / counts_A.clamp(min=1)[:, None], counts_A > 0


def _alike(source: Source, catalog: Catalog) -> list[np.ndarray] | None:
    values: Callable[[], dict[str, np.ndarray]] | None = {
        "items": lambda: catalog.item_values,
        "users": lambda: catalog.user_values,
    }.get(source[0])
    return None if values is None else list(values().values())


def _context_rows(sources: list[Source], catalog: Catalog, matched: Matched) -> np.ndarray:
    """The one table of all context attributes: row 0, and each one's values from its first row on."""
    rows, first = [np.zeros(1, np.int64)], 0
    for attribute, before in zip(catalog.context_attributes, matched.earlier.context_attributes, strict=True):
        values = matched.values["context_attributes", attribute.name][1:]  # they share the row of none
        rows.append(np.where(values > 0, values + first, 0))
        first += before.size - 1
    return np.concatenate(rows)
