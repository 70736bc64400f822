"""Ways of a log larger than memory: from elsewhere, compressed, after a kill, in little memory, refused."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_helpers import dataset
from pydantic import ValidationError
from test_large_log import ROWS, as_csv, as_parts, same, small_batches, table

from seqrec_cli import cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.large import build, choose, duck, room, staging
from seqrec_cli.data.preprocess import prepare

pytest.importorskip("duckdb")
__all__ = ["small_batches"]
DROP = {"duplicates": "drop"}
SHORT = room.ShortageError("short")


def prepared(folder: Path, archive: Path | str, said: list[str] | None = None, **values: Any) -> PackedLog:
    values = {"engine": "duckdb", "archive": archive} | DROP | values
    return prepare(dataset("csv", **values), folder / "data", (said if said is not None else []).append)


def refusal(folder: Path, archive: Path | str, **values: Any) -> str:
    with pytest.raises(SeqrecError) as caught:
        prepared(folder, archive, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_glob_of_compressed_text_is_read_in_parts(tmp_path: Path) -> None:
    import gzip

    folder = tmp_path / "logs"
    for part in range(3):
        text = as_csv(tmp_path / "one", table(part).slice(0, 200)).read_bytes()
        folder.mkdir(exist_ok=True)
        (folder / f"part-{part}.csv.gz").write_bytes(gzip.compress(text))
    found = same(tmp_path, archive=f"{folder}/*.csv.gz", **DROP)
    assert json.loads((found / "manifest.json").read_text())["filters"][0]["events"] == 600


def test_lists_and_blanks_and_gaps_are_told_as_in_memory(tmp_path: Path) -> None:
    lists = pa.table(
        {
            "user": [f"u{k}" for k in range(90)],
            "item": [[f"i{(k * j) % 17}" for j in range(k % 5)] for k in range(90)],
            "time": [[1_500_000_000 + k + j for j in range(k % 5)] for k in range(90)],
        }
    )
    pq.write_table(lists, tmp_path / "lists.parquet")
    same(tmp_path, archive=tmp_path / "lists.parquet", duplicates="keep")
    rows = [
        f"{' ' * (k % 3 == 0)}u{k % 9},{'NA' if k % 50 == 7 else f'i{k % 11}'},{1_500_000_000 + k}" for k in range(300)
    ]
    (tmp_path / "odd.csv").write_text("\n".join(["user,item,time", *rows]) + "\n", encoding="utf-8")
    same(tmp_path, archive=tmp_path / "odd.csv", missing="drop", **DROP)


def test_ids_that_are_numbers_in_some_parts_are_text_in_all(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for part, ids in enumerate(([7, 8, 9, 70], ["7", "x", "9", "y"])):
        pq.write_table(
            pa.table({"user": ids, "item": [1, 2, 3, part], "time": [5, 6, 7, 8]}), tmp_path / f"log/{part}.parquet"
        )
    same(tmp_path, archive=tmp_path / "log", duplicates="keep")


def test_a_log_elsewhere_has_the_bytes_of_a_local_one(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    local = as_parts(tmp_path / "log", table())
    store = fsspec.filesystem("memory")
    store.put(str(local), "/bucket/log", recursive=True)
    try:
        elsewhere = same(tmp_path, archive="memory://bucket/log", **DROP)
        here = prepared(tmp_path, local)
        assert here.folder is not None
        assert (here.folder / "items.npy").read_bytes() == (elsewhere / "items.npy").read_bytes()
        assert here.folder.name == elsewhere.name
        same(tmp_path / "glob", archive="memory://bucket/log/*/*.parquet", **DROP)
        store.pipe("/bucket/one.csv", as_csv(tmp_path / "text", table()).read_bytes())
        same(tmp_path / "one", archive="memory://bucket/one.csv", **DROP)
        assert "memory://bucket/none*: there is no such file" in refusal(tmp_path, "memory://bucket/none*")
        store.pipe("/bucket/torn.parquet", b"PAR1 and no more")
        assert "torn.parquet cannot be read" in refusal(tmp_path, "memory://bucket/torn.parquet")
    finally:
        store.rm("/bucket", recursive=True)


def test_files_here_are_read_by_fsspecs_own_local_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`local://` is its name there; `file://` and paths are opened without fsspec."""
    pytest.importorskip("fsspec")
    from fsspec.implementations.local import LocalFileSystem

    folder = as_parts(tmp_path / "log", table())
    opened: list[str] = []
    open_file = LocalFileSystem.open

    def counted(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        opened.append(Path(path).relative_to(folder).as_posix())
        return open_file(self, path, *args, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "open", counted)
    found = same(tmp_path, archive=f"local://{folder.as_posix()}/*/*.parquet", **DROP)
    assert set(opened) == {f"chunk={part}/part-0.parquet" for part in range(3)}
    opened.clear()
    here = prepared(tmp_path / "here", folder / "*" / "*.parquet")
    assert opened == []
    assert here.folder is not None
    assert here.folder.name == found.name
    assert (here.folder / "items.npy").read_bytes() == (found / "items.npy").read_bytes()


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_bucket_without_its_package_is_one_line(
    scheme: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.delitem(registry._registry, scheme, raising=False)  # where another test has opened one
    monkeypatch.setitem(sys.modules, package, None)  # not to be imported
    words = ["dataset=csv", f"dataset.archive={scheme}://bucket/log/*.parquet", f"data_dir={tmp_path}"]
    assert cli.main(["preprocess", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"dataset.archive={scheme}://bucket/log/*.parquet is an address, and cannot be opened: " in line
    assert package in line


def test_an_address_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    assert "nowhere://bucket/x is an address, and cannot be opened" in refusal(tmp_path, "nowhere://bucket/x")


def test_after_a_kill_finished_stages_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = as_parts(tmp_path / "log", table())
    whole = same(tmp_path, archive=archive, **DROP)
    read: list[str] = []
    batches = staging.batches

    def counted(part: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(part.name)
        if len(read) == 3:
            raise KeyboardInterrupt
        return batches(part, *args, **kwargs)

    monkeypatch.setattr(staging, "batches", counted)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, archive)
    monkeypatch.setattr(build, "finish", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, archive)
    assert len(read) == 4, "the two parts that were staged are not read again"
    monkeypatch.undo()
    small(monkeypatch)
    monkeypatch.setattr(staging, "batches", lambda *args, **kwargs: pytest.fail("a staged part is read again"))
    monkeypatch.setattr(duck.Duck, "ordered", lambda *args: pytest.fail("ordered rows are ordered again"))
    found = prepared(tmp_path, archive)
    assert found.folder is not None
    assert (found.folder / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert not list((tmp_path / "data").glob(".*.work"))


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LEAST", 64)
    monkeypatch.setattr(room, "MOST", 64)


def test_a_staged_file_that_is_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = as_parts(tmp_path / "log", table())
    whole = same(tmp_path, archive=archive, **DROP)
    monkeypatch.setattr(build, "open_engine", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, archive)
    staged = sorted((tmp_path / "data").glob(".*.work/staged/*.parquet"))
    assert len(staged) > 3
    staged[1].write_bytes(staged[1].read_bytes()[:-9] + b"123456789")
    monkeypatch.undo()
    small(monkeypatch)
    found = prepared(tmp_path, archive)
    assert found.folder is not None
    assert (found.folder / "items.npy").read_bytes() == (whole / "items.npy").read_bytes()


def test_memory_and_disk_reach_the_engine_and_too_little_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = as_parts(tmp_path / "log", table())
    given: list[dict[str, int]] = []
    engine = build.open_engine

    def watched(*args: Any, **kwargs: int) -> Any:
        given.append(kwargs)
        return engine(*args, **kwargs)

    monkeypatch.setattr(build, "open_engine", watched)
    prepared(tmp_path, archive, memory="1.5GiB")
    assert given[0]["memory"] == 3 << 29
    assert given[0]["disk"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    monkeypatch.setattr(room.Room, "free", lambda self, folder: 1000)
    said = refusal(tmp_path, archive, name="other")
    monkeypatch.setattr(room.Room, "free", lambda self, folder: 1 << 40)
    monkeypatch.setattr(room.Room, "refuse_small_disk_for_sorting", lambda *args: (_ for _ in ()).throw(SHORT))
    assert refusal(tmp_path, archive, name="another") == "short"
    assert list((tmp_path / "data").glob(".another-*.work/staged/*.parquet")), "stages outlast a shortage"
    assert said.startswith("preprocessing this log may take ")
    assert "GiB are free in" in said


@pytest.mark.parametrize(("engine", "lacks"), [("duckdb", "DuckDB"), ("spark", "PySpark is not installed")])
def test_a_missing_engine_is_told_before_a_row_is_read(
    engine: str, lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = as_csv(tmp_path / "log", table())
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(build, "Staging", lambda *args, **kwargs: pytest.fail("rows are read"))
    assert lacks in refusal(tmp_path, archive, engine=engine)


def test_less_memory_than_any_engine_takes_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    prepared(tmp_path, as_csv(tmp_path / "log", table()), said, memory="1MiB")
    assert any("dataset.memory=1MiB is less than the 192 MiB that an engine" in line for line in said)


def test_a_log_chooses_its_engine_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = as_csv(tmp_path / "log", table())
    said: list[str] = []
    prepared(tmp_path, archive, said, engine="auto")
    assert not any("DuckDB" in line for line in said)
    shutil.rmtree(tmp_path / "data")
    prepared(tmp_path, archive, said, engine="auto", memory="200KiB", user_core=1)
    assert any("it is preprocessed by DuckDB on disk" in line for line in said)
    assert f"{ROWS:,} rows in order" in " ".join(said)
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda name: None)
    prepared(tmp_path, archive, said, engine="auto", memory="200KiB", user_core=2)
    assert sum("needs DuckDB, which is not installed (pip install 'seqrec[large]')" in line for line in said) == 1


def test_what_the_engine_does_not_do_is_refused(tmp_path: Path) -> None:
    archive = as_csv(tmp_path / "log", table())
    said = refusal(tmp_path, archive, sequence_separator=" ")
    assert said == "dataset.engine=duckdb does not read dataset.sequence_separator; set dataset.engine=memory"
    with pytest.raises(SeqrecError, match=r"reads dataset=csv, not dataset.source=sequences"):
        prepare(dataset("sequences", engine="duckdb", archive=archive), tmp_path / "data", lambda line: None)


@pytest.mark.parametrize(
    ("text", "size"), [("8GiB", 8 << 30), ("1.5 GiB", 3 << 29), ("500MB", 500_000_000), ("2TB", 2 * 10**12)]
)
def test_memory_is_written_with_its_unit(text: str, size: int) -> None:
    assert dataset("csv", memory=text).memory_bytes == size


@pytest.mark.parametrize("values", [{"memory": "8"}, {"memory": "lots"}, {"memory": "1GiB", "engine": "memory"}])
def test_memory_that_is_no_size_or_is_not_kept_to_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="memory"):
        dataset("csv", **values)


def test_bad_parts_are_named_in_one_line(tmp_path: Path) -> None:
    archive = as_parts(tmp_path / "log", table())
    last = archive / "chunk=2" / "part-0.parquet"
    pq.write_table(table().slice(600, 300).drop_columns(["item"]), last)
    said = refusal(tmp_path, archive)
    assert "chunk=2/part-0.parquet has no column 'item'" in said
    assert "all parts of log have the same columns" in said
    last.write_bytes(last.read_bytes()[:-20])
    said = refusal(tmp_path, archive)
    assert "chunk=2/part-0.parquet cannot be read" in said
    assert said.endswith("; copy that part again, or take it out of the folder")
    pq.write_table(table().slice(600, 300).set_column(3, "time", pa.array([None] + [1.0] * 299)), last)
    said = refusal(tmp_path, archive)
    assert "rows without one of user, item, time (time: empty 1)" in said
    assert "same columns" not in said
    assert "no file's name fits" in refusal(tmp_path, f"{tmp_path}/none/*.parquet")
    said = refusal(tmp_path, as_csv(tmp_path / "text", table()), duplicates="error")
    assert "rows repeat an earlier row (same user, item and time), the first is line" in said
    assert not list((tmp_path / "data").glob(".*.work")), "what was staged of refused files stays in the way of nothing"
