"""Logs that come split: train, valid and test by files or by a column; what is older than training is refused."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from dataset_helpers import build, dataset
from pydantic import ValidationError

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import vocabulary

START = 1_700_000_000
HISTORIES = {1: [5, 3, 8, 1, 9], 2: [8, 5, 1, 3], 3: [9, 8, 3, 5, 1]}
SPLITS = {"train": slice(None, -2), "valid": slice(-2, -1), "test": slice(-1, None)}
Event = tuple[int, int, int]
EVENTS = {
    split: [(u, i, START + 60 * k) for u, items in HISTORIES.items() for k, i in list(enumerate(items))[part]]
    for split, part in SPLITS.items()
}


def write(path: Path, events: list[Event], header: str = "user,item,time") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = "\t" if "\t" in header else ","
    path.write_text("\n".join([header, *(mark.join(map(str, event)) for event in events)]) + "\n", encoding="utf-8")
    return path


def files(folder: Path, events: dict[str, list[Event]] = EVENTS) -> dict[str, Path]:
    return {split: write(folder / f"{split}.csv", events[split]) for split in events}


def read(tmp_path: Path, archive: Path, option: str = "csv", **values: Any) -> PackedLog:
    return build(dataset(option, archive=archive, **values), tmp_path / "data", "given", click_negatives=1)


def asked(log: PackedLog) -> dict[str, list[tuple[list[Any], Any]]]:
    """Histories and answers of each split, by raw ids."""
    ids = vocabulary(log.folder, "items")[log.items_N - 1].tolist()  # type: ignore[arg-type]
    found = {}
    for split in ("val", "test"):
        targets = log.view.targets(split)  # type: ignore[arg-type,union-attr]
        ends = zip(targets.rows_R.tolist(), targets.ends_R.tolist(), strict=True)
        found[split] = [(ids[log.offsets_U1[row] : end], ids[end]) for row, end in ends]
    return found


LAST_TWO = {
    "val": [(items[:-2], items[-2]) for items in HISTORIES.values()],
    "test": [(items[:-1], items[-1]) for items in HISTORIES.values()],
}


@pytest.mark.parametrize("form", ["by name", "by folder", "by setting", "by column", "by number", "recbole"])
def test_each_form_asks_by_the_files_own_split(tmp_path: Path, form: str) -> None:
    values: dict[str, Any] = {}
    if form == "by setting":
        each = files(tmp_path / "parts")
        (tmp_path / "parts").rename(tmp_path / "moved")
        archive = tmp_path / "moved" / "train.csv"
        values = {f"{split}_file": tmp_path / "moved" / each[split].name for split in ("valid", "test")}
    elif form in ("by column", "by number"):
        words = {"train": "0", "valid": "1", "test": "2"} if form == "by number" else {split: split for split in SPLITS}
        rows = [(*event, words[split]) for split in ("test", "train", "valid") for event in EVENTS[split]]
        archive = write(tmp_path / "log.csv", rows, "user,item,time,part")  # type: ignore[arg-type]
        values = {"split_column": "part"}
    elif form == "recbole":
        archive = tmp_path / "ml"
        for split in EVENTS:
            write(archive / f"ml.{split}.inter", EVENTS[split], "user_id:token\titem_id:token\ttimestamp:float")
        values = {"user_column": "user_id", "item_column": "item_id", "time_column": "timestamp"}
    else:
        archive = tmp_path / "log"
        for split in EVENTS:
            write(archive / (f"{split}/part-0.csv" if form == "by folder" else f"{split}.csv"), EVENTS[split])
    log = read(tmp_path, archive, **values)
    assert asked(log) == LAST_TWO
    train_U = log.view.train_U - log.offsets_U1[:-1]  # type: ignore[union-attr]
    assert train_U.tolist() == [len(items) - 2 for items in HISTORIES.values()]
    assert any("the log's own split: train 8, valid 3, test 3 events" in note for note in log.manifest["notes"])


def test_several_events_of_a_user_may_test(tmp_path: Path) -> None:
    events = {"train": EVENTS["train"], "test": [*EVENTS["valid"], *EVENTS["test"]]}
    files(tmp_path / "log", events)
    with pytest.raises(SeqrecError, match=r"no event validates; set protocol\.validation=last_train_event"):
        read(tmp_path, tmp_path / "log")
    cfg = dataset("csv", archive=tmp_path / "log")
    log = build(cfg, tmp_path / "data", "given", click_negatives=1, validation="last_train_event", targets="all")
    view = log.view
    assert view is not None
    assert view.test.counts_R.tolist() == [2, 2, 2]
    assert asked(log)["val"] == [(items[:-3], items[-3]) for items in HISTORIES.values()]


@pytest.mark.parametrize("changed", [[("valid", 0)], [("test", 0), ("test", 2)]])
def test_held_out_events_older_than_training_are_refused_or_counted(
    tmp_path: Path, changed: list[tuple[str, int]]
) -> None:
    events = {split: list(rows) for split, rows in EVENTS.items()}
    for split, nth in changed:
        user, item, _ = events[split][nth]
        events[split][nth] = (user, item, START + 1)
    files(tmp_path / "log", events)
    with pytest.raises(
        SeqrecError, match=rf"^{len(changed)} of 6 events of valid and test are older .*split_leaks=true"
    ):
        read(tmp_path, tmp_path / "log")
    log = read(tmp_path, tmp_path / "log", split_leaks=True)
    assert asked(log) == LAST_TWO  # what trains comes first whatever the times
    assert f"{len(changed)} of 6 events" in log.manifest["notes"][-1]


def test_other_protocols_take_the_whole_log(tmp_path: Path) -> None:
    files(tmp_path / "log")
    whole = write(tmp_path / "all.csv", sorted(event for rows in EVENTS.values() for event in rows))
    split = build(dataset("csv", archive=tmp_path / "log"), tmp_path / "data", "leave_last", click_negatives=1)
    one = build(dataset("csv", archive=whole), tmp_path / "data", "leave_last", click_negatives=1)
    assert (split.items_N.tolist(), asked(split)) == (one.items_N.tolist(), asked(one))
    with pytest.raises(SeqrecError, match="protocol=given needs a log that is split"):
        read(tmp_path, whole)


def test_the_split_counts_in_the_fingerprint(tmp_path: Path) -> None:
    each = files(tmp_path / "log")
    values = {"archive": each["train"], "valid_file": each["valid"], "test_file": each["test"]}
    first = build(dataset("csv", **values), tmp_path / "data")
    moved = build(
        dataset("csv", **{**values, "test_file": each["valid"], "valid_file": each["test"], "split_leaks": True}),
        tmp_path / "data",
    )
    assert first.fingerprint != moved.fingerprint


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"split_column": "item"}, r"item is '5'.*say train, valid or test"),
        ({"valid_file": "/nowhere.csv"}, r"dataset\.valid_file=/nowhere\.csv: there is no such file"),
    ],
)
def test_what_is_no_split_is_named(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        read(tmp_path, write(tmp_path / "log.csv", EVENTS["train"]), **values)


@pytest.mark.parametrize("more", [{"split_column": "part"}, {"label_column": "label"}])
def test_one_split_at_a_time(more: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="split"):
        dataset("csv", test_file="test.csv", **more)


def test_lines_of_items_come_split_too(tmp_path: Path) -> None:
    """LightGCN's files: train.txt and test.txt, a user a line."""
    (tmp_path / "log").mkdir()
    for name, rows in (("train", EVENTS["train"]), ("test", [*EVENTS["valid"], *EVENTS["test"]])):
        by_user = groupby(sorted(rows, key=lambda event: (event[0], event[2])), key=lambda event: event[0])
        text = "".join(f"{user} {' '.join(str(item) for _, item, _ in of)} \n" for user, of in by_user)
        (tmp_path / "log" / f"{name}.txt").write_text(text, encoding="utf-8")
    cfg = dataset("sequences", archive=tmp_path / "log")
    log = build(cfg, tmp_path / "data", "given", click_negatives=1, validation="last_train_event")
    assert asked(log)["test"] == [(items[:-back], items[-back]) for items in HISTORIES.values() for back in (2, 1)]
