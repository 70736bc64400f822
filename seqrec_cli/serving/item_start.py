"""What a service that takes changes of its items begins with: the journal, and estimators that are measured.

Legend: V items, Y = D or D + 1 (width and bias), R validation requests, M their seen events, W width of text vectors.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.context import contexts
from seqrec_cli.data.histories import Histories, logged_histories
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.item_vectors import item_vectors_of, vectors_file
from seqrec_cli.data.splits import subsample, training_counts, view_of
from seqrec_cli.data.vocabulary import vocabulary
from seqrec_cli.serving.attribute_values import AttributeValues
from seqrec_cli.serving.item_estimates import AttributeFeatures, Estimator, Quality, TextFeatures
from seqrec_cli.serving.item_index import ItemIndex, table_of
from seqrec_cli.serving.item_journal import ItemJournal
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.text_estimates import AdaptedTexts

SETTING = "item_vectors"
MEASURED = 1_000  # validation requests


def open_items(
    recommending: Recommending, state: str | None, *, dataset: str, item_vectors: str | None, most: int, compact_at: int
) -> ItemIndex:
    """The items as the journal has them; without `state`, as they were trained. Raises SeqrecError where the model has
    no vectors of items, or a file cannot be read."""
    table_VD, bias_V = table_of(recommending, "state" if state is not None else "index")
    if state is None:
        return ItemIndex(recommending, None, {}, qualities={}, most=0)
    journal = ItemJournal(Path(state).expanduser(), dataset, compact_at)
    table_VY = (table_VD if bias_V is None else torch.cat([table_VD, bias_V[:, None]], dim=1)).cpu().numpy()
    estimators = _estimators(recommending, table_VY, item_vectors, width=table_VD.shape[1])
    qualities = _qualities(recommending, estimators, table_VY)
    found = ItemIndex(recommending, journal, estimators, qualities=qualities, most=most)
    found.now()
    if found.damage is not None:
        raise SeqrecError(f"state={state}: {found.damage}")
    journal.compact_if_due()
    return found


def _estimators(
    recommending: Recommending, table_VY: np.ndarray, item_vectors: str | None, *, width: int
) -> dict[str, Estimator | AdaptedTexts]:
    log = recommending.log
    known_V = training_counts(log) > 0
    if recommending.left_out is not None:
        known_V[recommending.left_out.cpu().numpy()] = False
    found: dict[str, Estimator | AdaptedTexts] = {}
    values, vectors_VW = AttributeValues(log, "item"), _text_vectors(log, item_vectors)
    if values.names:
        found["attributes"] = Estimator(AttributeFeatures(values), table_VY, known_V, width=width)
    if vectors_VW is not None:
        text_V = known_V & ~np.isnan(vectors_VW[:, 0])
        adapted = AdaptedTexts.of(recommending.model, vectors_VW, table_VY, known_V=text_V)
        own = adapted if item_vectors is None else None  # another file's vectors are not those the model reads
        found["text_vector"] = own or Estimator(TextFeatures(vectors_VW), table_VY, text_V, width=width)
    return found


def _text_vectors(log: PackedLog, given: str | None) -> np.ndarray | None:
    """Of the file, or else those the data were prepared with (dataset.item_vectors), float32 [V + 1, W]; NaN: none."""
    path = vectors_file(given, SETTING)
    if path is None:
        return log.catalog.item_vectors
    assert log.folder is not None
    vectors_VW, _ = item_vectors_of(vocabulary(log.folder, "items"), path, SETTING)
    return vectors_VW


def _qualities(
    recommending: Recommending, estimators: dict[str, Estimator | AdaptedTexts], table_VY: np.ndarray
) -> dict[str, Quality]:
    """On validation requests, whose test counterparts stay sealed."""
    log = recommending.log
    targets = subsample(view_of(log).val, MEASURED)
    if not estimators or not len(targets.rows_R):
        return {kind: Quality(len(each.items_N), each.r2) for kind, each in estimators.items()}
    asked = _until(logged_histories(log, targets.rows_R), log, targets.rows_R, ends_R=targets.ends_R)
    some = np.flatnonzero(asked.ends_R > asked.starts_R)
    queries_RY = recommending.encode(_at(asked, some), 64)
    if table_VY.shape[1] > queries_RY.shape[1]:
        queries_RY = np.concatenate([queries_RY, np.ones_like(queries_RY[:, :1])], axis=1)
    targets_R = np.asarray(log.items_N[targets.positions_T[targets.offsets_R1[:-1]]], np.int64)[some]
    seen = asked.seen(some)
    return {kind: each.quality(queries_RY, targets_R, seen, table_VY=table_VY) for kind, each in estimators.items()}


def _until(asked: Histories, log: PackedLog, rows_R: np.ndarray, *, ends_R: np.ndarray) -> Histories:
    """Whole logged histories as they were at these positions of the log."""
    return replace(
        asked,
        ends_R=asked.starts_R + (ends_R - np.asarray(log.offsets_U1)[rows_R]),
        asked_at_R=None if log.times_N is None else log.times_N[ends_R],
        context_RF=contexts(log, np.asarray(ends_R)),
    )


def _at(asked: Histories, which_R: np.ndarray) -> Histories:
    columns = ("users_R", "starts_R", "ends_R", "asked_at_R", "context_RF")
    present = {name: values[which_R] for name in columns if (values := getattr(asked, name)) is not None}
    return replace(asked, **present)
