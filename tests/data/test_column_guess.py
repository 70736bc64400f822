"""A log whose columns are called otherwise is answered with the settings to paste."""

from pathlib import Path

import pandas as pd
import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.column_guess import guessed

SHIPPED: dict[str, str | int | None] = {"user_column": "user", "item_column": "item", "time_column": "time"}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            ["userId", "movieId", "rating", "timestamp"],
            "dataset.user_column=userId dataset.item_column=movieId dataset.time_column=timestamp",
        ),
        (["user", "product_id", "Time"], "dataset.item_column=product_id dataset.time_column=Time"),
        (["user", "item"], "dataset.time_column=null (rows are in order)"),
        (["a", "b", "c"], None),
    ],
)
def test_likely_names(known: list[str], said: str | None) -> None:
    assert guessed(known, SHIPPED) == said


def test_the_whole_line_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "ml.csv").write_text("userId,movieId,timestamp\n" + "1,2,1700000000\n" * 3)
    with pytest.raises(SeqrecError, match=r"give dataset.user_column=userId dataset.item_column=movieId dataset.time_"):
        seqrec_cli.run("preprocess", ["dataset=csv", f"dataset.archive={tmp_path / 'ml.csv'}", f"data_dir={tmp_path}"])


def test_columns_that_nothing_names_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"u{u},i{(u + k) % 9},{1_700_000_000 + k},{k % 2},x" for u in range(9) for k in range(5)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time,clicked,price", *rows]))
    seqrec_cli.run("preprocess", ["dataset=csv", f"dataset.archive={tmp_path / 'log.csv'}", f"data_dir={tmp_path}"])
    assert "columns not read, for no setting names them: clicked, price" in capsys.readouterr().out


def test_a_frame_with_a_time_that_is_not_named_warns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3, 3, 4, 1], "timestamp": range(6)})
    with pytest.warns(UserWarning, match=r"time='timestamp' orders them"):
        seqrec_cli.dataset(frame, data_dir=tmp_path, protocol={"name": "leave_last", "click_negatives": 1})


def test_no_log_of_another_time_is_taken_where_none_is_named(tmp_path: Path) -> None:
    rows = [f"u{u},i{(u + k) % 9},{1_700_000_000 + k}" for u in range(9) for k in range(5)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows]))
    seqrec_cli.run("preprocess", ["dataset=csv", f"dataset.archive={tmp_path / 'log.csv'}", f"data_dir={tmp_path}"])
    with pytest.raises(SeqrecError, match=r"dataset.archive"):
        seqrec_cli.run("preprocess", ["dataset=csv", f"data_dir={tmp_path}"])
