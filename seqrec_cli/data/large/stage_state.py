"""What staging has found of a log so far, kept beside the staged files to go on from.

Every list is in the order of the parts, so that a log that was read in two goes is told of as one read in one.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqrec_cli.data.attribute_tables import columns_of_log
from seqrec_cli.data.columns import Column
from seqrec_cli.data.large.columns_found import Commas, TimesFound
from seqrec_cli.data.large.tidying import Tidying
from seqrec_cli.data.sources.csv import Config, roles_of
from seqrec_cli.files import write_atomically

STATE = "staged.json"


@dataclass
class StagedFile:
    """A Parquet file of staged rows: what kind its ids and keys are, which columns it has, and what it was written
    as."""

    name: str
    rows: int
    kinds: dict[str, Any]
    columns: list[str]
    size: int
    checksum: str

    def is_whole(self, folder: Path) -> bool:
        """Whether it is as it was written."""
        return print_of(folder / self.name) == (self.size, self.checksum)


def print_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256; nothing of a file that is not there."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return 0, ""


@dataclass
class StageState:
    """Counts and words of all parts before `parts_done`."""

    tidying: Tidying
    names: dict[Column, str]  # staged columns by those that they come from
    contexts: list[dict[str, int]]
    times: TimesFound = field(default_factory=TimesFound)
    parts_done: int = 0
    rows_read: int = 0
    rows: int = 0
    lists: int = 0
    empty_lists: int = 0
    listed: list[str] = field(default_factory=list)  # staged columns whose fields were lists, their values joined
    notes: list[str] = field(default_factory=list)
    no_bytes: list[str] = field(default_factory=list)
    files: list[StagedFile] = field(default_factory=list)
    first_part: tuple[str, tuple[str, ...]] | None = None  # its label, and the names of its columns

    @classmethod
    def of(cls, cfg: Config, wanted: Sequence[Column]) -> "StageState":
        """Of nothing yet."""
        ids, values, others, numbers = roles_of(cfg, wanted, ())
        names: dict[Column, str] = {cfg.user_column: "user", cfg.item_column: "item"}
        if cfg.session_column is not None:
            names[cfg.session_column] = "session"
        names |= {column: f"context{nth}" for nth, column in enumerate(cfg.context_columns)}
        names |= {column: f"key{nth}" for nth, column in enumerate(cfg.order_columns)}
        owner = [] if cfg.owner_column is None else [cfg.owner_column]
        about = dict.fromkeys([*columns_of_log(cfg), *owner])
        names |= {column: f"about{nth}" for nth, column in enumerate(about)}
        tidying = Tidying(cfg.missing, ids, values, others, numbers)
        return cls(tidying, names, [{} for _ in cfg.context_columns])

    def note(self, notes: Sequence[str]) -> None:
        """Once each, in order."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

    def save(self, folder: Path) -> None:
        """Write it whole."""
        tidying = {
            "rows": self.tidying.rows,
            "lost": self.tidying.lost,
            "changed": [[column, sorted(texts)] for column, texts in self.tidying.changed.items()],
            "commas": [[column, vars(commas)] for column, commas in self.tidying.commas.items()],
            "lacking": [[column, list(count.items())] for column, count in self.tidying.lacking.items()],
        }
        plain = {
            **{name: getattr(self, name) for name in PLAIN},
            "contexts": [list(known) for known in self.contexts],
            "times": {**vars(self.times), "zones": sorted(self.times.zones)},
            "files": [vars(file) for file in self.files],
            "tidying": tidying,
        }
        write_atomically(folder / STATE, json.dumps(plain))

    @classmethod
    def resumed(cls, fresh: "StageState", folder: Path) -> "StageState":
        """What an earlier process had found, where its files are as it wrote them; else `fresh`."""
        try:
            plain = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return fresh
        files = [StagedFile(**file) for file in plain["files"]]
        if not all(file.is_whole(folder) for file in files):
            return fresh
        tidying = plain["tidying"]
        fresh.tidying.rows, fresh.tidying.lost = tidying["rows"], tidying["lost"]
        fresh.tidying.changed = {column: set(texts) for column, texts in tidying["changed"]}
        fresh.tidying.commas = {column: Commas(**values) for column, values in tidying["commas"]}
        fresh.tidying.lacking = {column: Counter(dict(pairs)) for column, pairs in tidying["lacking"]}
        fresh.contexts = [{text: code for code, text in enumerate(texts)} for texts in plain["contexts"]]
        fresh.times = TimesFound(**{**plain["times"], "zones": set(plain["times"]["zones"])})
        fresh.files = files
        for name in PLAIN:
            setattr(fresh, name, plain[name])
        if fresh.first_part is not None:
            fresh.first_part = (fresh.first_part[0], tuple(fresh.first_part[1]))
        return fresh


PLAIN = ("parts_done", "rows_read", "rows", "lists", "empty_lists", "listed", "notes", "no_bytes", "first_part")
