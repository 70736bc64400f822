"""Lines without effect leave the journal of the items: nobody sees it, and a kill at any moment loses nothing."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving import item_compaction
from seqrec_cli.serving.item_compaction import MARK, compacted
from seqrec_cli.serving.item_journal import ItemJournal
from seqrec_cli.serving.item_lines import Change

NEVER = 10**9


def put(item: Any, seed: int = 0) -> Change:
    return {"op": "put", "item": item, "vector": [float(seed)]}


def like(item: Any, *others: Any) -> Change:
    return {"op": "put", "item": item, "like": list(others)}


def drop(item: Any) -> Change:
    return {"op": "delete", "item": item}


class Items:
    """What the items are after changes, worked out naively: of every item what its vector was made of."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {}

    def apply(self, changes: list[Change]) -> "Items":
        for change in changes:
            item = str(change["item"])
            if change["op"] == "delete":
                self.now[item] = None
            elif "like" in change:
                self.now[item] = ["mean of", *(self.now.get(str(each)) for each in change["like"])]
            else:
                self.now[item] = change["vector"]
        return self


def compact(journal: ItemJournal) -> None:
    with journal.path.open("r+b") as file:
        assert compacted(file, journal.path, 0) is not None


def some_changes(seed: int, count: int) -> list[Change]:
    draw = random.Random(seed)
    made = list[Change]()
    for step in range(count):
        item = draw.randrange(6)
        kind = draw.random()
        if kind < 0.2:
            made.append(drop(item))
        elif kind < 0.6:
            made.append(like(item, *draw.choices(range(6), k=2)))
        else:
            made.append(put(item, step))
    return made


@pytest.mark.parametrize("seed", range(6))
def test_readers_wherever_they_were_end_with_the_same_items(seed: int, tmp_path: Path) -> None:
    changes = some_changes(seed, 60)
    writer = ItemJournal(tmp_path, "toy")
    readers = [(ItemJournal(tmp_path, "toy"), Items(), random.Random(100 * seed + nth)) for nth in range(4)]
    for nth, change in enumerate(changes):
        writer.append(change)
        if nth in (20, 21, 45):
            compact(writer)
        for reader, items, draw in readers:
            if draw.random() < 0.1 and reader.grown():
                items.apply(reader.read())
    expected = Items().apply(changes).now
    for reader, items, _ in readers:
        assert items.apply(reader.read()).now == expected
        assert not reader.grown()
    assert Items().apply(ItemJournal(tmp_path, "toy").read()).now == expected
    assert writer.path.read_text().count("\n") < len(changes)


def test_what_stays_are_last_lines_and_what_likes_rest_on(tmp_path: Path) -> None:
    journal = ItemJournal(tmp_path, "toy")
    changes = [
        put("a", 1),
        put("a", 2),
        like("b", "a", 7),
        put("a", 3),
        put("c", 4),
        drop("c"),
        put("d"),
        like("d", "d"),
    ]
    for change in changes:
        journal.append(change)
    compact(journal)
    head, *lines = map(json.loads, journal.path.read_text().splitlines())
    assert [(line["item"], line["nth"]) for line in lines] == [
        ("a", 2), ("b", 3), ("a", 4), ("c", 6), ("d", 7), ("d", 8),
    ]  # fmt: skip
    assert (head["generation"], head["lines"], head["dataset"]) == (1, 6, "toy")


def test_it_happens_at_so_many_lines_and_then_at_twice_as_many_as_were_left(tmp_path: Path) -> None:
    journal, lines = ItemJournal(tmp_path, "toy", compact_at=10), list[int]()
    for nth in range(40):
        journal.append(put(nth % 8, nth))
        journal.read()
        lines.append(journal.path.read_text().count("\n") - 1)
    assert lines[:9] == list(range(1, 10))
    assert lines[9] == 8
    assert max(lines) <= 16
    assert lines.count(8) >= 4


def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends at the first, second, third... call that changes a file."""
    changes = some_changes(9, 30)
    expected = Items().apply(changes).now
    for moment in range(1, 20):
        folder = tmp_path / str(moment)
        journal = ItemJournal(folder, "toy")
        for change in changes:
            journal.append(change)
        reader = ItemJournal(folder, "toy")
        of_reader = Items().apply(reader.read())
        left = [moment]

        def counted(call: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def killed(*given: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] <= 0:
                    raise KeyboardInterrupt
                return call(*given, **named)

            return killed

        with monkeypatch.context() as patched:
            patched.setattr(item_compaction.os, "fsync", counted(os.fsync))
            patched.setattr(item_compaction, "_line", counted(item_compaction._line))
            patched.setattr(Path, "replace", counted(Path.replace))
            try:
                compact(journal)
                done = True
            except KeyboardInterrupt:
                done = False
        assert Items().apply(ItemJournal(folder, "toy").read()).now == expected
        later = ItemJournal(folder, "toy")
        later.append(put("later"))
        compact(later)
        assert of_reader.apply(reader.read()).now == {**expected, "later": [0.0]}
        if done:
            return
    raise AssertionError("never done")


def test_a_damaged_journal_stays_as_it_is(tmp_path: Path) -> None:
    journal = ItemJournal(tmp_path, "toy")
    for nth in range(5):
        journal.append(put(1, nth))
    whole = journal.path.read_bytes()
    for damage in (b"no json\n", b'{"op": "put", "item'):
        journal.path.write_bytes(whole + damage)
        with journal.path.open("r+b") as file:
            assert compacted(file, journal.path, 0) is None
        assert journal.path.read_bytes() == whole + damage


def test_a_deleted_file_is_written_again_with_all_its_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = ItemJournal(tmp_path / "s", "toy"), ItemJournal(tmp_path / "s", "toy")
    one.append(put("a"))
    assert [each["item"] for each in one.read()] == ["a"]
    one.append(put("b"))  # which nobody has read
    one.path.unlink()
    assert one.grown()
    assert [each["item"] for each in one.read()] == ["b"]
    assert not one.grown()
    assert [each["item"] for each in two.read()] == ["a", "b"]
    assert not two.grown()
    (said,) = caplog.messages
    assert said.endswith("items.jsonl was deleted under the service, and is written again with all its changes")
    shutil.rmtree(tmp_path / "s")
    two.append(put("c"))  # before it looked
    assert [each["item"] for each in ItemJournal(tmp_path / "s", "toy").read()] == ["a", "b", "c"]
    assert [each["item"] for each in one.read()] == ["c"]


def test_who_has_an_older_copy_does_not_write_that_one(tmp_path: Path) -> None:
    idle, busy = ItemJournal(tmp_path, "toy"), ItemJournal(tmp_path, "toy")
    busy.append(put("a"))
    compact(busy)
    busy.append(put("b"))
    busy.read()
    busy.path.unlink()
    assert not idle.grown()
    with pytest.raises(OSError, match="another process has the newer copy"):
        idle.append(put("c"))
    assert busy.grown()
    assert [each["item"] for each in idle.read()] == ["a", "b"]
    idle.append(put("c"))
    # A process that was killed between the mark and the new file leaves the old one, which is the newest.
    with busy.path.open("ab") as file:
        file.write(json.dumps({MARK: 2}).encode() + b"\n")
    idle.append(put("d"))
    assert [each["item"] for each in idle.read()] == ["c", "d"]
    idle.path.unlink()
    assert idle.grown()
    assert [each["item"] for each in ItemJournal(tmp_path, "toy").read()] == ["a", "b", "c", "d"]


def test_a_file_that_was_cut_or_exchanged_is_told_of(tmp_path: Path) -> None:
    journal = ItemJournal(tmp_path / "s", "toy")
    for nth in range(3):
        journal.append(put(nth))
    journal.read()
    whole = journal.path.read_bytes()
    os.truncate(journal.path, len(whole) - 30)
    assert journal.grown()
    with pytest.raises(SeqrecError, match="it was cut while the service ran; start the service anew"):
        journal.read()
    ItemJournal(tmp_path / "other", "toy").path.replace(journal.path)
    with pytest.raises(SeqrecError, match="another file took its place; start the service anew to take its items"):
        journal.read()


def test_a_folder_that_takes_no_file_is_said_once_and_changes_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = ItemJournal(tmp_path / "s", "toy")
    journal.append(put("a"))
    journal.read()
    shutil.rmtree(tmp_path / "s")
    (tmp_path / "s").write_text("a file")
    for _ in range(3):
        assert not journal.grown()
    assert [message.count("cannot be written again") for message in caplog.messages] == [1]
    with pytest.raises(OSError, match="s"):
        journal.append(put("b"))
    (tmp_path / "s").unlink()
    journal.append(put("b"))
    assert [each["item"] for each in journal.read()] == ["b"]
    assert [each["item"] for each in ItemJournal(tmp_path / "s", "toy").read()] == ["a", "b"]
