"""Files with a row an item or a user beside the log: their attributes, titles, counts and fingerprints."""

from pathlib import Path
from typing import Any

import pytest
from dataset_helpers import build, dataset
from pydantic import ValidationError

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import titles, vocabulary

LOG = "user,item\n7,10\n7,20\n7,30\n8,30\n8,40\n8,10\n"
FILMS = """id;name;genres;year
10;Heat, the;Crime|Drama;1995
20;Up;;2009
10;Heat again;War;1996
99;Not seen;Drama;1990
30;Alien;Horror;1979
"""
USERS = "8,Rome\n7,\n7,Oslo\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path: Path, **values: Any) -> PackedLog:
    log, films = write(tmp_path / "log.csv", LOG), write(tmp_path / "films.csv", FILMS)
    told = {"archive": log, "time_column": None, "item_file": films, "item_file_id": "id", "value_separator": "|"}
    return build(dataset("csv", **(told | values)), tmp_path / "data")


def test_attributes_and_titles_are_those_of_the_item_file(tmp_path: Path) -> None:
    log = read(tmp_path, item_attribute_columns=["genres"], title_column="name")
    assert vocabulary(log.folder, "items").tolist() == [10, 20, 30, 40]  # type: ignore[arg-type]
    assert log.manifest["item_attribute_values"] == {"genres": ["Crime", "Drama", "Horror"]}
    assert log.catalog.item_values["genres"].tolist() == [[0, 0], [1, 2], [0, 0], [3, 0], [0, 0]]
    assert titles(log.folder) == ["Heat, the", "Up", "Alien", ""]  # type: ignore[arg-type]
    assert log.manifest["notes"][1:3] == [
        "films.csv read as semicolon-separated, UTF-8, with a header",
        "films.csv describes 3 of 4 items; 1 have no row; 1 rows repeat an id (the first that has a value counts); "
        "1 rows are of items the log lacks",
    ]


def test_a_user_file_without_header_is_read_by_position(tmp_path: Path) -> None:
    users = write(tmp_path / "users.txt", USERS)
    log = read(
        tmp_path,
        item_file=None,
        item_file_id=None,
        user_file=users,
        user_file_id=0,
        user_attribute_columns=[1],
    )
    assert log.manifest["user_attribute_values"] == {"column_1": ["Oslo", "Rome"]}
    assert log.catalog.user_values["column_1"][:, 0].tolist() == [0, 1, 2]  # 7's first row has none


def test_the_files_bytes_count_in_the_fingerprint_and_their_place_does_not(tmp_path: Path) -> None:
    first = read(tmp_path, item_attribute_columns=["genres"])
    moved = write(tmp_path / "moved.csv", FILMS)
    assert read(tmp_path, item_attribute_columns=["genres"], item_file=moved).fingerprint == first.fingerprint
    write(moved, FILMS.replace("War", "Peace"))
    assert read(tmp_path, item_attribute_columns=["genres"], item_file=moved).fingerprint != first.fingerprint


@pytest.mark.parametrize("kind", ["user_file", "valid_file", "test_file"])
def test_every_file_counts_by_its_bytes(tmp_path: Path, kind: str) -> None:
    """A folder that was built from the file as it was before would be taken for the new one's."""
    text = "8,Rome\n7,Oslo\n" if kind == "user_file" else "user,item\n7,40\n8,20\n"
    beside = write(tmp_path / "beside.csv", text)
    told: dict[str, Any] = {kind: beside, "item_file": None, "item_file_id": None}
    told |= {"user_file_id": 0, "user_attribute_columns": [1]} if kind == "user_file" else {}
    first = read(tmp_path, **told)
    assert read(tmp_path, **{**told, kind: write(tmp_path / "moved.csv", text)}).fingerprint == first.fingerprint
    write(beside, text.replace("Oslo", "Bergen").replace("8,20", "8,50"))
    second = read(tmp_path, **told)
    assert second.fingerprint != first.fingerprint
    assert second.folder != first.folder


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"item_attribute_columns": ["genre"]}, r"films\.csv has no column 'genre'; did you mean 'genres'"),
        (
            {"item_attribute_columns": ["genres"], "item_file_id": "year"},
            r"films\.csv describes none of the log's items",
        ),
        (
            {"item_attribute_columns": ["genres"], "item_file": "/no.csv"},
            r"dataset\.item_file=/no\.csv: there is no such",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        read(tmp_path, **values)


@pytest.mark.parametrize(
    ("option", "values", "says"),
    [
        ("csv", {"item_file": "films.csv"}, r"nothing of it is read; name columns of it in dataset\.item_attribute"),
        ("csv", {"user_file": "users.csv"}, r"nothing of it is read; name columns of it in dataset\.user_attribute"),
        ("csv", {"item_file_id": "id"}, r"is a column of dataset\.item_file, which is not set"),
        ("sequences", {"item_attribute_columns": ["genres"]}, r"are columns of dataset\.item_file, which is not set"),
        ("sequences", {"title_column": "name"}, r"is a column of dataset\.item_file, which is not set"),
    ],
)
def test_settings_without_an_effect_are_refused(option: str, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        dataset(option, archive="log.csv", **values)


def test_the_logs_own_columns_give_titles_too(tmp_path: Path) -> None:
    log = write(tmp_path / "own.csv", "user,item,name\n1,5,Five\n1,6,\n1,7,Seven\n2,6,Six\n")
    read_log = read(tmp_path, archive=log, item_file=None, item_file_id=None, title_column="name")
    assert titles(read_log.folder) == ["Five", "Six", "Seven"]  # type: ignore[arg-type]


def test_sequences_take_such_files(tmp_path: Path) -> None:
    pairs = write(tmp_path / "log.txt", LOG.partition("\n")[2].replace(",", " "))
    films = write(tmp_path / "films.csv", FILMS)
    told = {"item_file": films, "item_file_id": "id", "item_attribute_columns": ["genres"], "title_column": "name"}
    log = build(dataset("sequences", archive=pairs, value_separator="|", **told), tmp_path / "data")
    assert log.manifest["item_attribute_values"] == {"genres": ["Crime", "Drama", "Horror"]}
    assert titles(log.folder)[0] == "Heat, the"  # type: ignore[arg-type,index]


def test_movielens_in_its_zip_archive(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "ml-latest-small.zip"
    told = {"user_column": "userId", "item_column": "movieId", "time_column": "timestamp", "title_column": "title"}
    told |= {"item_file": path / "movies.csv", "item_attribute_columns": ["genres"], "value_separator": "|"}
    log = build(dataset("csv", archive=path / "ratings.csv", **told), tmp_path / "data")
    assert (log.num_users, log.num_items, len(log.items_N)) == (610, 9724, 100_836)
    assert titles(log.folder)[0] == "Toy Story (1995)"  # type: ignore[arg-type,index]
    assert log.catalog.item_attributes[0].size == 21  # 19 genres, none listed, and 0
    assert log.manifest["notes"][-1].endswith("describes 9,724 of 9,724 items; 18 rows are of items the log lacks")
