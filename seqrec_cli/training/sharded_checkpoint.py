"""Checkpoints of tables that are spread over ranks: each rank writes its rows, any number of ranks reads them.

`best.pt` and `last.pt` are what they always are, but that tensors of rows stand in a folder beside, `shards/NAME/`, as
`torch.distributed.checkpoint` writes them; in their place the file names the folder and the tensor. `NAME` is new each
time and the file is replaced last, so that it always names rows that are whole.

That format's own table of contents is a pickle: only the classes that it consists of are made of it, so that, as with
any checkpoint here, no code comes out of a file.
"""

import contextlib
import enum
import io
import pickle
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from seqrec_cli.config.errors import SeqrecError, first_line
from seqrec_cli.models.layers.row_shard import RowShard
from seqrec_cli.models.layers.sharded_table import sharded_tables
from seqrec_cli.processes import Processes
from seqrec_cli.training.checkpoint import SHARDED, save_checkpoint

SHARDS = "shards"  # the folder beside a checkpoint file
Place = tuple[Any, ...]  # keys that lead to a tensor in a payload
# What the table of contents is made of, and the path where it was written.
_CONTENTS = {
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", "float32", "float16", "bfloat16"},
}


@dataclass(frozen=True)
class Rows:
    """In a payload, the place of a tensor that stands in a folder of shards."""

    folder: str
    key: str

    def plain(self) -> dict[str, str]:
        """As the file has it."""
        return {"rows_in": self.folder, "key": self.key}

    @staticmethod
    def of(value: Any) -> "Rows | None":
        """If it is one."""
        if isinstance(value, dict) and value.keys() == {"rows_in", "key"}:
            return Rows(value["rows_in"], value["key"])
        return None


def places(payload: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[Place, RowShard]:
    """Where a payload has tensors of rows of the model's sharded tables: its weights, their averages, and the
    optimizer's."""
    tables = sharded_tables(model)
    found: dict[Place, RowShard] = {("model", name): table.shard for name, table in tables.items()}
    trainer = payload["trainer"]
    if trainer is None:
        return found
    shard_of = {id(table.weight): table.shard for table in tables.values()}
    every = [p for group in optimizer.param_groups for p in group["params"]]
    for nth, parameter in enumerate(every):
        for key, value in trainer["optimizer"]["state"].get(nth, {}).items():
            if id(parameter) in shard_of and (not isinstance(value, Tensor) or value.ndim > 1):
                found["trainer", "optimizer", "state", nth, key] = shard_of[id(parameter)]
    averaged = [p for p in model.parameters() if p.requires_grad]
    lists: list[Place] = [("trainer", "average")] if trainer.get("average") is not None else []
    lists += [("trainer", "swa", "kept", epoch) for epoch in (trainer.get("swa") or {"kept": {}})["kept"]]
    for place in lists:
        for nth, parameter in enumerate(averaged):
            if id(parameter) in shard_of:
                found[*place, nth] = shard_of[id(parameter)]
    return found


def save_sharded(path: Path, payload: dict[str, Any], rows: dict[Place, RowShard], *, processes: Processes) -> None:
    """Write a checkpoint whose tensors at `rows` are this rank's rows: a collective."""
    folder = processes.from_first(_new_folder(path, payload["step"]) if processes.is_first else "")
    tensors = {_key(place): shard.as_dtensor(_at(payload, place)) for place, shard in rows.items()}
    try:
        save(tensors, checkpoint_id=path.parent / SHARDS / folder)
    except (OSError, CheckpointException) as error:
        raise SeqrecError(
            f"{path.parent / SHARDS / folder}: the shards cannot be written ({first_line(error)})"
        ) from error
    if processes.is_first:
        for place in rows:
            payload = _with(payload, place, Rows(folder, _key(place)).plain())
        save_checkpoint(path, payload, version=SHARDED)
        _remove_others(path, folder)


def read_rows(payload: dict[str, Any], file: Path, rows: dict[Place, RowShard]) -> dict[str, Any]:
    """The payload of any checkpoint, whole or in shards of any number of ranks, with this rank's rows at `rows`: a
    collective where it is in shards."""
    wanted: dict[str, dict[str, Tensor]] = {}
    for place, shard in rows.items():
        value = _at(payload, place)
        if (there := Rows.of(value)) is None:
            payload = _with(payload, place, value[shard.first : shard.last].clone())
            continue
        of = _reader(file, there.folder).metadata_of(there.key)
        local = torch.empty((len(shard), *of.size[1:]), dtype=of.properties.dtype)
        wanted.setdefault(there.folder, {})[there.key] = shard.as_dtensor(local)
        payload = _with(payload, place, local)
    for folder, tensors in wanted.items():
        load(tensors, storage_reader=_reader(file, folder))
    return payload


def read_whole(payload: dict[str, Any], file: Path) -> dict[str, Any]:
    """The payload with whole tensors instead of what stands in shards, by this process alone.

    Raises SeqrecError where shards are gone or torn.
    """
    wanted: dict[str, dict[str, Tensor]] = {}
    for place, there in _all_rows(payload, ()):
        of = _reader(file, there.folder).metadata_of(there.key)
        whole = torch.empty(of.size, dtype=of.properties.dtype)
        wanted.setdefault(there.folder, {})[there.key] = whole
        payload = _with(payload, place, whole)
    for folder, tensors in wanted.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # of no process group, which is what is meant
                load(tensors, storage_reader=_reader(file, folder), no_dist=True)
        except (OSError, RuntimeError, CheckpointException) as error:
            raise SeqrecError(f"{file}: its shards in {SHARDS}/{folder} are torn ({first_line(error)})") from error
    return payload


def whole_bytes(payload: dict[str, Any], file: Path) -> int:
    """Memory that `read_whole` takes for what stands in shards."""
    found = (_reader(file, there.folder).metadata_of(there.key) for _, there in _all_rows(payload, ()))
    return sum(of.size.numel() * of.properties.dtype.itemsize for of in found)


def _member(kind: Any, name: str) -> Any:
    """Of an enumeration, and of nothing else."""
    if not isinstance(kind, enum.EnumType):
        raise pickle.UnpicklingError(f"{name} of {kind!r} is no part of a table of contents")
    return kind[name]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "pathlib" and name in (
            "PosixPath",
            "WindowsPath",
            "PurePosixPath",
            "PureWindowsPath",
        ):
            return PurePosixPath
        if (module, name) == ("builtins", "getattr"):  # how Python 3.11.0 to 3.11.3 write a member of an enumeration
            return _member
        if name not in _CONTENTS.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a table of contents")
        return super().find_class(module, name)


class _Reader(FileSystemReader):
    """Reads the table of contents as plain data."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.contents = folder / ".metadata"

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        metadata: Metadata = _Unpickler(io.BytesIO(self.contents.read_bytes())).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def metadata_of(self, key: str) -> TensorStorageMetadata:
        """A tensor's size and number format."""
        of = self.read_metadata().state_dict_metadata[key]
        assert isinstance(of, TensorStorageMetadata)
        return of


def _reader(file: Path, folder: str) -> _Reader:
    reader = _Reader(file.parent / SHARDS / folder)
    try:
        reader.read_metadata()
    except Exception as error:  # bytes from outside
        raise SeqrecError(
            f"{file}: its rows are in {reader.contents.parent}, which is damaged or gone; copy a run's folder as a "
            "whole"
        ) from error
    return reader


def _new_folder(path: Path, step: int) -> str:
    """A folder's name that no checkpoint has; the first of a run's folders may be left by a run that was ended."""
    nth, shards = 0, path.parent / SHARDS
    while (shards / f"{path.stem}-{step}-{nth}").exists():
        nth += 1
    return f"{path.stem}-{step}-{nth}"


def remove_shards(path: Path) -> None:
    """Of a checkpoint that does not need them any more."""
    _remove_others(path, None)
    with contextlib.suppress(OSError):  # others are there
        (path.parent / SHARDS).rmdir()


def _remove_others(path: Path, kept: str | None) -> None:
    for folder in (path.parent / SHARDS).glob(f"{path.stem}-*"):
        if folder.name != kept:
            shutil.rmtree(folder, ignore_errors=True)


def _all_rows(value: Any, place: Place) -> Iterator[tuple[Place, Rows]]:
    if (there := Rows.of(value)) is not None:
        yield place, there
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _all_rows(inner, (*place, key))
    elif isinstance(value, list | tuple):
        for nth, inner in enumerate(value):
            yield from _all_rows(inner, (*place, nth))


def _key(place: Place) -> str:
    return "/".join(map(str, place))


def _at(payload: Any, place: Place) -> Any:
    for key in place:
        payload = payload[key]
    return payload


def _with(tree: Any, place: Place, value: Any) -> Any:
    """A copy of the containers on the way, with another value at its end."""
    if not place:
        return value
    changed = tree.copy() if isinstance(tree, dict) else list(tree)
    changed[place[0]] = _with(tree[place[0]], place[1:], value)
    return changed
