"""Frames of requests in, frames of answers out: what `seqrec recommend input=` does with files."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pyarrow as pa

from seqrec_cli.api.frames import names_of, to_arrow
from seqrec_cli.commands.recommend import recommending_of, rows_at_once, wanted_of
from seqrec_cli.commands.restore import Restored
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import RecommendConfig
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.data.context import logged_context
from seqrec_cli.data.request_files import check_columns, in_plain_columns
from seqrec_cli.serving.answered_rows import AnsweredRows, Counts, Form
from seqrec_cli.serving.because import refuse_without_attention
from seqrec_cli.serving.request_rows import surveyed

if TYPE_CHECKING:
    import pandas as pd

LABEL = "frame"


class ListSettings(TypedDict, total=False):
    """Which items lists may hold and how they differ, as the settings of `seqrec recommend`."""

    length: int | None
    allow: Sequence[str | int] | str | None
    deny: Sequence[str | int] | str | None
    where: Mapping[str, Any] | None
    mmr: float | None
    mmr_pool: int
    mmr_by: str | None


def recommended_frame(run: Restored, frame: Any, settings: Mapping[str, Any]) -> "pd.DataFrame":
    """The answers to a frame's rows. Raises SeqrecError for columns or values of no use, and as the verb does."""
    cfg = _record(settings)
    recommending = recommending_of(run, None, cfg.length, setting="length")
    wanted = wanted_of(recommending, cfg)
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

    known = {*ListSettings.__annotations__, "top", "repeats", "explain"}
    for name in settings:
        if name not in known:
            raise SeqrecError(f"recommend_frame: no setting '{name}' (have: {', '.join(sorted(known))})")
    plain = OmegaConf.to_container(compose("recommend", ["ckpt=frame"]), resolve=True)
    assert isinstance(plain, dict)
    record = validate_plain("recommend", {**plain, **{name: _plain(value) for name, value in settings.items()}})
    assert isinstance(record, RecommendConfig)
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
