"""MovieLens-100K: the archive's form and attributes."""

from pathlib import Path

import pytest
from dataset_helpers import archive, build, dataset, lines

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.sources.ml_100k import GENRES
from seqrec_cli.data.vocabulary import vocabulary

DATA = ("7\t2\t3\t900", "7\t1\t5\t800", "7\t3\t1\t1000", "9\t3\t4\t50")


def film(number: int, title: str, *genres: str) -> str:
    flags = "|".join(str(int(genre in genres)) for genre in GENRES)
    return f"{number}|{title}|01-Jan-1995||http://example.org/{number}|{flags}"


ITEMS = (
    film(1, "Toy Story (1995)", "Animation", "Comedy"),
    film(2, "Am\u00e9lie (2001)"),
    film(3, "unknown", "unknown"),
)
USERS = ("7|24|M|technician|85711", "9|17|F|student|94043")


def ml_100k(folder: Path, items: tuple[str, ...] = ITEMS) -> Path:
    tables = {"u.data": DATA, "u.item": items, "u.user": USERS}
    return archive(folder / "ml-100k.zip", {f"ml-100k/{name}": lines(*rows) for name, rows in tables.items()})


def test_events_are_put_in_order_of_time(tmp_path: Path) -> None:
    log = build(dataset("ml-100k", archive=ml_100k(tmp_path)), tmp_path)
    assert vocabulary(log.folder, "users").tolist() == [7, 9]
    assert log.items_N.tolist() == [1, 2, 3, 3]
    assert log.times_N.tolist() == [800, 900, 1000, 50]


def test_attributes(tmp_path: Path) -> None:
    log = build(dataset("ml-100k", archive=ml_100k(tmp_path)), tmp_path)
    values = log.manifest["item_attribute_values"] | log.manifest["user_attribute_values"]
    assert values["genres"] == ["Animation", "Comedy", "unknown"]
    assert log.catalog.item_values["genres"].tolist() == [[0, 0], [1, 2], [0, 0], [3, 0]]
    assert values["decade"] == ["1990s", "2000s"]
    assert values["age"] == ["1", "18"]  # the groups of MovieLens-1M: 24 is in 18-24, 17 under 18
    assert log.catalog.user_values["age"][:, 0].tolist() == [0, 2, 1]
    assert values["occupation"] == ["student", "technician"]


def test_a_film_without_all_genre_flags_is_named(tmp_path: Path) -> None:
    path = ml_100k(tmp_path, items=(*ITEMS, "4|Short (1990)|||"))
    with pytest.raises(SeqrecError, match=r"u\.item: row 4 is not 24 fields"):
        build(dataset("ml-100k", archive=path), tmp_path)


def test_the_archive_of_another_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"ml-100k\.zip holds no ratings\.dat; is it the archive of another"):
        build(dataset("ml-1m", archive=ml_100k(tmp_path)), tmp_path)


def test_the_published_archive(shared_data: Path, tmp_path: Path) -> None:
    log = build(dataset("ml-100k", archive=shared_data / "ml-100k.zip"), tmp_path)
    assert (log.num_users, log.num_items, len(log.items_N)) == (943, 1682, 100_000)
    assert {a.name: a.size - 1 for a in log.catalog.user_attributes} == {"gender": 2, "age": 7, "occupation": 21}
    assert {a.name: a.size - 1 for a in log.catalog.item_attributes}["genres"] == 19
