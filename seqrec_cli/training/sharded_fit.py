"""What of a fit is one process's alone where tables are spread over processes, and how it is kept and found again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from seqrec_cli.models.layers.row_shard import RowShard
from seqrec_cli.models.layers.sharded_table import alike, sharded_tables
from seqrec_cli.processes import Processes
from seqrec_cli.training.averaging import MovingAverage
from seqrec_cli.training.checkpoint import BEST, load_checkpoint, save_checkpoint

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

    def equalise(self, average: MovingAverage | None, processes: Processes) -> None:
        """Weights and averages that all have alike, as the first process has them: unlike processors round unlike."""
        tensors = alike(self.model)
        if average is not None:
            tensors += self.common(average.values(), of=average.parameters)
        processes.copy_from_first(tensors)

    def save(self, path: Path, payload: dict[str, Any], processes: Processes) -> None:
        """Write a checkpoint: the first process all of it, but each its rows."""
        if self.tables:
            from seqrec_cli.training.sharded_checkpoint import (  # torch.distributed's: slow to import
                places,
                save_sharded,
            )

            save_sharded(path, payload, places(payload, self.model, self.optimizer), processes=processes)
        elif processes.is_first:
            save_checkpoint(path, payload)

    def own(self, payload: dict[str, Any], file: Path) -> dict[str, Any]:
        """What of a checkpoint is this process's, however many have written it."""
        if not self.tables:
            return payload
        from seqrec_cli.training.sharded_checkpoint import places, read_rows

        return read_rows(payload, file, places(payload, self.model, self.optimizer))

    def load_best(self, folder: Path, processes: Processes) -> None:
        """The best weights, in all processes; rows are read by each."""
        if self.tables or processes.is_first:
            payload = load_checkpoint(folder / BEST, whole=not self.tables)
            self.model.load_state_dict(self.own(payload, folder / BEST)["model"])
        processes.copy_from_first(alike(self.model))
