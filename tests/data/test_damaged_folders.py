"""Data folders that are not what was written: one line that names the folder, what is wrong, and the remedy."""

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_helpers import dataset, protocol

from seqrec_cli.commands import preprocess
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import PreprocessConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data import integrity
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.protocols.view.build import with_view

REFUSED = r"is damaged \(.*\); delete it, and it is (built|made) again$"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """(cfg, data_dir) of 20 users of 8 events, with every kind of array, and the folder of leave-last's view."""
    folder = tmp_path_factory.mktemp("built")
    rng, lines = np.random.default_rng(0), ["user,item,time,rating,genre,age,device"]
    for user in range(20):
        for step, item in enumerate(rng.permutation(30)[:8]):
            lines.append(f"{user},{item},{60 * user + step},{1 + step % 5},g{item % 4},a{user % 3},d{step % 2}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    cfg = dataset(
        "csv",
        archive=folder / "log.csv",
        rating_column="rating",
        item_attribute_columns=["genre"],
        user_attribute_columns=["age"],
        context_columns=["device"],
    )
    opened(cfg, folder / "data")
    return cfg, folder / "data"


@functools.cache
def asked() -> Any:
    return protocol("leave_last")


def opened(cfg: Any, data: Path) -> PackedLog:
    return with_view(prepare(cfg, data, lambda _: None), asked(), lambda _: None)


def change(path: Path, edit: Callable[[np.ndarray], Any]) -> None:
    """Another array under the name; the edit may work in place."""
    array = np.load(path)
    edited = edit(array)
    np.save(path, array if edited is None else edited)


def put(at: int, value: float) -> Callable[[np.ndarray], None]:
    def edit(array: np.ndarray) -> None:
        array.reshape(-1)[at] = value

    return edit


def zero_page(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))


def fact(name: str, value: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest[name] = value
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edit


def swap(one: str, other: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / one).rename(folder / "kept")
        (folder / other).rename(folder / one)
        (folder / "kept").rename(folder / other)

    return edit


ARRAYS = ("offsets", "items", "times", "ratings", "context", "item_genre", "user_age")
# Name: what is done to the log's folder. Those of the second table cannot be seen without checksums.
DAMAGE: dict[str, Callable[[Path], Any]] = {
    **{f"{name} empty": lambda folder, name=name: (folder / f"{name}.npy").write_bytes(b"") for name in ARRAYS},
    **{f"{name} cut": lambda folder, name=name: os.truncate(folder / f"{name}.npy", 150) for name in ARRAYS},
    **{
        f"{name} zero": lambda folder, name=name: (folder / f"{name}.npy").write_bytes(
            bytes((folder / f"{name}.npy").stat().st_size)
        )
        for name in ARRAYS
    },
    "offsets gone": lambda folder: (folder / "offsets.npy").unlink(),
    "items gone": lambda folder: (folder / "items.npy").unlink(),
    "times gone": lambda folder: (folder / "times.npy").unlink(),
    "context gone": lambda folder: (folder / "context.npy").unlink(),
    "genre gone": lambda folder: (folder / "item_genre.npy").unlink(),
    "a page of items zero": lambda folder: zero_page(folder / "items.npy"),
    "a page of offsets zero": lambda folder: zero_page(folder / "offsets.npy"),
    "item beyond": lambda folder: change(folder / "items.npy", put(3, 31)),
    "item below": lambda folder: change(folder / "items.npy", put(3, -1)),
    "offsets fall": lambda folder: change(folder / "offsets.npy", put(3, 0)),
    "offsets beyond": lambda folder: change(folder / "offsets.npy", put(-1, 1000)),
    "genre beyond": lambda folder: change(folder / "item_genre.npy", put(3, 99)),
    "age below": lambda folder: change(folder / "user_age.npy", put(3, -5)),
    "device beyond": lambda folder: change(folder / "context.npy", put(3, 9)),
    "rating nan": lambda folder: change(folder / "ratings.npy", put(3, np.nan)),
    "items as fractions": lambda folder: change(folder / "items.npy", lambda a: a.astype(np.float32)),
    "items in two columns": lambda folder: change(folder / "items.npy", lambda a: a.reshape(-1, 2)),
    "one event less": lambda folder: change(folder / "times.npy", lambda a: a[:-1]),
    "one item less": lambda folder: change(folder / "item_genre.npy", lambda a: a[:-1]),
    "objects": lambda folder: np.save(folder / "items.npy", np.array([{}] * 3, object), allow_pickle=True),
    "files swapped": swap("item_genre.npy", "user_age.npy"),
    "times for items": swap("items.npy", "times.npy"),
    "format": fact("format", 99),
    "more users": fact("users", 21),
    "fewer items": fact("items", 5),
    "other events": fact("events", 100),
    "attributes no list": fact("item_attributes", 7),
    "attribute unknown": fact("user_attributes", [["shoe", 3, 1]]),
    "other settings": fact("settings", {"name": "csv"}),
    "manifest cut": lambda folder: os.truncate(folder / "manifest.json", 100),
    "manifest empty": lambda folder: (folder / "manifest.json").write_bytes(b""),
    "manifest binary": lambda folder: (folder / "manifest.json").write_bytes(bytes(range(256))),
    "manifest a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest of nothing": lambda folder: (folder / "manifest.json").write_text("{}"),
}
UNSEEN_WITHOUT_CHECKSUMS: dict[str, Callable[[Path], Any]] = {
    "another item": lambda folder: change(folder / "items.npy", put(3, 1 + np.load(folder / "items.npy")[3] % 30)),
    "another time": lambda folder: change(folder / "times.npy", put(3, 7)),
    "ids cut": lambda folder: os.truncate(folder / "items.parquet", 50),
    "ids gone": lambda folder: (folder / "users.parquet").unlink(),
    "another text": fact("order", "by time, or so"),
}


def copied(built: tuple[Any, Path], tmp_path: Path, *, sealed: bool) -> tuple[Any, Path, Path]:
    """(cfg, data_dir, folder) of a copy, as this version writes it or as earlier ones did."""
    cfg, data = built
    shutil.copytree(data, tmp_path / "data")
    (folder,) = (path.parent for path in (tmp_path / "data").glob("csv-*/manifest.json"))
    for path in () if sealed else folder.rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest[integrity.FILES], manifest[integrity.SEAL]
        path.write_text(json.dumps(manifest, indent=2))
    return cfg, tmp_path / "data", folder


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "older"])
@pytest.mark.parametrize("kind", [*DAMAGE, *UNSEEN_WITHOUT_CHECKSUMS])
def test_damage_is_named(built: tuple[Any, Path], tmp_path: Path, kind: str, sealed: bool) -> None:
    cfg, data, folder = copied(built, tmp_path, sealed=sealed)
    opened(cfg, data)  # opens, and what is read through is remembered
    (DAMAGE | UNSEEN_WITHOUT_CHECKSUMS)[kind](folder)
    if not sealed and kind in UNSEEN_WITHOUT_CHECKSUMS:
        return
    with pytest.raises(SeqrecError, match=REFUSED) as refused:
        opened(cfg, data)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)
    shutil.rmtree(folder)  # the remedy
    assert len(opened(cfg, data).items_N) == 160


VIEWS: dict[str, Callable[[Path], Any]] = {
    "train gone": lambda view: (view / "train.npy").unlink(),
    "train beyond": lambda view: change(view / "train.npy", put(0, 1000)),
    "rows beyond": lambda view: change(view / "test_rows.npy", put(0, 20)),
    "positions beyond": lambda view: change(view / "val_positions.npy", put(0, 160)),
    "offsets fall": lambda view: change(view / "val_offsets.npy", put(3, 0)),
    "candidates beyond": lambda view: change(view / "clicks_test_items.npy", put(0, 31)),
    "labels nan": lambda view: change(view / "clicks_val_labels.npy", put(0, np.nan)),
    "ends cut": lambda view: os.truncate(view / "test_ends.npy", 200),
    "manifest cut": lambda view: os.truncate(view / "manifest.json", 40),
}


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "older"])
@pytest.mark.parametrize("kind", VIEWS)
def test_a_damaged_view_is_named(built: tuple[Any, Path], tmp_path: Path, kind: str, sealed: bool) -> None:
    cfg, data, folder = copied(built, tmp_path, sealed=sealed)
    (view,) = (folder / "protocols").iterdir()
    opened(cfg, data)
    VIEWS[kind](view)
    with pytest.raises(SeqrecError, match=REFUSED) as refused:
        opened(cfg, data)
    assert str(view) in str(refused.value)
    shutil.rmtree(view)
    assert len(opened(cfg, data).view.test.rows_R) == 20


def test_contents_are_read_once_a_machine_or_when_asked(
    built: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, data, folder = copied(built, tmp_path, sealed=True)
    read: list[str] = []
    hashed = integrity._hash
    monkeypatch.setattr(integrity, "_hash", lambda path: (read.append(path.name), hashed(path))[1])
    prepare(cfg, data, lambda _: None)
    assert "items.npy" in read
    read.clear()
    prepare(cfg, data, lambda _: None)
    assert read == []
    prepare(cfg, data, lambda _: None, verify=True)
    assert "items.npy" in read
    stat = (folder / "items.npy").stat()
    change(folder / "items.npy", put(0, 1 + np.load(folder / "items.npy")[0] % 30))
    os.utime(folder / "items.npy", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a disk's fault has no time
    prepare(cfg, data, lambda _: None)
    with pytest.raises(SeqrecError, match=r"items\.npy has other bytes than were written"):
        prepare(cfg, data, lambda _: None, verify=True)


@pytest.mark.parametrize(("file", "says"), [("items.npy", "items"), ("protocols/*/test_rows.npy", "test_rows")])
def test_verify_reads_the_log_and_its_view_through(
    built: tuple[Any, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, says: str
) -> None:
    cfg, data, folder = copied(built, tmp_path, sealed=True)
    (path,) = folder.glob(file)
    plain = validate("preprocess", compose("preprocess", []))
    assert isinstance(plain, PreprocessConfig)
    asks = plain.model_copy(update={"dataset": cfg, "protocol": asked(), "data_dir": str(data)})
    verify = asks.model_copy(update={"verify": True})
    assert preprocess.main(verify)["events"] == 160
    assert "every byte is as it was written" in capsys.readouterr().out
    stat, array = path.stat(), np.load(path)
    change(path, put(0, array[1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    preprocess.main(asks)
    with pytest.raises(SeqrecError, match=rf"{says}\.npy has other bytes than were written"):
        preprocess.main(verify)


def test_without_a_home_everything_is_read_every_time(
    built: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, data, _ = copied(built, tmp_path, sealed=True)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert prepare(cfg, data, lambda _: None).num_users == 20
