"""What is written appears whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec_cli import files
from seqrec_cli.files import atomic_file, atomic_folder, write_atomically


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "old")
    with atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert contents(tmp_path) == {"a.txt": "new"}


def test_a_file_whose_writing_fails_stays_as_it_was(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "old")

    def write_half() -> None:
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk gone")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert contents(tmp_path) == {"a.txt": "old"}


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new" / "a") as temporary:
        (temporary / "x").write_text("1")
        assert not (tmp_path / "new" / "a").exists()
    assert contents(tmp_path) == {"new/a/x": "1"}

    def write_half() -> None:
        with atomic_folder(tmp_path / "b") as temporary:
            (temporary / "x").write_text("2")
            raise RuntimeError("disk gone")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert contents(tmp_path) == {"new/a/x": "1"}


def test_a_folder_is_replaced_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("1")
    with pytest.raises(OSError, match="a"), atomic_folder(tmp_path / "a") as temporary:
        (temporary / "x").write_text("2")
    assert contents(tmp_path) == {"a/mine": "1"}
    with atomic_folder(tmp_path / "a", replace=True) as temporary:
        (temporary / "x").write_text("2")
    assert contents(tmp_path) == {"a/x": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own, gone = f".a.{files._machine()}.{os.getpid()}.0123abcd.tmp", f".a.{files._machine()}.{dead.pid}.0123abcd.tmp"
    kept = [own, ".a.00000000.7.0123abcd.tmp", ".b.7.0123abcd.tmp", "c.tmp", ".d.7.tmp", ".e"]
    for name in kept:
        (tmp_path / name).write_text("x")
    (tmp_path / gone).mkdir()
    (tmp_path / gone / "items.npy").write_text("x")
    assert [path.name for path in files.sweep(tmp_path)] == [gone]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    for name in kept:  # another machine's, and an earlier version's, after a day; never a living process's own
        os.utime(tmp_path / name, (0, 0))
    assert sorted(path.name for path in files.sweep(tmp_path)) == sorted(kept[1:3])


def test_names_of_temporary_files_are_those_that_are_swept(tmp_path: Path) -> None:
    found = files._LEFT_OVER.match(files._temporary(tmp_path / "ml-1m-0a1b.2").name)
    assert found is not None
    assert (found["machine"], int(found["process"])) == (files._machine(), os.getpid())


def test_a_disk_that_is_full_is_told_with_the_name_that_was_to_be_written(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(28, "full")  # as `write` does, without a name

    with pytest.raises(OSError, match="full") as failed:
        write_half()
    assert failed.value.filename == str(tmp_path / "a.txt")
    assert contents(tmp_path) == {}
