"""A log whose items have titles and genres, some of them hostile, and a model that reads the order of a history."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.raw import AttributeTable
from seqrec_cli.data.vocabulary import write_vocabulary
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_recommending import CPU, WINDOW

HOSTILE = '<img src=x onerror="window.caught = true">'
TITLES = {100: "Amélie", 101: "Heat", 102: "Heart of Glass", 103: HOSTILE, 104: "The Great Heat", 105: "Brazil"}
FADES = 0.6


class Fading(SequenceEncoder):
    """A history's vector is the sum of its items', each event worth 0.6 of the next."""

    def __init__(self, log: PackedLog, seed: int = 0) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(seed)
        self.items = torch.nn.Embedding(log.num_items + 1, 6)

    def encode(self, batch: Batch) -> torch.Tensor:
        place_L = torch.arange(batch.items_BL.shape[1])
        ago_LL = place_L[:, None] - place_L
        weights_LL = torch.where(ago_LL >= 0, FADES ** ago_LL.clamp(min=0).float(), 0.0)
        return weights_LL @ self.items(batch.items_BL)

    def item_table(self) -> torch.Tensor:
        return self.items.weight


def titled(log: PackedLog, folder: Path) -> PackedLog:
    """`log` with titles, and genres of its items: two of every sixth, none of the last."""
    assert log.folder is not None
    ids = np.arange(100, 125)
    rows = [(TITLES.get(raw, f"No. {raw}"),) for raw in ids.tolist()]
    write_vocabulary(folder, "items", ids, titles=AttributeTable(ids, rows))
    pq.write_table(pq.read_table(log.folder / "users.parquet"), folder / "users.parquet")
    genres_VW = np.array([[0, 0], *([1 + item % 3, 3 * (item % 6 == 0)] for item in range(1, 25)), [0, 0]], np.int32)
    catalog = replace(log.catalog, item_attributes=(Attribute("genre", 4, 2),), item_values={"genre": genres_VW})
    manifest = {**log.manifest, "item_attribute_values": {"genre": ["comedy", "drama", "noir"]}}
    return replace(log, catalog=catalog, manifest=manifest, folder=folder)


def fading(log: PackedLog, seed: int = 0) -> Recommending:
    return Recommending(Fading(log, seed), log, name=f"fading{seed}", max_length=WINDOW, precision=CPU)
