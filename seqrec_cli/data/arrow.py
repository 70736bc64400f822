"""Arrow arrays from and to NumPy by their buffers.

pyarrow's own `to_numpy` and `pa.array` import pandas, which costs more time than reading a million events.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)


def to_numpy(array: pa.Array) -> np.ndarray:
    """Numbers without nulls, read-only; texts as an object array of str."""
    if pa.types.is_string(array.type):
        return np.array([*array.to_pylist(), None], object)[:-1]  # the None keeps NumPy from making it a text array
    return np.from_dlpack(array)


def codes_of(coded: pa.DictionaryArray) -> np.ndarray:
    """The codes of a dictionary array, int32 or int64 [N], -1 where there is none."""
    indices = coded.indices
    if not indices.null_count:
        return to_numpy(indices)
    width = indices.type.bit_width // 8
    codes_N = np.frombuffer(indices.buffers()[1], f"i{width}", len(indices), indices.offset * width)
    return np.where(mask_of(indices.is_valid()), codes_N, -1)


def mask_of(array: pa.Array) -> np.ndarray:
    """Truth values without nulls as bool [N]."""
    return to_numpy(array.cast(pa.uint8())).astype(bool)


def to_mask(mask_N: np.ndarray) -> pa.Array:
    """bool [N] as an Arrow array."""
    return from_numpy(mask_N.view(np.uint8)).cast(pa.bool_())


def from_numpy(values: np.ndarray) -> pa.Array:
    """Numbers, or an object array of str."""
    if values.dtype == object:
        return from_texts(values.tolist())
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])


def from_texts(texts: Sequence[str]) -> pa.Array:
    """Texts, none of them null."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers).cast(pa.string())
