"""What decides a number's meaning stands in words below it, and is compared with nothing."""

from pathlib import Path

import pytest

import seqrec_cli
from seqrec_cli.evaluation.compare import same_protocol
from seqrec_cli.evaluation.leaderboard import protocol_key
from seqrec_cli.reporting.meaning import of_rows, of_targets, split_line

COUNTS = {
    "requests": 20,
    "targets": 20,
    "users": 20,
    "held_out_targets": 25,
    "repeated_targets": 5,
    "left_out_repeats": 5,
    "requests_of_cold_users": 0,
    "cold_targets": 2,
}
NOTHING = {
    "targets_in_ties": 0,
    "users": 20,
    "users_without_target": 0,
    "equal_times": 0,
    "ordered_ties": 0,
    "rows": 100,
    "rows_left_out": {},
}
FOUND = NOTHING | {
    "targets_in_ties": 3,
    "users": 24,
    "users_without_target": 4,
    "equal_times": 9,
    "ordered_ties": 1,
    "rows_left_out": {"duplicates=drop": 2, "min_rating=4.0": 40},
}


def test_only_what_is_there_is_said() -> None:
    plain = COUNTS | {"held_out_targets": 20, "repeated_targets": 0, "left_out_repeats": 0, "cold_targets": 0}
    assert of_targets(plain, NOTHING) == of_rows(NOTHING) == of_rows({}) == []
    assert split_line("val", plain, NOTHING) == "val: 20 targets of 20 users"
    assert of_rows(FOUND) == [
        "42 of 100 rows left out (duplicates=drop: 2, min_rating=4.0: 40)",
        "1 pairs of equal time ordered by dataset.order_columns",
        "9 pairs of equal time in the file's order",
    ]
    assert of_targets(COUNTS, FOUND) == [
        "20.0% of targets repeat an item of their history, left out",
        "2 targets that never trained (10.0%)",
        "3 targets that another order of equal times could change",
        "4 of 24 users without a target",
    ]
    assert of_targets(COUNTS, {}) == of_targets(COUNTS, NOTHING)  # of a run measured before it was kept


def test_runs_with_and_without_it_are_of_one_protocol() -> None:
    old, new = {"name": "x", "fingerprint": "f"}, {"name": "x", "fingerprint": "f", "meaning": FOUND}
    assert same_protocol([{"protocol": old}, {"protocol": new}]) == old
    assert protocol_key(old) == protocol_key(new)


def test_preprocess_ends_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three of four users' last two events tie, user 4 has too few; item 9 is met at the end alone."""
    rows = [(user, item, day) for user in (1, 2, 3) for item, day in ((1, 1), (2, 2), (3, 3), (user % 2 + 8, 3))]
    rows += [(4, 1, 1), (4, 2, 1), (1, 1, 1)]
    text = "user,item,time\n" + "".join(f"{user},{item},2024-03-0{day}\n" for user, item, day in rows)
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    words = ["dataset=csv", f"dataset.archive={tmp_path / 'log.csv'}", f"data_dir={tmp_path / 'data'}"]
    for _ in range(2):  # built, then found
        seqrec_cli.run("preprocess", [*words, "dataset.duplicates=drop"])
        printed = capsys.readouterr().out.splitlines()
        assert printed[-4:-1] == [
            "4 users, 5 items, 14 events; 2024-03-01 to 2024-03-03; 1 of 15 rows left out (duplicates=drop: 1); "
            "4 pairs of equal time in the file's order",
            "val: 3 targets of 3 users; 3 targets that never trained (100.0%); "
            "3 targets that another order of equal times could change; 1 of 4 users without a target",
            "test: 3 targets of 3 users; 3 targets that never trained (100.0%); "
            "3 targets that another order of equal times could change; 1 of 4 users without a target",
        ]
