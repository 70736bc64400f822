"""Numbers written as text: with a decimal point or (in the whole column) comma, blanks around them and a plus sign."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.data.arrow import from_numpy


def as_numbers(values: pa.Array) -> pa.Array | None:
    """float64, NaN at texts that are no number; None where values of this type cannot be numbers."""
    try:
        return values.cast(pa.float64())
    except pa.ArrowNotImplementedError:
        return None
    except pa.ArrowInvalid:
        pass
    if not pa.types.is_string(values.type):
        return pc.cast(values, pa.float64(), safe=False)  # whole numbers beyond 2^53
    plain = pc.replace_substring_regex(pc.utf8_trim_whitespace(values), r"^\+([0-9.])", r"\1")
    try:
        return plain.cast(pa.float64())
    except pa.ArrowInvalid:
        pass
    coded = plain.dictionary_encode()
    distinct = from_numpy(np.array([_number(text) for text in coded.dictionary.to_pylist()], np.float64))
    return distinct.take(coded.indices)


def with_points(texts: pa.Array) -> pa.Array | None:
    """Decimal commas as points; None where there are none, or where they may stand between thousands: where a value has
    a point or several commas, or where each has three digits behind its comma."""
    with_comma = texts.filter(pc.match_substring(texts, ","))
    if not len(with_comma) or pc.any(pc.match_substring(texts, ".")).as_py():
        return None
    plain = pc.utf8_trim_whitespace(with_comma)
    decimal = pc.all(pc.match_substring_regex(plain, r"^[+-]?\d+,\d+$")).as_py()
    thousands = pc.all(pc.match_substring_regex(plain, r"^[+-]?[1-9]\d{0,2},\d{3}$")).as_py()
    return pc.replace_substring(texts, ",", ".") if decimal and not thousands else None


def _number(text: str) -> float:
    try:
        return float(pa.scalar(text).cast(pa.float64()).as_py())
    except pa.ArrowInvalid:
        return float(np.nan)


def fault(value: Any, place: str) -> str:
    """A value that is no finite number, where it is, and what it lacks, in words."""
    if value is None or str(value).strip() == "":
        return f"is empty in {place}, not a finite number"
    advice = " (write a decimal point or comma in all, and nothing between thousands)" if "," in str(value) else ""
    return f"is {value!r} in {place}, not a finite number{advice}"
