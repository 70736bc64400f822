"""A frame of requests in, a frame of answers out: what `seqrec recommend input=` writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import seqrec_cli
from seqrec_cli import SeqrecError, Trained

REQUESTS = pd.DataFrame(
    {
        "user": ["3", None, "nobody", "8", None],
        "history": [None, [5, 9, 7], None, [], [9, 555]],
        "times": [None, [1, 2, 3], None, None, None],
    }
)


def test_a_frame_says_what_a_file_does(sasrec: Trained, tmp_path: Path) -> None:
    REQUESTS.to_parquet(tmp_path / "in.parquet")
    settings: dict[str, Any] = {"deny": [1, 2], "mmr": 0.4, "mmr_pool": 20, "length": 2, "repeats": True}
    words = [f"{name}={value}".lower() for name, value in settings.items()]
    seqrec_cli.run(
        "recommend",
        [f"ckpt={sasrec.path}", f"input={tmp_path / 'in.parquet'}", f"output={tmp_path / 'o.parquet'}", *words],
    )
    with pytest.warns(UserWarning, match="1 of 5 events are left out, for the data do not have their items"):
        found = sasrec.recommend_frame(REQUESTS, **settings)
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "o.parquet"), check_dtype=False)
    assert found.columns.tolist() == ["row", "user", "rank", "item", "score", "answered_by"]
    assert found.groupby("row")["answered_by"].first().tolist() == [
        "model",
        "model",
        "popularity",
        "profile",
        "model",
    ]


def test_every_setting_has_its_effect(sasrec: Trained, din: Trained) -> None:
    requests = REQUESTS[["user", "history"]][:2]
    plain = sasrec.recommend_frame(requests)
    assert len(plain) == 20
    assert len(sasrec.recommend_frame(requests, top=3)) == 6
    first = plain["item"].iloc[0]
    category = sasrec._run.log.manifest["item_attribute_values"]["category"][0]
    for settings in (
        {"deny": np.array([first])},
        {"allow": pd.Series([3, 11, 12, 30])},
        {"where": {"category": [category]}},
        {"mmr": 0.1},
        {"length": 1},
        {"repeats": True},
    ):
        assert sasrec.recommend_frame(requests, **settings)["item"].tolist() != plain["item"].tolist(), settings
    pools = [sasrec.recommend_frame(requests, mmr=0.2, mmr_pool=pool)["item"].tolist() for pool in (12, 30)]
    by = sasrec.recommend_frame(requests, mmr=0.2, mmr_pool=30, mmr_by="category")["item"].tolist()
    assert pools[0] != pools[1] != by
    explained = din.recommend_frame(requests, top=2, explain=True)
    assert set(explained["because"][explained["row"] == 1]) <= {5, 9, 7}


def test_listed_ids_that_the_data_lack_are_told(sasrec: Trained) -> None:
    with pytest.warns(UserWarning, match="of allow and deny the data do not have: x, 999"):
        found = sasrec.recommend_frame(REQUESTS[:1], allow=[3, "x", 11], deny=[999], repeats=True)
    assert sorted(found["item"]) == [3, 11]


def test_rows_of_users_have_whole_ids(sasrec: Trained) -> None:
    found = sasrec.recommend_frame(pd.DataFrame({"user": [3, 8]}), top=2)
    expected = sasrec.recommend([3, 8], top=2)
    pd.testing.assert_frame_equal(
        found[["user", "rank", "item"]], expected[["user", "rank", "item"]], check_dtype=False
    )
    polars = pytest.importorskip("polars", reason="the development extras bring polars")
    pd.testing.assert_frame_equal(sasrec.recommend_frame(polars.DataFrame({"user": [3, 8]}), top=2), found)


@pytest.mark.parametrize(
    ("frame", "settings", "says"),
    [
        (pd.DataFrame({"users": [3]}), {}, "frame: no use for the column 'users'; did you mean 'user'"),
        (pd.DataFrame({"history": [[1], [2]], "times": [[1], []]}), {}, "frame: row 1: times: give one for each event"),
        (pd.DataFrame({"user": []}), {}, "frame: it holds no rows"),
        (REQUESTS, {"top": 0}, "top=0"),
        (REQUESTS, {"mmr": 1.5}, "mmr=1.5"),
        (REQUESTS, {"explain": True}, "explain: model=sasrec has no attention"),
        (REQUESTS, {"where": {"genre": "x"}}, "where.genre: items have no such attribute"),
    ],
)
def test_what_is_of_no_use_is_refused(sasrec: Trained, frame: pd.DataFrame, settings: Any, says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        sasrec.recommend_frame(frame, **settings)
