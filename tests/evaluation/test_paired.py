"""Paired differences and parts of the users, by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.paired import UserRanks, by_history, compared, picked, same_targets


def ranks(values: list[float], items: list[int] | None = None, histories: list[int] | None = None) -> UserRanks:
    count = len(values)
    return UserRanks(
        np.arange(1, count + 1),
        np.array(items or [7] * count),
        np.array(values, float),
        np.full(count, 11),
        np.array(histories or [3] * count),
    )


def test_differences_are_paired_by_user() -> None:
    first, second = ranks([1, 3, 20, 2]), ranks([1, 1, 8, 30])
    same, better = compared([first, second], "hr@10")
    assert (same.mean, same.difference, same.error) == (0.75, 0.0, 0.0)
    assert (better.mean, better.difference) == (0.75, 0.0)
    assert better.error == pytest.approx(np.std([0, 0, 1, -1], ddof=1) / 2)
    _, mrr = compared([first, second], "mrr")
    gains = np.array([0, 1 - 1 / 3, 1 / 8 - 1 / 20, 1 / 30 - 1 / 2])
    assert mrr.difference == pytest.approx(gains.mean())
    assert mrr.error == pytest.approx(gains.std(ddof=1) / 2)
    _, ndcg = compared([first, second], "ndcg@2")
    assert ndcg.mean == pytest.approx(0.5)
    _, corpus = compared([first, second], "corpus_auc")
    assert corpus.difference == pytest.approx(np.array([0, 0.2, 1.2, -2.8]).mean())


def test_parts_of_the_users_keep_equal_lengths_together() -> None:
    run = ranks([1] * 8, histories=[9, 1, 2, 2, 2, 2, 5, 8])
    parts = [(low, high, places.tolist()) for low, high, places in by_history([run], 4)]
    assert parts == [(1, 2, [1, 2, 3, 4, 5]), (5, 5, [6]), (8, 9, [0, 7])]
    assert [len(places) for _, _, places in by_history([ranks([1] * 8, histories=list(range(8)))], 4)] == [2, 2, 2, 2]
    assert picked(run, np.array([0, 6])).histories_R.tolist() == [9, 5]


def test_other_users_or_items_are_refused() -> None:
    one = ranks([1, 2], [4, 5])
    same_targets([one, ranks([9, 9], [4, 5])], ["a", "b"])
    with pytest.raises(SeqrecError, match="a and b ranked other items"):
        same_targets([one, ranks([1, 2], [4, 6])], ["a", "b"])
    with pytest.raises(SeqrecError, match="a and b ranked other users"):
        same_targets([one, ranks([1, 2, 3], [4, 5, 6])], ["a", "b"])


def test_a_missing_or_torn_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"user_index": [1]}), tmp_path / "other.parquet")
    for name in ("missing", "torn", "other"):
        with pytest.raises(SeqrecError, match=f"{name}.parquet: no file of ranks"):
            UserRanks.read(tmp_path / f"{name}.parquet")
