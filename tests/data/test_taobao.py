"""Taobao's UserBehavior: behaviours, days, categories."""

from pathlib import Path

import pytest
from dataset_helpers import archive, build, dataset, lines

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.vocabulary import vocabulary

FIRST = 1511539200
ROWS = (
    f"1,10,7,pv,{FIRST + 30}",
    f"1,11,8,buy,{FIRST}",
    f"1,12,7,pv,{FIRST - 1}",  # the day before
    f"1,13,8,cart,{FIRST + 40}",
    f"2,10,9,fav,{FIRST + 5}",  # another category for item 10: the first row's counts
    f"2,11,8,pv,{FIRST + 9 * 86_400}",  # the day after
    f"2,12,7,pv,{FIRST + 9 * 86_400 - 1}",
    f"2,13,8,pv,{FIRST + 7}",
)


def write(folder: Path, rows: tuple[str, ...] = ROWS) -> Path:
    path = folder / "UserBehavior.csv"
    path.write_bytes(lines(*rows))
    return path


def test_events_of_the_published_days_in_order(tmp_path: Path) -> None:
    log = build(dataset("taobao", archive=write(tmp_path)), tmp_path)
    raw = vocabulary(log.folder, "items")[log.items_N - 1]
    assert raw.tolist() == [11, 10, 13, 10, 13, 12]
    assert "2 events dated outside the published days left out" in log.manifest["notes"]
    assert log.manifest["item_attribute_values"]["category"] == ["7", "8"]
    assert log.catalog.item_values["category"][:, 0].tolist() == [0, 1, 2, 1, 2]


def test_outliers_may_stay_and_are_counted(tmp_path: Path) -> None:
    log = build(dataset("taobao", archive=write(tmp_path), outliers="keep"), tmp_path)
    assert len(log.items_N) == len(ROWS)
    assert "2 events dated outside the published days kept" in log.manifest["notes"]


def test_behaviours_are_chosen_and_the_others_counted(tmp_path: Path) -> None:
    log = build(dataset("taobao", archive=write(tmp_path), behaviours=["pv", "cart"], outliers="keep"), tmp_path)
    assert len(log.items_N) == 6
    assert "2 events of other behaviours than pv, cart left out" in log.manifest["notes"]


def test_the_zip_is_the_same_data(tmp_path: Path) -> None:
    plain = build(dataset("taobao", archive=write(tmp_path)), tmp_path)
    path = archive(tmp_path / "UserBehavior.csv.zip", {"UserBehavior.csv": lines(*ROWS)})
    zipped = build(dataset("taobao", archive=path), tmp_path)
    assert zipped.items_N.tolist() == plain.items_N.tolist()
    assert zipped.times_N.tolist() == plain.times_N.tolist()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,10,7,click,5", "a behaviour is 'click', not one of pv, cart, fav, buy"),
        ("1,10,7,,5", "a behaviour is empty"),
        ("1,10,7,pv", "line 9 has 4 fields, not 5"),
        ("1,10,7,pv,noon", "time is 'noon' in line 9"),
    ],
)
def test_foreign_rows_are_named(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=message):
        build(dataset("taobao", archive=write(tmp_path, (*ROWS, row))), tmp_path)


def test_the_published_head(shared_data: Path, tmp_path: Path) -> None:
    cfg = dataset("taobao", archive=shared_data / "taobao-userbehavior-head" / "UserBehavior.csv")
    log = build(cfg, tmp_path)
    assert (log.num_users, log.num_items, len(log.items_N)) == (43, 3275, 4320)
    assert log.catalog.item_attributes[0].size - 1 == 566  # one category is of the outlier alone
