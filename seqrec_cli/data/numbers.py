"""Numeric attributes (a price, an age): from texts to numbers, to ranks, and to what a model reads of them.

A number is read as its rank x among the others, from 0 to 1, with x^2 and sqrt(x) beside it, as in YouTube's ranking
model (Covington et al. 2016, section 4.1): neither its unit nor an outlier matters. Here the three are brought to mean
0 and deviation 1, with a fourth that is 1 wherever there is a number; a missing number has four zeros.

Numbers of items and users are ranked over the catalog; those of events (context) over the training events alone.

Legend: R rows of a catalog (row 0 is padding or unknown), N events, A levels of a number (level 0: none), W widths.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.blocks import user_blocks
from seqrec_cli.data.catalog import ITEM_VECTORS, Catalog
from seqrec_cli.data.interactions import PackedLog, ragged_ranges
from seqrec_cli.data.raw import MISSING_WORDS, AttributeTable, RawLog
from seqrec_cli.data.splits import train_ends

MISSING = frozenset({"", *map(str.lower, MISSING_WORDS)})
LEVELS = 1024  # of a number of events: where there are more different ones, the nearest of so many quantiles
MANY = 20  # different numbers: more are hardly categories


def number_of(text: str, where: str) -> float:
    """NaN for an empty one and the usual words for it. Raises SeqrecError on what is no number."""
    if text.strip().lower() in MISSING:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if math.isinf(number):
        raise SeqrecError(f"{where}: '{text}' is no number")
    return number


def categories_of_numbers(raw: RawLog) -> list[str]:
    """A word on each column of categories that may be meant as numbers."""
    columns = {name: texts for name, (_, texts) in raw.context.items()}
    for tables in (raw.item_attributes, raw.user_attributes):
        columns |= {name: [text for values in table.values for text in values] for name, table in tables.items()}
    return numbers_among(columns, raw.numeric)


def numbers_among(columns: dict[str, list[str]], numeric: frozenset[str]) -> list[str]:
    """The same, of the texts of each column; `numeric` ones are meant so."""
    counts = {name: _different(set(texts)) for name, texts in columns.items() if name not in numeric}
    return [
        f"{name} has {count:,} different numbers, each a category: list it in dataset.numeric_columns if it measures "
        "something"
        for name, count in counts.items()
        if count >= MANY
    ]


def _different(texts: set[str]) -> int:
    """How many different numbers there are; 0 where there is anything else."""
    try:
        return len({float(text) for text in texts if text.strip().lower() not in MISSING})
    except ValueError:
        return 0


def encode_numbers(name: str, table: AttributeTable, ids: np.ndarray) -> np.ndarray:
    """The numbers of the rows `ids`, float64 [len(ids) + 1]; NaN for row 0 and where there is none."""
    by_id = dict(zip(table.ids.tolist(), table.values, strict=True))
    known: dict[str, float] = {}
    of_column = f"dataset.numeric_columns holds {name}"
    found = np.full(len(ids) + 1, np.nan)
    for row, raw_id in enumerate(ids.tolist(), 1):
        texts = by_id.get(raw_id, ())
        if len(texts) > 1:
            raise SeqrecError(f"dataset.numeric_columns: {name} has several values of {raw_id}; a number is one value")
        for text in texts:
            found[row] = known[text] if text in known else known.setdefault(text, number_of(text, of_column))
    return found


def numbers_of_texts(name: str, values: Sequence[tuple[str, ...]]) -> list[float]:
    """The number of each field's values, of which there is one or none. Raises SeqrecError as `encode_numbers`."""
    for texts in values:
        if len(texts) > 1:
            raise SeqrecError(f"dataset.numeric_columns: {name} has several values in {texts}; a number is one value")
    return [number_of(next(iter(texts), ""), f"dataset.numeric_columns holds {name}") for texts in values]


def number_levels(name: str, codes_N: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, list[str], str | None]:
    """A number of events as levels: codes int32 [N] (-1: none), the ascending levels as text, and a note where they
    are fewer than the numbers."""
    numbers = np.array([number_of(text, f"dataset.numeric_columns holds {name}") for text in texts] or [np.nan])
    numbers_N = np.where(codes_N >= 0, numbers[np.maximum(codes_N, 0)], np.nan)
    known_N = ~np.isnan(numbers_N)
    levels, note = levels_of(name, numbers_N[known_N])
    found_N = np.full(len(codes_N), -1, np.int32)
    found_N[known_N] = nearest_level(levels, numbers_N[known_N])
    return found_N, [repr(level) for level in levels.tolist()], note


def levels_of(name: str, numbers_N: np.ndarray) -> tuple[np.ndarray, str | None]:
    """The ascending levels of the numbers of events, and a note where they are fewer than the numbers."""
    levels = np.unique(numbers_N)
    if len(levels) <= LEVELS:
        return levels, None
    note = f"{name}: {len(levels):,} different numbers are read as the nearest of {LEVELS:,} quantiles"
    return np.unique(np.quantile(numbers_N, np.linspace(0, 1, LEVELS), method="nearest")), note


def nearest_level(levels: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The index of the ascending level that each number is nearest to."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, numbers)


def ranks(numbers: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The share of weight below each number, and half of that at it; NaN stays. Without weights, each counts once."""
    known = ~np.isnan(numbers)
    found = np.full(len(numbers), np.nan)
    distinct, codes = np.unique(numbers[known], return_inverse=True)
    weighed = np.bincount(codes, None if weights is None else weights[known], len(distinct)).astype(np.float64)
    found[known] = ((np.cumsum(weighed) - weighed / 2) / max(weighed.sum(), 1e-9))[codes]
    return found


def rank_features(ranks_R: np.ndarray) -> np.ndarray:
    """What a model reads of ranks, float32 [R, 4]; a row of zeros for NaN. Of length about 1, as an attribute's one
    value has."""
    x = ranks_R.astype(np.float64)
    scaled = [(x - 1 / 2) * 12**0.5, (x**2 - 1 / 3) * (45 / 4) ** 0.5, (np.sqrt(x) - 2 / 3) * 18**0.5, np.ones_like(x)]
    features_R4 = np.stack(scaled, axis=1) / 2
    features_R4[np.isnan(x)] = 0
    return features_R4.astype(np.float32)


def vector_features(vectors_RW: np.ndarray) -> np.ndarray:
    """What a model reads of pre-trained vectors, float32 [R, W + 1]: without their mean, at one scale, of length about
    1, with a last number that is there where a vector is; rows of zeros for NaN."""
    known_R = ~np.isnan(vectors_RW[:, 0])
    known = vectors_RW[known_R].astype(np.float64)
    centred = known - known.mean(0) if len(known) else known
    scale = max(float(np.sqrt((centred**2).mean())) if centred.size else 1.0, 1e-12)
    features = np.zeros((len(vectors_RW), vectors_RW.shape[1] + 1), np.float32)
    features[known_R, :-1] = centred / scale
    features[known_R, -1] = 1
    return features / np.float32(features.shape[1] ** 0.5)


def item_features(catalog: Catalog) -> dict[str, np.ndarray]:
    """The items' numbers and pre-trained vectors by name, as a model reads them."""
    found = {name: rank_features(ranks(numbers)) for name, numbers in catalog.item_numbers.items()}
    if catalog.item_vectors is not None:
        found[ITEM_VECTORS] = vector_features(catalog.item_vectors)
    return found


def user_features(catalog: Catalog) -> dict[str, np.ndarray]:
    """The users' numbers by name, as a model reads them."""
    return {name: rank_features(ranks(numbers)) for name, numbers in catalog.user_numbers.items()}


def context_features(catalog: Catalog) -> dict[str, np.ndarray]:
    """Numbers of context by name, as a model reads their levels."""
    return {name: rank_features(ranks_A) for name, ranks_A in catalog.context_ranks.items()}


def training_catalog(log: PackedLog) -> Catalog:
    """The log's catalog, the numbers of events ranked by its training events alone."""
    catalog = log.catalog
    if not catalog.context_ranks or log.context_NF is None:
        return catalog
    starts_U = np.asarray(log.offsets_U1)[:-1]
    lengths_U = train_ends(log) - starts_U
    names = [attribute.name for attribute in catalog.context_attributes]
    counts = {name: np.zeros(len(untrained_A), np.int64) for name, untrained_A in catalog.context_ranks.items()}
    for users, _ in user_blocks(log.offsets_U1):
        events = ragged_ranges(starts_U[users], lengths_U[users])
        for name, counts_A in counts.items():
            counts_A += np.bincount(log.context_NF[events, names.index(name)], minlength=len(counts_A))
    found = {name: ranks(untrained_A, counts[name]) for name, untrained_A in catalog.context_ranks.items()}
    return replace(catalog, context_ranks=found)
