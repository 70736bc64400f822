"""A dataset from a frame: written once as a Parquet file, so that whatever is trained on it can be restored."""

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seqrec_cli.api.frames import LABEL, to_arrow
from seqrec_cli.api.overrides import as_overrides
from seqrec_cli.api.process_state import silent
from seqrec_cli.config.compose import compose, unchanged_hydra
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import PreprocessConfig
from seqrec_cli.config.validate import dump, validate
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.times import TimeUnit
from seqrec_cli.protocols.view.build import with_view

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

FOLDER = "frames"  # under data_dir
DIGITS = 12  # of the file's SHA-256 in its name


@dataclass(frozen=True)
class Dataset:
    """Events that were given as a frame: filtered, encoded and split, ready for `train(dataset=...)`."""

    name: str
    num_users: int
    num_items: int
    num_events: int
    fingerprint: str  # of the frame's values and of the settings
    path: Path  # the Parquet file that holds the frame's columns
    data_dir: str = field(repr=False)
    settings: dict[str, Any] = field(repr=False)  # of the group `dataset`
    protocol: dict[str, Any] = field(repr=False)  # of the group `protocol`


def dataset(
    frame: "pd.DataFrame | pl.DataFrame | pl.LazyFrame | pa.Table",
    *,
    user: str = "user",
    item: str = "item",
    time: str | None = None,
    time_unit: TimeUnit | None = None,
    rating: str | None = None,
    item_attributes: Sequence[str] = (),
    user_attributes: Sequence[str] = (),
    context: Sequence[str] = (),
    value_separator: str | None = None,
    name: str = "frame",
    min_rating: float | None = None,
    user_core: int | None = None,
    item_core: int | None = None,
    duplicates: Literal["error", "keep", "drop"] | None = None,
    session: str | None = None,
    order: Sequence[str] = (),
    label: str | None = None,
    weight: str | None = None,
    protocol: str | Mapping[str, Any] | None = None,
    data_dir: str | Path | None = None,
) -> Dataset:
    """A dataset from a frame of pandas or polars that has a row an event.

    `user`, `item`, `time` and `rating` name its columns. Ids are text or whole numbers; times are datetimes, numbers
    since 1970, dates as 20190301 or ISO text (recognised, or as `time_unit` says), and without `time` the rows are in
    order. Attributes (of the item, of the user) and `context` (known when an event is predicted: a device, a city) are
    columns of categories; with `value_separator` a field may hold several. What follows `name` are settings of the
    group `dataset` (`seqrec train dataset=csv --help` explains each); None leaves what is usual. `session` names the
    column that `protocol=sessions` may split by, `order` those that order events of equal time, `label` that of 0 and 1
    (shown, and clicked; for `protocol="impressions"`), `weight` that of how much a training target counts. `protocol`
    is one of `conf/protocol` by its name, or its settings with the name among them: `{"name": "global_time", "cut":
    0.8}`; a run may ask the same data by another.

    The columns that are named are written to `<data_dir>/frames/<name>-<hash>.parquet`. Runs on it name that file, so
    `load` and the command line find the data again; keep it as long as the runs.

    Raises SeqrecError in one line: a column that is not there, ids that are empty or of mixed kinds, repeated rows, too
    few events to hold any out.

    Examples:
        >>> import pandas as pd
        >>> log = pd.DataFrame({"user": ["ann"] * 4 + ["bob"] * 4, "item": [1, 2, 3, 4, 2, 3, 4, 5]})
        >>> data = seqrec_cli.dataset(log, name="tiny", protocol={"name": "leave_last", "click_negatives": 1})
        >>> data.num_users, data.num_items, data.num_events
        (2, 5, 8)
    """
    named = [column for column in (user, item, time, rating, session, label, weight, *order) if column is not None]
    if len(set(named)) < len(named):
        raise SeqrecError(
            f"{LABEL}: user, item, time, rating, session, order, label and weight are columns of their own, got "
            f"{', '.join(named)}"
        )
    table = to_arrow(frame, [*named, *item_attributes, *user_attributes, *context])
    if not table.num_rows:
        raise SeqrecError(f"{LABEL} has no rows")
    given = {
        "name": name,
        "user_column": user,
        "item_column": item,
        "time_column": time,
        "rating_column": rating,
        "item_attribute_columns": list(item_attributes),
        "user_attribute_columns": list(user_attributes),
        "context_columns": list(context),
        "value_separator": value_separator,
    }
    usual = {
        "time_unit": time_unit,
        "min_rating": min_rating,
        "user_core": user_core,
        "item_core": item_core,
        "duplicates": duplicates,
        "session_column": session,
        "order_columns": list(order) or None,
        "label_column": label,
        "weight_column": weight,
    }
    settings = given | {key: value for key, value in usual.items() if value is not None}
    folders = {} if data_dir is None else {"data_dir": data_dir}
    asked = {} if protocol is None else {"protocol": {"name": protocol} if isinstance(protocol, str) else protocol}
    overrides = ["dataset=csv", *as_overrides({"dataset": settings, **asked, **folders})]
    with unchanged_hydra():
        record = validate("preprocess", compose("preprocess", overrides))
    assert isinstance(record, PreprocessConfig)
    return _built(table, record)


def _built(table: "pa.Table", record: PreprocessConfig) -> Dataset:
    """Write the table and prepare it. A frame that is refused leaves no file behind."""
    path, is_new = _written(table, Path(record.data_dir).expanduser() / FOLDER, record.dataset.name)
    settings = record.dataset.model_copy(update={"archive": str(path)})
    log = None
    try:
        log = prepare(settings, Path(record.data_dir), silent)
        log = with_view(log, record.protocol, silent)
    except SeqrecError as error:
        if is_new:
            path.unlink(missing_ok=True)
            if log is not None and log.folder is not None:
                shutil.rmtree(log.folder)
        raise SeqrecError(str(error).replace(path.name, LABEL)) from None
    return Dataset(
        record.dataset.name,
        log.num_users,
        log.num_items,
        len(log.items_N),
        log.fingerprint,
        path,
        record.data_dir,
        dump(settings),
        dump(record.protocol),
    )


def _written(table: "pa.Table", folder: Path, name: str) -> tuple[Path, bool]:
    """The table's file, named by its bytes, and whether it was not there before."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        pq.write_table(table, temporary)
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path = (folder / f"{name}-{digest[:DIGITS]}.parquet").resolve()
        if path.exists():
            return path, False
        temporary.rename(path)
        return path, True
    except OSError as error:
        raise SeqrecError(f"cannot write to {folder}: {error.strerror or error}; see data_dir") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
