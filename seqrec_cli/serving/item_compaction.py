"""Takes lines without effect out of the journal of the items.

What an item is follows from its last line, and from the lines that its `like` looked up when it was written; all others
are left out. Lines that stay say which change they are (`nth`), so that a reader that was in the middle of the old file
goes on in the new one with exactly those that it has not read.

A process may be killed at any moment: the new file is whole on the disk before it takes the old one's name. Before that
the old one gets a line (`superseded`) by which whoever still has it open knows that there is a newer one.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from seqrec_cli.serving.item_lines import Change, change_of, head_of

MARK = "superseded"  # by this generation
NTH = "nth"


@dataclass(frozen=True)
class Compaction:
    """What became of a journal."""

    lines: int
    left_out: int


def compacted(file: IO[bytes], path: Path, at_least: int) -> Compaction | None:
    """Write the journal that is open in `file` anew, in the place of `path`, under the lock. None, and nothing is done,
    where it has fewer lines, or fewer than twice those that were left the last time (0: whatever it has), or where one
    is damaged or without an end. Raises OSError."""
    file.seek(0)
    head = head_of(file.readline())
    lines, needed, changes = list[tuple[int, int]](), _Needed(), 0  # place and number of each change
    for place, line in _lines(file):
        change = change_of(line) if line.endswith(b"\n") else None
        if change is not None:
            changes = change.get(NTH, changes + 1)
            lines.append((place, changes))
            needed.add(change)
        elif MARK not in head_of(line):
            return None
    if at_least and len(lines) < max(at_least, 2 * head.get("lines", 0)):
        return None
    kept = [lines[at] for at in sorted(needed.lines())]
    generation = head.get("generation", 0) + 1
    new = path.with_suffix(".compacted")
    with new.open("wb") as target:
        target.write(_line({**head, "generation": generation, "lines": len(kept)}))
        for place, nth in kept:
            file.seek(place)
            target.write(_line({**head_of(file.readline()), NTH: nth}))
        target.flush()
        os.fsync(target.fileno())
    file.seek(0, os.SEEK_END)
    file.write(_line({MARK: generation}))
    file.flush()
    os.fsync(file.fileno())
    new.replace(path)
    _sync_folder(path.parent)
    return Compaction(len(lines), len(lines) - len(kept))


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The rest of a file, with each line's place."""
    place = file.tell()
    for line in iter(file.readline, b""):
        yield place, line
        place += len(line)


class _Needed:
    """Which of the changes that were added the items rest on."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}  # the line of an item
        self._rests_on: dict[int, list[int]] = {}  # lines that a line's `like` looked up
        self._count = 0

    def add(self, change: Change) -> None:
        looked_up = [self._latest[str(item)] for item in change.get("like") or () if str(item) in self._latest]
        if looked_up:
            self._rests_on[self._count] = looked_up
        self._latest[str(change["item"])] = self._count
        self._count += 1

    def lines(self) -> set[int]:
        """From 0."""
        found, left = set[int](), list(self._latest.values())
        while left:
            line = left.pop()
            if line not in found:
                found.add(line)
                left += self._rests_on.get(line, [])
        return found


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk, where the system has such a call."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
