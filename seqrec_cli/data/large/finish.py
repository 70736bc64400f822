"""From ordered rows and the marks of those that stay to the arrays of the packed log, a block of whole users at a time.

Legend: N ordered rows, K rows that stay, B rows of a block, U users, F context attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqrec_cli.data.interactions import equal_to_previous
from seqrec_cli.data.large.arrays import ArrayWriter, close_all, mapped
from seqrec_cli.data.large.definition import sort_keys
from seqrec_cli.data.large.passes import Advance, Filters, Ordered


@dataclass(frozen=True)
class Packed:
    """The arrays of a packed log by name, mapped, and what was counted while they were written."""

    arrays: dict[str, np.ndarray]
    users_K: np.ndarray  # codes of the users that stay
    items_K: np.ndarray
    equal_times: int
    ordered_ties: int
    time_span: tuple[int, int] | None


class _Writers:
    """One a column; made when its first block comes."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.found: dict[str, ArrayWriter] = {}

    def append(self, name: str, values: np.ndarray) -> None:
        if name not in self.found:
            shape = (self.rows, *values.shape[1:])
            self.found[name] = ArrayWriter(self.folder / f"{name}.npy", values.dtype, shape)
        self.found[name].append(values)


def finish(
    log: Ordered,
    filters: Filters,
    folder: Path,
    *,
    ticks: int | None,
    levels: Sequence[np.ndarray | None],
    advance: Advance,
) -> Packed:
    """Write the arrays in a folder. `ticks` of the times make a second (0: an order alone; None: no times); `levels`
    are other codes for those of a column of context, where it is of numbers, with that of -1 last."""
    folder.mkdir(parents=True, exist_ok=True)
    users_U, items_V = filters.users_U > 0, filters.items_V > 0
    item_of_V = np.cumsum(items_V).astype(np.int32)  # from 1
    offsets_U1 = np.concatenate([[0], np.cumsum(filters.users_U[users_U])]).astype(np.int64)
    keys = [name for name in sort_keys(list(log.columns)) if name != "place"]
    ties = _Ties(keys)
    writers = _Writers(folder, int(offsets_U1[-1]))
    contexts = sorted((name for name in log.columns if name.startswith("context")), key=lambda name: int(name[7:]))
    low, high = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    for rows in log.blocks(filters.block):
        kept_B = np.flatnonzero(filters.kept_N[rows])
        advance(rows.stop - rows.start)
        if not len(kept_B):
            continue

        def column(name: str, rows: slice = rows, kept_B: np.ndarray = kept_B) -> np.ndarray:
            values: np.ndarray = np.asarray(log.columns[name][rows])[kept_B]
            return values

        writers.append("items", item_of_V[column("item")])
        times_B = None
        if ticks:
            times_B = column("time") // ticks
            writers.append("times", times_B)
            low, high = min(low, int(times_B.min())), max(high, int(times_B.max()))
        for name, stored in (
            ("rating", "ratings"),
            ("weight", "weights"),
            ("split", "splits"),
            ("session", "sessions"),
        ):
            if name in log.columns:
                writers.append(stored, column(name))
        if contexts:
            coded = [
                column(name) + 1 if others is None else others[column(name)] + 1
                for name, others in zip(contexts, levels, strict=True)
            ]
            writers.append("context", np.stack(coded, axis=1).astype(np.int32))
        if ties.are_known:
            lengths = np.bincount(column("user") - column("user")[0])
            starts = np.concatenate([[0], np.cumsum(lengths[lengths > 0])]).astype(np.int64)
            writers.append("tied", ties.of({name: column(name) for name in keys}, starts, times_B))
    close_all(writers.found)
    arrays = {name: mapped(writer.path) for name, writer in writers.found.items()}
    if "tied" in arrays and ties.are_shown_by_times:
        del arrays["tied"]
    span = (low, high) if ticks else None
    kept = (np.flatnonzero(users_U), np.flatnonzero(items_V))
    return Packed({"offsets": offsets_U1, **arrays}, *kept, ties.equal, ties.ordered, span)


class _Ties:
    """Events that nothing but the file orders after their user's one before, as `pack` finds them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys, self.equal, self.ordered = keys, 0, 0
        further = [name for name in keys if name.startswith("key")]
        self.first_keys = keys[: len(keys) - len(further)]
        self.are_known = "time" in keys or bool(further)
        self.are_shown_by_times = True

    def of(self, keys: dict[str, np.ndarray], starts: np.ndarray, times_B: np.ndarray | None) -> np.ndarray:
        """Those of a block of whole users, whose rows begin at `starts`; `times_B` are its times in seconds."""
        same = {name: equal_to_previous(values, starts) for name, values in keys.items()}
        found_B: np.ndarray = np.logical_and.reduce(list(same.values()))
        by_time_B = np.logical_and.reduce([same[name] for name in self.first_keys] or [found_B])
        self.equal += int(found_B.sum())
        self.ordered += int(by_time_B.sum() - found_B.sum())
        if times_B is None or not np.array_equal(equal_to_previous(times_B, starts), found_B):
            self.are_shown_by_times = False
        return found_B
