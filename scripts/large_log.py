"""A synthetic log of any size in partitioned Parquet: text or number ids, popularity by a power law, days as folders.

    python -m scripts.large_log FOLDER --events 2e6 --users 5e4 --items 2e4

Parts are drawn one by one from their own seeds, so memory stays flat and the same arguments write the same bytes.
Every user and item occurs where there are events enough: the first events of the log are dealt round.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DAY = 86_400
FIRST = 1_700_006_400  # midnight, UTC
ROWS = 2_000_000  # of a part


def write_log(folder: Path, *, events: int, users: int, items: int, text: bool, seed: int = 0) -> int:
    """Write `day=N/part-0.parquet`, each with columns user, item, time (seconds) and rating; returns the bytes."""
    parts = -(-events // ROWS)
    # Items by a power law (exponent 1, shifted), their numbers scattered over the catalog.
    scattered = np.random.default_rng([seed, 1]).permutation(items)
    written = 0
    for part in range(parts):
        first, count = part * ROWS, min(ROWS, events - part * ROWS)
        rng = np.random.default_rng([seed, 2, part])
        users_N = (rng.random(count) ** 1.5 * users).astype(np.int64)
        ranks_N = 100 * ((items + 100) / 100) ** rng.random(count) - 100
        items_N = scattered[ranks_N.astype(np.int64).clip(0, items - 1)]
        dealt_N = np.arange(first, first + count)
        users_N = np.where(dealt_N < users, dealt_N, users_N)
        items_N = np.where(dealt_N < items, dealt_N, items_N)
        times_N = np.sort(FIRST + part * DAY + rng.integers(0, DAY, count))
        table = pa.table(
            {
                "user": _ids("u", users_N, text),
                "item": _ids("i", items_N, text),
                "time": pa.array(times_N),
                "rating": pa.array(rng.integers(1, 6, count).astype(np.int8)),
            }
        )
        path = folder / f"day={part:04d}" / "part-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, compression="zstd")
        written += path.stat().st_size
    return written


def _ids(letter: str, numbers_N: np.ndarray, text: bool) -> pa.Array:
    """Numbers that do not fill their range, or the same as text."""
    spread = pa.array(numbers_N * 7 + 3)
    return pc.binary_join_element_wise(letter, spread.cast(pa.string()), "") if text else spread


def main() -> None:
    parser = argparse.ArgumentParser(description="A synthetic log of any size in partitioned Parquet.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=float, default=2e6)
    parser.add_argument("--users", type=float, default=5e4)
    parser.add_argument("--items", type=float, default=2e4)
    parser.add_argument("--numbers", action="store_true", help="ids are numbers, not text")
    asked = parser.parse_args()
    sizes = {"events": int(asked.events), "users": int(asked.users), "items": int(asked.items)}
    written = write_log(asked.folder, text=not asked.numbers, **sizes)
    print(f"{asked.folder}: {sizes['events']:,} events, {written / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
