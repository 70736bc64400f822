"""Amazon's reviews and metadata in the form of each edition."""

import functools
import gzip
import http.server
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from dataset_helpers import archive, build, dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.download import fetch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.vocabulary import vocabulary

DAY = 86_400
# user, item, day; u1 takes i2 twice: at one time (a duplicate), and later (an event of its own).
EVENTS = (("u1", "i2", 3), ("u2", "i1", 1), ("u1", "i1", 1), ("u1", "i2", 3), ("u1", "i3", 2), ("u1", "i2", 9))
ITEMS: tuple[dict[str, Any], ...] = (
    {"item": "i1", "path": ["Toys", "Puzzles & Games"], "brand": 'It\'s "B"', "title": "a \\ b\n\u00e9"},
    {"item": "i9", "path": ["Toys"], "brand": "unseen", "title": "nobody reviewed it"},
    {"item": "i2", "path": [], "brand": "", "title": "None"},
    {"item": "i2", "path": ["Toys", "Dolls"], "brand": "C", "title": "second line"},
)


def review(edition: int, user: str, item: str, day: int) -> dict[str, Any]:
    if edition == 2023:
        return {"rating": 5.0, "title": "x", "asin": "variant", "parent_asin": item, "user_id": user} | {
            "timestamp": day * DAY * 1000
        }
    return {"reviewerID": user, "asin": item, "helpful": [0, 1], "overall": 4.0, "unixReviewTime": day * DAY}


def about(edition: int, item: dict[str, Any]) -> dict[str, Any]:
    if edition == 2014:
        other = {"price": 1.5, "related": {"also_bought": ["i1"]}, "title": item["title"], "brand": item["brand"]}
        return {"asin": item["item"]} | other | {"categories": [["Elsewhere"], item["path"]]}
    if edition == 2018:
        escaped = [level.replace("&", "&amp;") for level in item["path"]]
        return {"category": escaped, "title": item["title"], "brand": item["brand"], "main_cat": "All"} | {
            "asin": item["item"]
        }
    return {"main_category": "All", "title": item["title"], "store": item["brand"], "categories": item["path"]} | {
        "parent_asin": item["item"],
        "details": {"Brand": "x"},
    }


def files(edition: int, items: tuple[dict[str, Any], ...] = ITEMS) -> dict[str, bytes]:
    written = repr if edition == 2014 else json.dumps
    reviews = "".join(json.dumps(review(edition, *event)) + "\n" for event in EVENTS)
    metadata = "".join(written(about(edition, item)) + "\n" for item in items)
    names = {2014: "reviews_Toys_5.json", 2018: "Toys_5.json", 2023: "Toys.jsonl"}
    kind = names[edition].rpartition(".")[2]
    return {names[edition]: reviews.encode(), f"meta_Toys.{kind}": metadata.encode()}


def write(folder: Path, contents: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder


def toys(place: Path, edition: int, data_dir: Path, **changes: Any) -> PackedLog:
    return build(dataset("amazon", archive=place, category="Toys", edition=edition, **changes), data_dir)


@pytest.mark.parametrize("edition", [2014, 2018, 2023])
def test_events_and_attributes(edition: int, tmp_path: Path) -> None:
    log = toys(write(tmp_path / "raw", files(edition)), edition, tmp_path, attributes=["category", "path", "brand"])
    assert vocabulary(log.folder, "users").tolist() == ["u1", "u2"]
    assert vocabulary(log.folder, "items").tolist() == ["i1", "i2", "i3"]
    assert log.items_N.tolist() == [1, 3, 2, 2, 1]
    assert log.times_N.tolist() == [DAY, 2 * DAY, 3 * DAY, 9 * DAY, DAY]
    assert set(log.ratings_N.tolist()) == {5.0 if edition == 2023 else 4.0}
    values = log.manifest["item_attribute_values"]
    assert values["category"] == ["Dolls", "Puzzles & Games"]
    assert values["path"] == ["Toys", "Toys > Dolls", "Toys > Puzzles & Games"]
    assert values["brand"] == ["C", 'It\'s "B"']
    assert log.catalog.item_values["category"][:, 0].tolist() == [0, 2, 1, 0]
    assert log.catalog.item_values["path"].tolist() == [[0, 0], [1, 3], [1, 2], [0, 0]]
    notes = " ".join(log.manifest["notes"])
    assert "2 reviews repeat an earlier pair of user and item, 1 of them at the same time" in notes
    assert "1 metadata lines repeat an item" in notes
    assert "1 of 3 reviewed items have no metadata" in notes


def test_titles_survive_quotes_words_and_escapes(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    log = toys(write(tmp_path / "raw", files(2014)), 2014, tmp_path)
    assert pq.read_table(log.folder / "items.parquet")["title"].to_pylist() == ["a \\ b\n\u00e9", "None", ""]


@pytest.mark.parametrize(("edition", "expected"), [(2014, ["Toys"]), (2018, ["All"]), (2023, ["All"])])
def test_main_category(edition: int, expected: list[str], tmp_path: Path) -> None:
    log = toys(write(tmp_path / "raw", files(edition)), edition, tmp_path, attributes=["main_category"])
    assert log.manifest["item_attribute_values"]["main_category"] == expected


def test_a_zip_a_folder_and_plain_files_are_the_same_data(tmp_path: Path) -> None:
    zipped = archive(tmp_path / "toys.zip", {f"toys/{name}": data for name, data in files(2018).items()})
    places = (zipped, write(tmp_path / "gz", files(2018)), write(tmp_path / "plain", files(2018), packed=False))
    logs = [toys(place, 2018, tmp_path) for place in places]
    assert len({log.folder for log in logs}) == 3  # other bytes
    assert all(log.items_N.tolist() == logs[0].items_N.tolist() for log in logs)
    assert all(log.manifest["item_attributes"] == logs[0].manifest["item_attributes"] for log in logs)
    assert logs[0].catalog.item_attributes


def test_reviews_alone_have_no_attributes_and_it_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", files(2018))
    log = toys(folder / "Toys_5.json.gz", 2018, tmp_path)
    assert log.catalog.item_attributes == ()
    assert "no metadata file: items have no attributes" in log.manifest["notes"]


def test_a_folder_of_several_categories_is_narrowed_to_one(tmp_path: Path) -> None:
    more = {"Dolls_5.json": b"", "meta_Dolls.json": b""}
    assert toys(write(tmp_path / "raw", files(2018) | more), 2018, tmp_path).num_items == 3
    with pytest.raises(SeqrecError, match=r"holds 0 files that may be the reviews of Books"):
        build(dataset("amazon", archive=tmp_path / "raw", category="Books"), tmp_path)


def test_a_folder_that_changes_is_other_data(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", files(2018))
    first = toys(folder, 2018, tmp_path)
    write(folder, files(2018, ITEMS[:2]))
    assert toys(folder, 2018, tmp_path).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("Toys_5.json", b'{"reviewerID": "u1"\n', r"Toys_5\.json\.gz: line 1 is no JSON"),
        ("Toys_5.json", b'{"reviewerID": "u1"}\n', "line 1 has no asin; is it a review file of dataset.edition=2018"),
        ("Toys_5.json", b"[1]\n", "line 1 is no JSON object"),
        ("Toys_5.json", b"", "holds no reviews"),
        ("meta_Toys.json", b'{"asin": "zz"}\n', "describes none of the reviewed items"),
        ("meta_Toys.json", b"{'asin': 'i1', 'title': 'cut o\n", "line 1 is no JSON"),
        ("meta_Toys.json", b"{'asin': 'i1', 'x': None, 'y': z}\n", "line 1 is no Python literal"),
        ("meta_Toys.json", b"{'asin': 'i1', 'x': __import__('os')}\n", "line 1 is no JSON"),
    ],
)
def test_foreign_and_torn_lines_are_named(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", files(2018) | {name: data})
    with pytest.raises(SeqrecError, match=message):
        toys(folder, 2018, tmp_path)


def test_a_torn_archive_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "raw", files(2018))
    torn = folder / "Toys_5.json.gz"
    torn.write_bytes(torn.read_bytes()[:-20])
    with pytest.raises(SeqrecError, match="is torn"):
        toys(folder, 2018, tmp_path)


def test_both_files_are_downloaded(tmp_path: Path) -> None:
    write(tmp_path / "site", files(2018))
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        publisher = {"2018": [f"{address}/{{category}}_5.json.gz", f"{address}/meta_{{category}}.json.gz"]}
        cfg = dataset("amazon", category="Toys", publisher=publisher)
        folder = fetch(cfg, tmp_path, lambda line: None)
        server.shutdown()
    assert folder == tmp_path / "raw" / "amazon-2018-Toys"
    log = build(cfg, tmp_path)  # from what was fetched
    assert len(log.catalog.item_attributes) == 3
    assert fetch(cfg, tmp_path, lambda line: None) == folder


def test_the_published_files(shared_data: Path, tmp_path: Path) -> None:
    place = shared_data / "amazon-magazine-subscriptions"
    log = build(dataset("amazon", archive=place, category="Magazine_Subscriptions"), tmp_path)
    assert (log.num_users, log.num_items, len(log.items_N)) == (348, 157, 2328)
    assert int((log.catalog.item_values["category"][1:, 0] > 0).sum()) == 145
