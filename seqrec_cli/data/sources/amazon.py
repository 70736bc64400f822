"""Amazon reviews by category, the publisher's files: reviews, and metadata of the items.

2014 (McAuley et al., SIGIR 2015; metadata lines are Python literals), 2018 (Ni et al., EMNLP 2019) and 2023 (Hou et
al., arXiv 2403.03952), both JSON lines. A file whose name begins with `meta` is the metadata, the other one the
reviews; a folder or a zip archive may hold both. Without metadata the items have no attributes.

Metadata repeats items: each attribute is that of the item's first line that has a value. Reviews repeat pairs of user
and item: at one time they are duplicates (`dataset.duplicates`), at another they are events of their own.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.archive import RawFiles
from seqrec_cli.data.arrow import one_array, to_numpy
from seqrec_cli.data.filters import repeats
from seqrec_cli.data.json_lines import read_lines
from seqrec_cli.data.raw import AttributeTable, RawLog
from seqrec_cli.data.vocabulary import factorize

LINES = re.compile(r"\.jsonl?(\.gz)?$")
PATH_KINDS = ("category", "path", "main_category")  # read off the categories
MARKUP = re.compile(r"<\w|</")


class Config(DatasetConfig):
    """Which category of which edition, and what of the metadata becomes an item attribute."""

    several_files: ClassVar[bool] = True
    not_in_fingerprint: ClassVar[frozenset[str]] = DatasetConfig.not_in_fingerprint | {"publisher"}

    category: str = Field(pattern=r"^\w+$", description="the category as its files are called, as in Electronics")
    edition: Literal[2014, 2018, 2023] = Field(description="the year of publication, which decides the files' form")
    publisher: dict[str, tuple[str, ...]] = Field(
        description="addresses of each edition's reviews and metadata, with {category} for the category"
    )
    attributes: tuple[Literal["category", "path", "main_category", "brand"], ...] = Field(
        description="item attributes: category (the last of the item's path), path (all of it, each level a value), "
        "main_category, brand (2023: the store)",
    )

    @model_validator(mode="after")
    def _two_files(self) -> Self:
        for name in ("url", "checksum"):
            if getattr(self, name) is not None:
                raise ValueError(f"dataset.{name} is of one file and this dataset has two; see dataset.publisher")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(url.format(category=self.category) for url in self.publisher[str(self.edition)])


class Form(NamedTuple):
    """How an edition names things."""

    user: str
    item: str
    rating: str
    time: str
    ticks: int  # a second
    path: str  # of the metadata: the item's categories
    path_type: pa.DataType
    main: str | None
    brand: str


_TEXTS, _PATHS = pa.list_(pa.string()), pa.list_(pa.list_(pa.string()))
_OLD = ("reviewerID", "asin", "overall", "unixReviewTime", 1)
FORMS = {
    2014: Form(*_OLD, "categories", _PATHS, None, "brand"),
    2018: Form(*_OLD, "category", _TEXTS, "main_cat", "brand"),
    2023: Form("user_id", "parent_asin", "rating", "timestamp", 1000, "categories", _TEXTS, "main_category", "store"),
}


def read(cfg: Config, path: Path) -> RawLog:
    """Reviews in the order of their file, with the attributes of the items they name."""
    files, form = RawFiles(path), FORMS[cfg.edition]
    reviews, metadata = _pick(files, cfg)
    users_N, items_N, ratings_N, times_N = _reviews(files, reviews, form, edition=cfg.edition)
    _, user_codes_N = factorize(users_N)
    distinct, item_codes_N = factorize(items_N)
    pairs = int(repeats(user_codes_N, item_codes_N, None).sum())
    same = int(repeats(user_codes_N, item_codes_N, times_N).sum())
    notes = [f"{pairs} reviews repeat an earlier pair of user and item, {same} of them at the same time"] * bool(pairs)
    tables: dict[str, AttributeTable] = {}
    if metadata is None:
        notes.append("no metadata file: items have no attributes")
    else:
        tables = _metadata(files, metadata, form, items=set(distinct.tolist()), notes=notes)
    return RawLog(
        users_N,
        items_N,
        times_N,
        ratings_N,
        item_attributes={name: tables[name] for name in cfg.attributes if name in tables},
        notes=tuple(notes),
        ticks_per_second=form.ticks,
        titles=tables.get("title"),
    )


def _pick(files: RawFiles, cfg: Config) -> tuple[str, str | None]:
    """The names of the reviews and of the metadata."""
    if len(files.names) == 1:
        return files.names[0], None
    lines = [name for name in files.names if LINES.search(name)]
    metadata = [name for name in lines if name.startswith("meta")]
    reviews = [name for name in lines if name not in metadata]
    for kind, found in (("reviews", reviews), ("metadata", metadata)):
        if len(found) > 1:  # several categories in one folder
            found[:] = [name for name in found if re.search(rf"(^|_){cfg.category}(_5)?\.json", name)]
        if len(found) > 1 or (kind == "reviews" and not found):
            raise SeqrecError(
                f"{files.path} holds {len(found)} files that may be the {kind} of {cfg.category} ({', '.join(found)}"
                f"{'' if found else 'of ' + ', '.join(files.names[:5])}); it should hold one"
            )
    return reviews[0], metadata[0] if metadata else None


def _reviews(files: RawFiles, name: str, form: Form, *, edition: int) -> tuple[np.ndarray, ...]:
    """Users, items, ratings and times of all reviews."""
    types = {form.user: pa.string(), form.item: pa.string(), form.rating: pa.float64(), form.time: pa.int64()}
    with files.open(name) as file:
        table = pa.concat_tables([pa.schema(types).empty_table(), *read_lines(file, name, pa.schema(types))])
    if not len(table):
        raise SeqrecError(f"{name} holds no reviews")
    for column in types:
        values = table[column]
        if values.null_count:
            row = int(np.argmax(to_numpy(one_array(values.is_null()).cast(pa.uint8())))) + 1
            raise SeqrecError(f"{name}: line {row} has no {column}; is it a review file of dataset.edition={edition}?")

    def ids(column: str) -> np.ndarray:
        coded = one_array(table[column]).dictionary_encode()
        return to_numpy(coded.dictionary)[to_numpy(coded.indices)]

    ratings_N = to_numpy(one_array(table[form.rating])).astype(np.float32)
    return ids(form.user), ids(form.item), ratings_N, to_numpy(one_array(table[form.time]))


def _metadata(
    files: RawFiles, name: str, form: Form, *, items: set[str], notes: list[str]
) -> dict[str, AttributeTable]:
    """Attributes (and titles) of the items that have a line."""
    types = {form.item: pa.string(), form.path: form.path_type, form.brand: pa.string(), "title": pa.string()}
    if form.main is not None:
        types[form.main] = pa.string()
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    again = 0
    with files.open(name) as file:
        for table in read_lines(file, name, pa.schema(types), ids=items):
            for row in table.to_pylist():
                item = row[form.item]
                if item not in items:
                    continue
                again += item in found
                known = found.setdefault(item, {})
                for attribute, values in _values(row, form):
                    if values and not known.get(attribute):
                        known[attribute] = values
    if not found:
        raise SeqrecError(f"{name} describes none of the reviewed items; is it the metadata of another category?")
    if again:
        notes.append(f"{again} metadata lines repeat an item: each attribute is that of the first line that has it")
    if len(items) > len(found):
        notes.append(f"{len(items) - len(found)} of {len(items)} reviewed items have no metadata")
    if not any(known.get(kind) for known in found.values() for kind in PATH_KINDS):
        raise SeqrecError(
            f"{name} gives no item a category: is it the metadata of another edition? (dataset.edition has one of "
            f"{', '.join(map(str, FORMS))}); without attributes: leave the file out"
        )
    names = (*PATH_KINDS, "brand", "title")
    notes += [f"no item has a {kind}" for kind in names if not any(known.get(kind) for known in found.values())]
    ids = np.array([*found, None], object)[:-1]
    return {kind: AttributeTable(ids, [known.get(kind, ()) for known in found.values()]) for kind in names}


def _values(row: dict[str, Any], form: Form) -> Iterator[tuple[str, tuple[str, ...]]]:
    path = row[form.path] or []
    if form.path_type is _PATHS:  # the last of several paths, as in DIN's preparation of these files
        path = path[-1] if path else []
    levels = [text for text in map(_clean, path) if text]
    main = levels[0] if form.main is None and levels else _clean(row[form.main] if form.main else None)
    yield "category", tuple(levels[-1:])
    yield "path", tuple(" > ".join(levels[: depth + 1]) for depth in range(len(levels)))
    yield "main_category", (main,) if main else ()
    for kind, field in (("brand", form.brand), ("title", "title")):
        text = _clean(row[field])
        yield kind, (text,) if text else ()


def _clean(text: str | None) -> str:
    """Entities as characters; what is left of a page's markup is no value."""
    plain = html.unescape(text or "").strip()
    return "" if MARKUP.search(plain) else plain
