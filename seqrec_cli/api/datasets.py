"""A dataset from a frame: written once as a Parquet file, so that whatever is trained on it can be restored."""

import contextlib
import hashlib
import os
import secrets
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa

from seqrec_cli.api.frames import LABEL, collected, names_of, to_arrow
from seqrec_cli.api.overrides import as_overrides
from seqrec_cli.config.compose import compose, unchanged_hydra
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import PreprocessConfig
from seqrec_cli.config.validate import dump, validate
from seqrec_cli.data.column_guess import unnamed_time
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.times import TimeUnit
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.saying import silent

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    Frame: TypeAlias = pd.DataFrame | pl.DataFrame | pl.LazyFrame | pa.Table

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
    notes: tuple[str, ...]  # what was understood of the frames
    data_dir: str = field(repr=False)
    settings: dict[str, Any] = field(repr=False)  # of the group `dataset`
    protocol: dict[str, Any] = field(repr=False)  # of the group `protocol`


def dataset(
    frame: "Frame | None" = None,
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
    items: "Frame | None" = None,
    users: "Frame | None" = None,
    item_id: str | None = None,
    user_id: str | None = None,
    title: str | None = None,
    train: "Frame | None" = None,
    valid: "Frame | None" = None,
    test: "Frame | None" = None,
    split: str | None = None,
    name: str = "frame",
    min_rating: float | None = None,
    user_core: int | None = None,
    item_core: int | None = None,
    duplicates: Literal["error", "keep", "drop"] | None = None,
    missing: Literal["error", "keep", "drop"] | None = None,
    session: str | None = None,
    order: Sequence[str] = (),
    label: str | None = None,
    weight: str | None = None,
    split_leaks: bool | None = None,
    predict: Literal["items", "users"] | None = None,
    protocol: str | Mapping[str, Any] | None = None,
    data_dir: str | Path | None = None,
) -> Dataset:
    """A dataset from a frame of pandas, polars or Arrow: a row an event, or a row a user, whose events are lists.

    `user`, `item`, `time` and `rating` name its columns. Ids are text or whole numbers; times are datetimes, numbers
    since 1970, dates as 20190301 or ISO text (recognised, or as `time_unit` says), and without `time` the rows are in
    order. Attributes (of the item, of the user) and `context` (known when an event is predicted: a device, a city) are
    columns of categories; with `value_separator` a field may hold several, and a list does. Where the items of a row
    are a list, so may be its times, ratings and what else is of an event.

    `items` and `users` are frames with a row an item or user: the attributes (and `title`, the item's name in
    recommendations) are then their columns, and `item_id` and `user_id` their ids, where these are not called as in the
    log. A log that is split comes as `train`, `valid` and `test`, or with a column `split` of these words; `protocol=
    "given"` asks by it.

    What follows `name` are settings of the group `dataset` (`seqrec train dataset=csv --help` explains each); None
    leaves what is usual. `session` names the column that `protocol=sessions` may split by, `order` those that order
    events of equal time, `label` that of 0 and 1 (shown, and clicked; for `protocol="impressions"`), `weight` that of
    how much a training target counts. With `predict="users"` the log is turned around: each item is the sequence of its
    users, and its next user is predicted. `protocol` is one of `conf/protocol` by its name, or its settings with the
    name among them: `{"name": "global_time", "cut": 0.8}`; a run may ask the same data by another.

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
    own = (user, item, time, rating, session, label, weight, split, *order)
    named = [column for column in own if column is not None]
    if len(set(named)) < len(named):
        raise SeqrecError(
            f"{LABEL}: user, item, time, rating, session, order, label, weight and split are columns of their own, got "
            f"{', '.join(named)}"
        )
    titles = [] if title is None else [title]
    of_items, of_users = [*item_attributes, *titles], list(user_attributes)
    wanted = [*named, *context]
    wanted += [*(of_items if items is None else ()), *(of_users if users is None else ())]
    parts = {"train": collected(frame if train is None else train), "valid": valid, "test": test}
    if frame is not None and train is not None:
        raise SeqrecError(f"{LABEL}: give the log as the first argument or as train, not as both")
    table, split = _log(parts, wanted, split)
    tables = {"archive": table}
    settings: dict[str, Any] = {
        "name": name,
        "user_column": user,
        "item_column": item,
        "time_column": time,
        "rating_column": rating,
        "item_attribute_columns": list(item_attributes),
        "user_attribute_columns": list(user_attributes),
        "context_columns": list(context),
        "value_separator": value_separator,
        "title_column": title,
    }
    beside = (("item", items, item_id or item, of_items), ("user", users, user_id or user, of_users))
    for kind, given, ids, columns in beside:
        if given is not None:
            tables[f"{kind}_file"] = to_arrow(given, [ids, *columns], f"{kind}s")
            settings |= {f"{kind}_file": f"{kind}s", f"{kind}_file_id": ids}
    usual = {
        "time_unit": time_unit,
        "min_rating": min_rating,
        "user_core": user_core,
        "item_core": item_core,
        "duplicates": duplicates,
        "missing": missing,
        "session_column": session,
        "order_columns": list(order) or None,
        "label_column": label,
        "weight_column": weight,
        "split_column": split,
        "split_leaks": split_leaks,
        "predict": predict,
    }
    settings |= {key: value for key, value in usual.items() if value is not None}
    folders = {} if data_dir is None else {"data_dir": data_dir}
    asked = {} if protocol is None else {"protocol": {"name": protocol} if isinstance(protocol, str) else protocol}
    overrides = ["dataset=csv", *as_overrides({"dataset": settings, **asked, **folders})]
    with unchanged_hydra():
        record = validate("preprocess", compose("preprocess", overrides))
    assert isinstance(record, PreprocessConfig)
    if time is None and not order and (found := unnamed_time(names_of(parts["train"]), wanted)):
        said = f"{LABEL}: no time is named, so rows are taken in their order; time={found!r} orders them by that column"
        warnings.warn(said, stacklevel=2)
    return _built(tables, record)


def _log(parts: Mapping[str, Any], wanted: Sequence[str], split: str | None) -> tuple[pa.Table, str | None]:
    """The events of all parts, and the column that says which part they are of."""
    given = {name: part for name, part in parts.items() if part is not None}
    if "train" not in given:
        raise SeqrecError(f"{LABEL}: there is no log; give a frame of pandas or polars")
    if len(given) > 1 and split is not None:
        raise SeqrecError(f"{LABEL}: split={split} and {list(given)[1]} both say what is held out; give one")
    labels = {name: LABEL if len(given) == 1 else name for name in given}
    tables = {name: to_arrow(part, wanted, labels[name]) for name, part in given.items()}
    for name, table in tables.items():
        if not table.num_rows:
            raise SeqrecError(f"{labels[name]} has no rows")
    if len(tables) == 1:
        return tables["train"], split
    for name, table in tables.items():
        for column in table.schema:
            kind = tables["train"].schema.field(column.name).type
            if column.type != kind:
                raise SeqrecError(f"{name}: column {column.name} is of type {column.type}, and that of train {kind}")
    split = next(name for name in ("split", "split_", "split__") if name not in wanted)
    split_tables = [
        table.append_column(split, pa.repeat(pa.scalar(name), table.num_rows)) for name, table in tables.items()
    ]
    return pa.concat_tables(split_tables).combine_chunks(), split


def _built(tables: Mapping[str, pa.Table], record: PreprocessConfig) -> Dataset:
    """Write the tables and prepare the log. Frames that are refused leave no file behind."""
    written = {}
    labels = {"archive": LABEL, "item_file": "items", "user_file": "users"}
    names = {key: record.dataset.name if key == "archive" else f"{record.dataset.name}-{labels[key]}" for key in tables}
    folder = Path(record.data_dir).expanduser() / FOLDER
    log = None
    try:
        for key, table in tables.items():
            written[key] = _written(table, folder, names[key])
        settings = record.dataset.model_copy(update={key: str(path) for key, (path, _) in written.items()})
        log = prepare(settings, Path(record.data_dir), silent)
        log = with_view(log, record.protocol, silent)
    except SeqrecError as error:
        said = str(error)
        for key, (path, is_new) in written.items():
            said = said.replace(path.name, labels[key])
            if is_new:
                path.unlink(missing_ok=True)
        if log is not None and log.folder is not None and written["archive"][1]:
            shutil.rmtree(log.folder)
        raise SeqrecError(said) from None
    return Dataset(
        record.dataset.name,
        log.num_users,
        log.num_items,
        len(log.items_N),
        log.fingerprint,
        written["archive"][0],
        tuple(log.manifest["notes"]),
        record.data_dir,
        dump(settings),
        dump(record.protocol),
    )


def _written(table: pa.Table, folder: Path, name: str) -> tuple[Path, bool]:
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
