"""What is written appears whole or not at all."""

from pathlib import Path

import pytest

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
