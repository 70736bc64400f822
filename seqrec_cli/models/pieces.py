"""Cutting a scoring job of rows x candidates into pieces whose activations fit a budget.

Legend: B rows, C candidates, A = B or 1 (candidates shared by all rows).
"""

from collections.abc import Iterator

from torch import Tensor

from seqrec_cli.data.batch import Batch

BUDGET = 1 << 24  # numbers that the activations of one piece may take together, about (64 MB of fp32)
NARROWEST = 64  # candidates a piece, if there are as many: what is made once a row should serve several


def piece_size(rows: int, candidates: int, numbers_per_pair: int, *, budget: int | None = None) -> tuple[int, int]:
    """How many rows and how many candidates to score at once, within `budget` (or BUDGET) numbers."""
    pairs = max((budget or BUDGET) // numbers_per_pair, 1)
    rows = min(rows, max(pairs // min(candidates, NARROWEST), 1))
    return rows, min(candidates, max(pairs // rows, 1))


def row_pieces(batch: Batch, items_AC: Tensor, rows: int) -> Iterator[tuple[Batch, Tensor]]:
    """The batch and its candidates, `rows` rows at a time."""
    if rows >= len(batch):
        yield batch, items_AC
        return
    for start in range(0, len(batch), rows):
        yield batch.rows(start, start + rows), items_AC if items_AC.shape[0] == 1 else items_AC[start : start + rows]
