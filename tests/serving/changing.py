"""A service whose items change, and models whose scores are worked out by hand."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.catalogue import Catalogue
from seqrec_cli.serving.item_scoring import ItemVectorsAt, ScoringAt
from seqrec_cli.serving.item_search import Search
from seqrec_cli.serving.item_start import open_items
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.service import Loaded
from tests.serving.served import LIMITS, Served
from tests.serving.test_recommending import CPU, WINDOW, Encoder

D = 6
BIG = replace(LIMITS, most_bytes=100_000)


class Tied(Encoder):
    """Reads histories by the table that it scores by."""

    @property
    def reads_what_it_scores(self) -> bool:
        return True

    def use_item_table(self, table_RD: torch.Tensor) -> None:
        self.items.weight = torch.nn.Parameter(table_RD.clone(), requires_grad=False)


class Biased(Encoder):
    """With a bias an item, and an input that is not the output."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log)
        self.bias_V = torch.nn.Parameter(torch.linspace(0, 2, log.num_items + 1))
        self.output = torch.nn.Embedding(log.num_items + 1, D)

    def item_table(self) -> torch.Tensor:
        return self.output.weight

    def item_bias(self) -> torch.Tensor:
        return self.bias_V


class Changing(Served):
    """A service of one process whose items change; another of the same folder is another process to it."""

    def __init__(
        self,
        log: PackedLog,
        folder: Path,
        kind: type[Encoder] = Tied,
        *,
        index: str = "none",
        most: int = 20,
        compact_at: int = 1000,
        **more: Any,
    ) -> None:
        recommending = Recommending(kind(log), log, name="mine", max_length=WINDOW, precision=CPU)
        super().__init__(recommending, limits=BIG, **more)
        self.load(recommending, folder, index, most, compact_at)

    def load(
        self, recommending: Recommending, folder: Path, index: str = "none", most: int = 20, compact_at: int = 1000
    ) -> None:
        items = open_items(
            recommending, str(folder), dataset="toy", item_vectors=None, most=most, compact_at=compact_at
        )
        search = None if index == "none" else Search(index, items.now().state)  # type: ignore[arg-type]
        facts = {"model": "mine", "model_version": "epoch_1"}
        scoring = ScoringAt(recommending, search)
        self.answering.loaded = Loaded(scoring, ItemVectorsAt(recommending), facts, Catalogue(recommending), items)

    def item(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = b"" if body is None else body
        status, _, text = asyncio.run(self.ask(method, f"/items/{path}", sent, headers))
        return status, json.loads(text)

    def put(self, path: Any, **body: Any) -> Any:
        status, answer = self.item("PUT", str(path), body)
        assert status == 200, answer
        return answer

    def best(self, **body: Any) -> list[tuple[Any, float]]:
        ((status, answer),) = self.post("/recommend", body)
        assert status == 200, answer
        return [(each["item_id"], each["score"]) for each in answer["recommendations"]]


def table_of(changing: Changing) -> torch.Tensor:
    return Tied(changing.answering.loaded.scoring.recommending.log).items.weight.detach()


def vector(seed: int = 0, scale: float = 3.0) -> list[float]:
    return (scale * np.random.default_rng(seed).standard_normal(D)).tolist()
