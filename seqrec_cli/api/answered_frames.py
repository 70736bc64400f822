"""Frames of requests in, frames of answers out: what `seqrec recommend input=` does with files."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from seqrec_cli.api.frames import names_of, to_arrow
from seqrec_cli.api.requests import Asked
from seqrec_cli.commands.recommend import recommending_of, rows_at_once, wanted_of
from seqrec_cli.commands.restore import Restored
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import RecommendConfig
from seqrec_cli.config.unused import refuse_unused
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.data.context import logged_context
from seqrec_cli.data.request_files import check_columns, in_plain_columns
from seqrec_cli.serving.answered_rows import AnsweredRows, Counts, Form
from seqrec_cli.serving.because import refuse_without_attention
from seqrec_cli.serving.request_rows import surveyed

if TYPE_CHECKING:
    import pandas as pd

LABEL = "frame"


def long_frame(
    asked: Asked, found: tuple[np.ndarray, np.ndarray, np.ndarray], ids: np.ndarray, *, titles: Sequence[str] | None
) -> "pd.DataFrame":
    """Lists as `Recommending.best` finds them (rows, items, scores), a row for each item; `ids` are the items' raw
    ids."""
    import pandas as pd

    rows_N, items_N, scores_N = found
    firsts_R = np.searchsorted(rows_N, np.arange(len(asked.labels_R)))
    columns = {
        asked.kind: asked.labels_R[rows_N],
        "rank": np.arange(len(rows_N)) - firsts_R[rows_N] + 1,
        "item": ids[items_N - 1],
        **({} if titles is None else {"title": [titles[item - 1] for item in items_N.tolist()]}),
        "score": scores_N,
    }
    return pd.DataFrame(columns).infer_objects()


def recommended_frame(run: Restored, frame: Any, settings: Mapping[str, Any]) -> "pd.DataFrame":
    """The answers to a frame's rows. Raises SeqrecError for columns or values of no use, and as the verb does."""
    if not hasattr(frame, "columns"):
        raise SeqrecError(
            f"recommend_frame: a {type(frame).__name__} is no frame; give one with a column user or history"
        )
    cfg = _record(settings)
    recommending = recommending_of(run, None, cfg.length, setting="length")
    wanted = wanted_of(recommending, cfg, lambda line: warnings.warn(line, UserWarning, stacklevel=5))
    if cfg.explain:
        refuse_without_attention(recommending)
    names = check_columns(names_of(frame), logged_context(run.log), LABEL)
    table = to_arrow(frame, names, LABEL)

    def chunks() -> Any:
        for first in range(0, len(table), cfg.chunk):
            part = table.slice(first, cfg.chunk)
            yield in_plain_columns(part, names, cfg.sequence_separator, label=LABEL, first=first)

    found = surveyed(chunks(), recommending, label=LABEL)
    form = Form(found.users, found.whole_users, cfg.explain)
    answering = AnsweredRows(recommending, wanted, form, rows_at_once=rows_at_once(run))
    tables, counts = [], Counts()
    for chunk in chunks():
        answers, came = answering.of(chunk, first=counts.rows, label=LABEL)
        tables.append(answers)
        counts += came
    if counts.unknown_items:
        line = (
            f"{counts.unknown_items:,} of {counts.events:,} events are left out, for the data do not have their items"
        )
        warnings.warn(line, UserWarning, stacklevel=3)
    return pa.concat_tables(tables).to_pandas(integer_object_nulls=True)


def _record(settings: Mapping[str, Any]) -> RecommendConfig:
    """The settings of the verb, checked as on its command line; what is not given is as `conf/` has it."""
    from omegaconf import OmegaConf

    given = {name: _plain(value) for name, value in settings.items() if value is not None}
    plain = OmegaConf.to_container(compose("recommend", ["ckpt=frame"]), resolve=True)
    assert isinstance(plain, dict)
    record = validate_plain("recommend", {**plain, **given})
    assert isinstance(record, RecommendConfig)
    refuse_unused(record, [f"{name}={given[name]}" for name in ("mmr_pool", "mmr_by") if name in given])
    return record


def _plain(value: Any) -> Any:
    """Arrays, series and NumPy's numbers as Python's own."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(value, method):
            return getattr(value, method)()
    return [_plain(each) for each in value] if isinstance(value, tuple | list | set) else value
