"""Plain `user item` lines, and lines of `user item item ...`."""

from pathlib import Path

import pytest
from dataset_helpers import build, dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.vocabulary import vocabulary


def write(folder: Path, text: str) -> Path:
    path = folder / "log.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_order_of_the_file_is_kept_also_where_users_alternate(tmp_path: Path) -> None:
    path = write(tmp_path, "2 9\n1 5\n2 3\n1 7\n2 9\n1 5\n")
    log = build(dataset("sequences", archive=path), tmp_path)
    assert vocabulary(log.folder, "users").tolist() == [1, 2]
    assert vocabulary(log.folder, "items")[log.items_N - 1].tolist() == [5, 7, 5, 9, 3, 9]
    assert log.times_N is None
    assert log.ratings_N is None


@pytest.mark.parametrize("between", [" ", "\t", "  "])
def test_a_line_of_three_fields_makes_them_all_lines_of_items(tmp_path: Path, between: str) -> None:
    lines = ["2 9 3", "1 5", "", "3", "2 9 ", "1 7 5 8"]
    log = build(dataset("sequences", archive=write(tmp_path, "\n".join(lines).replace(" ", between))), tmp_path)
    assert vocabulary(log.folder, "users").tolist() == [1, 2]
    assert vocabulary(log.folder, "items")[log.items_N - 1].tolist() == [5, 7, 5, 8, 9, 3, 9]
    assert log.manifest["notes"] == [
        "read as `user item item ...` a line",
        "a sequence a row: 5 rows with 7 events; 1 are empty and hold no event",
    ]


def test_one_item_a_user_means_the_same_in_both_forms(tmp_path: Path) -> None:
    log = build(dataset("sequences", archive=write(tmp_path, "1 5\n2 7\n3 5\n")), tmp_path)
    assert log.items_N.tolist() == [1, 2, 1]
    assert log.manifest["notes"] == ["read as `user item` a line"]


def test_files_of_pairs_keep_the_fingerprint_they_had(tmp_path: Path) -> None:
    log = build(dataset("sequences", archive=write(tmp_path, "2 9\n1 5\n2 3\n1 7\n2 9\n1 5\n")), tmp_path)
    assert log.fingerprint == "a605f984575ab7c965e29c0f35776e1ab94147fa72f73eb395788ca0768e6a8c"


def test_words_are_ids_too(tmp_path: Path) -> None:
    log = build(dataset("sequences", archive=write(tmp_path, "ann pear\nann fig\nann plum\n")), tmp_path)
    assert vocabulary(log.folder, "items").tolist() == ["fig", "pear", "plum"]
    assert log.items_N.tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 2\n1\n", "line 2 has 1 field, not 2"),
        ("1 2\n1 3\n1 \n", "line 3 has an empty item"),
        ("1 2\n 3\n", "line 2 has an empty user"),
        ("", "log.txt is empty"),
        ("1 2\n1 2\n1 2\n", "the log holds 1 item in all its rows"),
    ],
)
def test_bad_files_are_refused_on_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SeqrecError, match=complaint) as error:
        build(dataset("sequences", archive=write(tmp_path, text)), tmp_path)
    assert "\n" not in str(error.value)


def test_it_has_no_download(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"set dataset\.archive=PATH"):
        build(dataset("sequences"), tmp_path)


def test_min_rating_needs_ratings(tmp_path: Path) -> None:
    cfg = dataset("sequences", archive=write(tmp_path, "1 2\n1 3\n1 4\n"), min_rating=3.0)
    with pytest.raises(SeqrecError, match="has no ratings"):
        build(cfg, tmp_path)


def test_the_published_file(shared_data: Path, tmp_path: Path) -> None:
    log = build(dataset("sequences", archive=shared_data / "ml-1m-seq" / "ml-1m.txt"), tmp_path)
    assert (log.num_users, log.num_items, len(log.items_N)) == (6040, 3416, 999_611)
