"""What of a fit is one process's alone where tables are spread over processes, and how it is kept and found again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from seqrec_cli.models.layers.row_shard import RowShard
from seqrec_cli.models.layers.sharded_table import sharded_tables
from seqrec_cli.training.checkpoint import BEST, load_checkpoint

Kind = TypeVar("Kind", bound=Tensor)


class ShardedFit:
    """The sharded tables of a model that is trained by `optimizer`; there may be none."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.tables = sharded_tables(model)
        self.shards: dict[int, RowShard] = {id(table.weight): table.shard for table in self.tables.values()}

    def __bool__(self) -> bool:
        return bool(self.tables)

    def common(self, tensors: Iterable[Kind], of: Iterable[Tensor] | None = None) -> list[Kind]:
        """Those that every process has alike; `of` are the parameters that `tensors` stand for, if not they."""
        tensors = list(tensors)
        owners: list[Tensor] = [*tensors] if of is None else list(of)
        return [tensor for tensor, owner in zip(tensors, owners, strict=True) if id(owner) not in self.shards]

    def save(self, path: Path, payload: dict[str, Any]) -> None:
        """Write a checkpoint: a collective."""
        from seqrec_cli.training.sharded_checkpoint import places, save_sharded  # torch.distributed's: slow to import

        rows = places(payload, self.model, self.optimizer)
        processes = next(iter(rows.values())).processes
        save_sharded(path, payload, rows, processes=processes)

    def own(self, payload: dict[str, Any], file: Path) -> dict[str, Any]:
        """Of a checkpoint, however many processes wrote it, what is this process's: a collective."""
        from seqrec_cli.training.sharded_checkpoint import places, read_rows

        return read_rows(payload, file, places(payload, self.model, self.optimizer))

    def load_best(self, folder: Path) -> None:
        """The best weights: a collective."""
        payload = load_checkpoint(folder / BEST, whole=False)
        self.model.load_state_dict(self.own(payload, folder / BEST)["model"])
