"""Which items may be recommended: those of a list, all but those of a list, those with a value of an attribute.

Legend: V items (V + 1 entries, 0 is padding).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from seqrec_cli.config.errors import SeqrecError, first_line
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import RawId


@dataclass(frozen=True)
class Filters:
    """An item has to pass all of them. What the history holds is another matter (`repeats`)."""

    allow: Sequence[RawId] | None = None  # raw ids; None: every item
    deny: Sequence[RawId] = ()
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of each attribute, one of these values


def filters_of(allow: Sequence[RawId] | None, deny: Sequence[RawId] | None, where: Mapping[str, Any] | None) -> Filters:
    """As settings and requests have them: a value of an attribute, or several; None for no filter."""
    texts = {
        name: [_text(each) for each in (values if isinstance(values, list | tuple) else [values])]
        for name, values in (where or {}).items()
    }
    return Filters(allow, deny or (), texts)


def _text(value: object) -> str:
    """As the data's readers write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def hidden_items(recommending: Recommending, filters: Filters) -> tuple[np.ndarray | None, list[RawId]]:
    """True at the items that are left out, bool [V + 1], or None for none; and the listed ids that the data lack.

    Raises SeqrecError for an unknown attribute or value, and where a list of allowed items has none of the data's.
    """
    if filters.allow is None and not filters.deny and not filters.where:
        return None, []
    hidden_V1 = np.zeros(recommending.columns, bool)
    unknown = list[RawId]()
    if filters.allow is not None:
        items, unknown = recommending.known_indices(filters.allow)
        if not len(items):
            what = f"none of its {len(unknown):,} items is in the data" if unknown else "it is empty"
            raise SeqrecError(f"allow: {what} (ids such as {recommending.items[0]}, {recommending.items[-1]})")
        hidden_V1 |= _all_but(items, hidden_V1)
    for name, texts in filters.where.items():
        if not texts:
            raise SeqrecError(f"where.{name}: give one value or more")
        hidden_V1 |= _all_but(recommending.with_any(name, texts), hidden_V1)
    if filters.deny:
        items, absent = recommending.known_indices(filters.deny)
        hidden_V1[items] = True
        unknown = [*unknown, *absent]
    return hidden_V1, unknown


def _all_but(items: np.ndarray, like_V1: np.ndarray) -> np.ndarray:
    others_V1 = np.ones_like(like_V1)
    others_V1[items] = False
    return others_V1


def listed_items(given: Sequence[RawId] | str | None, setting: str) -> Sequence[RawId] | None:
    """Raw ids as they are, or of a file that has one a line, or a column `item` (CSV, Parquet).

    Raises SeqrecError where there is no such file, or nothing in it.
    """
    if given is None or not isinstance(given, str):
        return given
    path = Path(given).expanduser()
    if not path.is_file():
        raise SeqrecError(f"{setting}={given}: no such file; give ids as '[1,2,3]', or a file of them")
    try:
        if path.suffix.lower() in (".parquet", ".csv"):
            table = pq.read_table(path) if path.suffix.lower() == ".parquet" else _texts_of_csv(path)
            if "item" not in table.column_names:
                raise SeqrecError(f"{setting}={given}: no column 'item' in it (have: {', '.join(table.column_names)})")
            found = [str(each) for each in table["item"].to_pylist() if each is not None]
        else:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            found = [line.strip() for line in lines if line.strip()]
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise SeqrecError(f"{setting}={given}: not a readable file of ids ({first_line(error)})") from None
    if not found:
        raise SeqrecError(f"{setting}={given}: it holds no ids")
    return found


def _texts_of_csv(path: Path) -> pa.Table:
    """Its columns as text, so that no id is taken for a number or a date."""
    names = pacsv.open_csv(path).schema.names
    options = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
    return pacsv.read_csv(path, convert_options=options)
