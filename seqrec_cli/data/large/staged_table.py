"""Staged files as one table, in SQL that every engine takes; columns of several kinds as the kind that holds all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seqrec_cli.data.large.stage_state import StagedFile

Scan = Callable[[Sequence[Path]], str]  # what stands behind FROM for these Parquet files, all of the same columns


def columns_of(files: Sequence[StagedFile]) -> list[str]:
    """The columns that any of the files has."""
    return list(dict.fromkeys(name for file in files for name in file.columns))


def data_columns(files: Sequence[StagedFile]) -> list[str]:
    """The same without the marks of blanks."""
    return [name for name in columns_of(files) if not name.endswith("_blank")]


def union(folder: Path, files: Sequence[StagedFile], scan: Scan) -> str:
    """All files: those alike by one scan."""
    alike: dict[str, list[StagedFile]] = {}
    for file in files:
        alike.setdefault(f"{file.columns} {file.kinds}", []).append(file)
    kinds: dict[str, list[Any]] = {}
    for group in alike.values():
        for column, kind in group[0].kinds.items():
            kinds.setdefault(column, []).append(kind)
    names = columns_of(files)
    parts = []
    for group in alike.values():
        source = scan([folder / file.name for file in group])
        parts.append(_select(group, names, kinds, source=source))
    return " UNION ALL ".join(parts)


def _select(files: Sequence[StagedFile], names: Sequence[str], kinds: dict[str, list[Any]], *, source: str) -> str:
    chosen = []
    for name in names:
        if name not in files[0].columns:
            chosen.append(f'FALSE AS "{name}"')  # blanks, where there were none
        else:
            chosen.append(f'{_cast(name, files[0].kinds.get(name), kinds.get(name, []))} AS "{name}"')
    return f"SELECT {', '.join(chosen)} FROM {source}"


def _cast(name: str, kind: Any, kinds: Sequence[Any]) -> str:
    if kind == "whole" and "text" in kinds:
        return f'CAST("{name}" AS STRING)'
    if isinstance(kind, str) or kind is None:
        return f'"{name}"'
    form, per_second = kind
    if form == "whole" and any(other[0] == "number" for other in kinds):
        return f'CAST("{name}" AS DOUBLE)'
    finest = max((other[1] for other in kinds), default=0)
    return f'"{name}" * {finest // per_second}' if per_second and finest > per_second else f'"{name}"'
