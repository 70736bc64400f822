"""What a column may say of each event beside its time: further order, a session, a 0/1 label, a weight.

Legend: N rows.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.columns import Column, Columns
from seqrec_cli.data.times import read_times

LABELS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}
MINUS = {"-1": False, "1": True, "-1.0": False, "1.0": True}  # where no 0 occurs
RULE = "labels are 0 and 1 (or false and true, or -1 and 1)"


def order_key(columns: Columns, column: Column) -> np.ndarray:
    """What sorts events of equal time: numbers or moments, as whole numbers [N]."""
    return read_times(columns.time_column(column), "order").ticks_N


def sessions(columns: Columns, column: Column) -> np.ndarray:
    """The number of each row's session, int32 [N]. Raises SeqrecError where one is empty: it is in no session."""
    return session_texts(columns, column)[0].astype(np.int32)


def session_texts(columns: Columns, column: Column) -> tuple[np.ndarray, list[str]]:
    """The same numbers, and the text of each."""
    codes_N, texts = columns.texts(column)
    _refuse_empty(columns, column, codes_N, rule="leave dataset.session_column out and use protocol.by=gap")
    return codes_N, texts


def labels(columns: Columns, column: Column, notes: list[str]) -> np.ndarray:
    """True where a row was clicked, bool [N]. Raises SeqrecError for anything but two labels."""
    codes_N, texts = columns.texts(column)
    _refuse_empty(columns, column, codes_N, rule=RULE)
    known = [text.strip().lower() for text in texts]
    meaning = MINUS if set(known) <= set(MINUS) else LABELS
    if foreign := [code for code, text in enumerate(known) if text not in meaning]:
        row = int(np.argmax(codes_N == foreign[0]))
        raise SeqrecError(
            f"{columns.label}: {column} is '{texts[foreign[0]]}' in {columns.place(row)}; {RULE}. Ratings go to "
            "dataset.rating_column, with dataset.min_rating for what counts as liked"
        )
    clicked_N = np.array([meaning[text] for text in known], bool)[codes_N]
    if len(clicked_N) and clicked_N.all() | ~clicked_N.any():
        only = texts[0]
        raise SeqrecError(f"{columns.label}: {column} is {only} in every row, so nothing is to be told apart; {RULE}")
    clicks = int(clicked_N.sum())
    notes.append(
        f"{clicks:,} of {len(clicked_N):,} rows are clicks (dataset.label_column) and make the histories; "
        f"{len(clicked_N) - clicks:,} were shown and not clicked"
    )
    return clicked_N


def odd_ids(columns: Columns, column: Column) -> list[str]:
    """A word on ids that a spreadsheet or a frame has written as no one would: they stay as they are."""
    texts = columns.coded(column)[1]
    return odd_texts(column, texts, first=lambda among: among[0].as_py())


def odd_texts(column: Column, texts: pa.Array, *, first: Callable[[pa.Array], str]) -> list[str]:
    """The same of the distinct ids; `first` finds the one among some of them that comes first in the files."""
    if not pa.types.is_string(texts.type):
        return []
    rounded = texts.filter(pc.match_substring_regex(texts, r"^[+-]?\d+(\.\d+)?E\+\d+$"))
    if len(rounded):
        return [
            f"WARNING: {column}: {len(rounded):,} ids such as {first(rounded)} look rounded by a spreadsheet, so that "
            "several may have become one; export the column as text"
        ]
    if pc.all(pc.match_substring_regex(texts, r"^-?\d+\.0$")).as_py():
        return [f"{column}: ids are written as {first(texts)}, with a point, and stay text"]
    return []


def weights(columns: Columns, column: Column) -> np.ndarray:
    """Positive float32 [N]."""
    weights_N = columns.numbers(column).astype(np.float32)
    wrong_N = ~(weights_N > 0) | ~np.isfinite(weights_N)
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        raise SeqrecError(
            f"{columns.label}: {column} is {weights_N[row]:g} in {columns.place(row)}; a weight is a positive number "
            "(leave rows of no weight out)"
        )
    return weights_N


def _refuse_empty(columns: Columns, column: Column, codes_N: np.ndarray, *, rule: str) -> None:
    empty_N = codes_N < 0
    if empty_N.any():
        first = columns.place(int(np.argmax(empty_N)))
        raise SeqrecError(
            f"{columns.label}: {column} is empty in {int(empty_N.sum()):,} rows, the first is {first}; fill or remove "
            f"them; {rule}"
        )
