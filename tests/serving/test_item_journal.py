"""The journal of the items: whole lines, whoever writes and whenever somebody is killed."""

import multiprocessing
from pathlib import Path

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.item_journal import ItemJournal
from seqrec_cli.serving.item_lines import Change


def change(nth: int) -> Change:
    return {"op": "put", "item": nth, "like": [1]}


def test_readers_get_every_line_once_in_the_order_of_writing(tmp_path: Path) -> None:
    one, two = ItemJournal(tmp_path / "state", "toy"), ItemJournal(tmp_path / "state", "toy")
    assert not one.grown()
    for nth in range(6):
        (one if nth % 2 else two).append(change(nth))
        assert one.grown()
        assert [each["item"] for each in one.read()] == [nth]
        assert not one.grown()
    assert [each["item"] for each in two.read()] == list(range(6))
    assert [each["item"] for each in ItemJournal(tmp_path / "state", "toy").read()] == list(range(6))


def _write(folder: Path, first: int) -> None:
    journal = ItemJournal(folder, "toy")
    for nth in range(first, first + 50):
        journal.append({**change(nth), "title": "x" * 3000})


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    reader, seen = ItemJournal(tmp_path, "toy"), list[int]()
    processes = [multiprocessing.get_context("spawn").Process(target=_write, args=(tmp_path, n)) for n in (0, 100)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        seen += [each["item"] for each in reader.read()]
    seen += [each["item"] for each in reader.read()]
    assert sorted(seen) == [*range(50), *range(100, 150)]
    assert [n for n in seen if n < 100] == list(range(50))


def test_a_line_without_an_end_is_nobodys_and_is_cut_off(tmp_path: Path) -> None:
    journal = ItemJournal(tmp_path, "toy")
    journal.append(change(0))
    with journal.path.open("ab") as file:
        file.write(b'{"item": 1')  # its writer was killed
    assert [each["item"] for each in journal.read()] == [0]
    assert journal.read() == []
    ItemJournal(tmp_path, "toy").append(change(2))
    assert [each["item"] for each in journal.read()] == [2]
    assert journal.path.read_text().count("\n") == 3


def test_what_is_no_journal_of_the_data_is_refused(tmp_path: Path) -> None:
    journal = ItemJournal(tmp_path / "a", "toy")
    with pytest.raises(SeqrecError, match="its items are of dataset=toy, the run is of dataset=other"):
        ItemJournal(tmp_path / "a", "other")
    journal.path.write_bytes(journal.path.read_bytes() + b"not json\n")
    with pytest.raises(SeqrecError, match=r"items\.jsonl: line 2 is damaged"):
        ItemJournal(tmp_path / "a", "toy").read()
    journal.path.write_text("something else\n")
    with pytest.raises(SeqrecError, match=r"items\.jsonl is no journal of this version"):
        ItemJournal(tmp_path / "a", "toy")
    (tmp_path / "file").write_text("")
    with pytest.raises(SeqrecError, match=r"state=.*file.*: cannot be written"):
        ItemJournal(tmp_path / "file" / "b", "toy")


@pytest.mark.parametrize("line", ["not json", "[]", '{"op": "zap", "item": 1}', '{"op": "put", "item": 1}'])
def test_what_stands_before_a_damaged_line_is_read_and_the_line_is_named(line: str, tmp_path: Path) -> None:
    journal = ItemJournal(tmp_path, "toy")
    journal.append(change(0))
    with journal.path.open("a") as file:
        file.write(line + "\n")
    journal.append(change(1))
    assert [each["item"] for each in journal.read()] == [0]
    for _ in range(2):
        with pytest.raises(SeqrecError, match=r"items\.jsonl: line 3 is damaged; mend or delete it"):
            journal.read()
