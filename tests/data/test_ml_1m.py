"""MovieLens-1M: the archive's form, its attributes, its order, what it refuses."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_helpers import MOVIES_1M, RATINGS_1M, archive, build, dataset, lines, ml_1m

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.vocabulary import vocabulary


def test_events_are_sorted_by_time_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    log = build(dataset("ml-1m", archive=ml_1m(tmp_path)), tmp_path)
    raw_items = vocabulary(log.folder, "items")
    assert raw_items.tolist() == [10, 20, 30, 40]  # 50 has no event
    assert log.offsets_U1.tolist() == [0, 4, 6]
    assert raw_items[log.items_N - 1].tolist() == [20, 30, 40, 10, 20, 10]
    assert log.times_N.tolist() == [100, 100, 200, 300, 5, 6]
    assert log.ratings_N.tolist() == [3, 4, 1, 5, 2, 4]
    assert log.manifest["equal_times"] == 1
    assert "file order" in log.manifest["order"]


def test_attributes_of_films_and_users(tmp_path: Path) -> None:
    log = build(dataset("ml-1m", archive=ml_1m(tmp_path)), tmp_path)
    catalog, manifest = log.catalog, log.manifest
    genres = {a.name: a for a in catalog.item_attributes}["genres"]
    names = manifest["item_attribute_values"]["genres"]
    assert names == ["Animation", "Comedy", "Drama", "Sci-Fi", "Thriller"]
    assert (genres.size, genres.width) == (6, 3)
    films = [{names[k - 1] for k in row if k} for row in catalog.item_values["genres"].tolist()]
    assert films == [set(), {"Animation", "Comedy"}, {"Drama"}, {"Drama", "Sci-Fi", "Thriller"}, {"Comedy"}]
    assert manifest["item_attribute_values"]["decade"] == ["1950s", "1960s", "1990s"]
    assert catalog.item_values["decade"][:, 0].tolist() == [0, 3, 1, 2, 0]  # padding; "Untitled" has no year
    assert manifest["user_attribute_values"]["gender"] == ["F", "M"]
    assert catalog.user_values["gender"][:, 0].tolist() == [0, 1, 2]
    assert {a.name for a in catalog.user_attributes} == {"gender", "age", "occupation"}


def test_titles_are_read_as_latin_1(tmp_path: Path) -> None:
    log = build(dataset("ml-1m", archive=ml_1m(tmp_path)), tmp_path)
    table = pq.read_table(log.folder / "items.parquet").to_pydict()
    assert table["index"] == [1, 2, 3, 4]
    assert table["title"][1:3] == ["Mis\u00e9rables, Les (1958)", "2001: A Space Odyssey (1968)"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("1::60::5::noon", r"ratings\.dat: time is 'noon' in line 7"),
        ("1::60::good::1", r"ratings\.dat: rating is 'good' in line 7"),
        ("1::60::nan::1", r"rating is 'nan' in line 7"),
        ("1::60::5::", r"line 7 has an empty time"),
        ("::60::5::1", r"line 7 has an empty user"),
        ("1::60::5", r"ratings\.dat: line 7 has 3 fields, not 4"),
        (
            "1::20::3::100",
            r"1 rows repeat an earlier row \(same user, item and time\), the first is row 7; set dataset",
        ),
    ],
)
def test_a_bad_rating_is_named(tmp_path: Path, row: str, complaint: str) -> None:
    cfg = dataset("ml-1m", archive=ml_1m(tmp_path, ratings=(*RATINGS_1M, row)))
    with pytest.raises(SeqrecError, match=complaint) as error:
        build(cfg, tmp_path / "data")
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"] == ["raw-hashes.json"]


def test_a_bad_film_line_is_named(tmp_path: Path) -> None:
    cfg = dataset("ml-1m", archive=ml_1m(tmp_path, movies=(*MOVIES_1M, "60::No genres")))
    with pytest.raises(SeqrecError, match=r"movies\.dat: row 6 is not 3 fields"):
        build(cfg, tmp_path)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "ml-1m.zip", {"ml-1m/ratings.dat": lines(*RATINGS_1M)})
    with pytest.raises(SeqrecError, match=r"ml-1m\.zip holds no movies\.dat"):
        build(dataset("ml-1m", archive=path), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "not a zip"])
def test_a_torn_archive_is_refused(tmp_path: Path, damage: str) -> None:
    path = ml_1m(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[60] ^= 0xFF
    path.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "not a zip": b"<html>"}[damage])
    with pytest.raises(SeqrecError, match="torn or no zip archive"):
        build(dataset("ml-1m", archive=path), tmp_path / "data")
    assert not [path for path in (tmp_path / "data").glob("*ml-1m*") if path.suffix != ".lock"]


def test_the_published_archive(shared_data: Path, tmp_path: Path) -> None:
    log = build(dataset("ml-1m", archive=shared_data / "ml-1m.zip"), tmp_path)
    assert (log.num_users, log.num_items, len(log.items_N)) == (6040, 3706, 1_000_209)
    assert log.catalog.item_values["decade"].all(axis=1).sum() == 3706
    assert np.diff(log.offsets_U1).min() == 20


def test_the_published_archive_five_core_is_that_of_sasrec(shared_data: Path, tmp_path: Path) -> None:
    log = build(dataset("ml-1m", archive=shared_data / "ml-1m.zip", user_core=5, item_core=5), tmp_path)
    assert (log.num_users, log.num_items, len(log.items_N)) == (6040, 3416, 999_611)
