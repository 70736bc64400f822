"""Files of ranks and click scores: there and back, the order of rows, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.view import LabelledRows
from seqrec_cli.evaluation.stored import StoredClicks, StoredRanks, intervals


def rows() -> StoredClicks:
    """Users 2 and 0 in that order, the second with a missing candidate."""
    clicks = LabelledRows(
        np.array([2, 0]), np.array([25, 4]), np.array([[5, 6, 7], [8, 9, 0]]), np.array([[1, 0, 0], [0, 1, 0]])
    )
    return StoredClicks.of(clicks, np.array([[0.5, 0.25, -1.0], [2.0, -2.0, 9.0]]), np.array([0, 10, 20, 30]))


def test_click_scores_are_a_row_a_candidate_by_user(tmp_path: Path) -> None:
    stored = rows()
    stored.save(tmp_path / "deep" / "clicks.parquet")
    table = pq.read_table(tmp_path / "deep" / "clicks.parquet").to_pydict()
    assert table == {
        "user_index": [1, 1, 3, 3, 3],
        "request": [1, 1, 0, 0, 0],
        "item_index": [8, 9, 5, 6, 7],
        "history": [4, 4, 5, 5, 5],
        "label": [0, 1, 1, 0, 0],
        "logit": [2.0, -2.0, 0.5, 0.25, -1.0],
    }
    again = StoredClicks.read(tmp_path / "deep" / "clicks.parquet")
    assert again.logits_N.tolist() == stored.logits_N.tolist()
    assert again.where(again.users_N == 3).items_N.tolist() == [5, 6, 7]


def test_ranks_of_before_have_a_request_a_row(tmp_path: Path) -> None:
    columns = {"user_index": [3, 1], "item_index": [5, 6], "rank": [1.5, 2.0], "candidates": [9, 9], "history": [4, 2]}
    pq.write_table(pa.table(columns), tmp_path / "ranks.parquet")
    found = StoredRanks.read(tmp_path / "ranks.parquet")
    assert found.users_T.tolist() == [1, 3]
    assert found.ranks_T.tolist() == [2.0, 1.5]
    assert len(set(found.requests_T)) == 2
    pq.write_table(pa.table({**columns, "request": [8, 2]}), tmp_path / "ranks.parquet")
    assert StoredRanks.read(tmp_path / "ranks.parquet").requests_T.tolist() == [2, 8]


def test_intervals_stand_beside_metrics_that_are_means_over_users() -> None:
    ranks = StoredRanks(*(np.array(each) for each in ([1, 2, 3], [0, 1, 2], [1, 1, 1], [1.0, 2, 9], [9] * 3, [1] * 3)))
    found = intervals(["hr@1", "mrr", "auc", "ece", "gauc"], ranks, rows())
    assert list(found) == ["hr@1", "mrr", "auc", "gauc"]
    middle = {name: sum(ends) / 2 for name, ends in found.items()}
    assert middle == pytest.approx({"hr@1": 1 / 3, "mrr": (1 + 1 / 2 + 1 / 9) / 3, "auc": 2 / 6, "gauc": 3 / 5})
    one = ranks.where(ranks.users_T == 1)
    assert intervals(["mrr"], one, rows()) == {}  # one user has no standard error


def test_a_missing_or_torn_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"user_index": [1]}), tmp_path / "other.parquet")
    for name in ("missing", "torn", "other"):
        with pytest.raises(SeqrecError, match=f"{name}.parquet: no file of ranks"):
            StoredRanks.read(tmp_path / f"{name}.parquet")
        with pytest.raises(SeqrecError, match=f"{name}.parquet: no file of click scores"):
            StoredClicks.read(tmp_path / f"{name}.parquet")
