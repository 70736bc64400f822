"""Runs beside each other, by hand."""

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.delong import placements
from seqrec_cli.evaluation.intervals import holm
from seqrec_cli.evaluation.paired import DELONG, Compared, Stored, compared, corrected, same_targets
from seqrec_cli.evaluation.stored import StoredClicks, StoredRanks


def ranks(values: list[float], items: list[int] | None = None, users: list[int] | None = None) -> StoredRanks:
    count = len(values)
    return StoredRanks(
        np.array(users or range(1, count + 1)),
        np.arange(count),
        np.array(items or [7] * count),
        np.array(values, float),
        np.full(count, 11),
        np.full(count, 3),
    )


def clicks(logits: list[float], items: list[int] | None = None, labels: list[int] | None = None) -> StoredClicks:
    """Two candidates a user: one clicked, one not."""
    count = len(logits)
    users, same = np.repeat(np.arange(1, count // 2 + 1), 2), np.ones(count, np.int64)
    return StoredClicks(
        users, users, np.array(items or same), same, np.array(labels or [1, 0] * (count // 2)), np.array(logits, float)
    )


def test_differences_are_paired_by_user() -> None:
    runs = [Stored(ranks([1, 3, 20, 2]), None), Stored(ranks([1, 1, 8, 30]), None)]
    found = compared(runs, ["hr@10", "mrr", "ndcg@2", "corpus_auc"], resamples=500, seed=0)
    same, better = found["hr@10"]
    assert (same.mean, same.difference, same.p, same.p_holm) == (0.75, 0.0, None, None)
    assert (better.mean, better.difference) == (0.75, 0.0)
    assert better.error == pytest.approx(np.std([0, 0, 1, -1], ddof=1) / 2)
    assert better.detectable == pytest.approx(2.8016 * better.error, rel=1e-4)
    assert better.interval[1] - better.mean == pytest.approx(1.96 * np.std([1, 1, 1, 0], ddof=1) / 2, rel=1e-3)
    mrr = found["mrr"][1]
    gains = np.array([0, 1 - 1 / 3, 1 / 8 - 1 / 20, 1 / 30 - 1 / 2])
    assert mrr.difference == pytest.approx(gains.mean())
    assert mrr.error == pytest.approx(gains.std(ddof=1) / 2)
    assert mrr.difference_interval[0] < mrr.difference < mrr.difference_interval[1]
    assert found["ndcg@2"][1].mean == pytest.approx(0.5)
    assert found["corpus_auc"][1].difference == pytest.approx(np.array([0, 0.2, 1.2, -2.8]).mean())


def test_requests_of_one_user_go_together() -> None:
    """Four requests of two users are two draws, not four."""
    users = [1, 1, 2, 2]
    runs = [Stored(ranks([20, 20, 20, 20], users=users), None), Stored(ranks([1, 1, 20, 20], users=users), None)]
    (_, better) = compared(runs, ["hr@10"], resamples=2000, seed=0)["hr@10"]
    assert better.error == pytest.approx(np.std([1, 0], ddof=1) / np.sqrt(2))
    values = np.random.default_rng(0).integers(0, 2, (2000, 2)).mean(axis=1)
    assert set(values) == {0, 0.5, 1}
    assert better.p == pytest.approx(2 * np.mean(values == 1), abs=0.06)


def test_click_metrics_and_delong() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=200), rng.normal(size=200)
    first[::2] += 0.5
    second[::2] += 1.5
    runs = [Stored(ranks([1.0] * 100), clicks(list(each))) for each in (first, second)]
    found = compared(runs, ["mrr", "auc", "gauc", "logloss"], resamples=2000, seed=0)
    assert list(found) == ["mrr", "auc", DELONG, "gauc", "logloss"]
    gain = placements(runs[1].clicks.labels_N, second).minus(placements(runs[0].clicks.labels_N, first))
    delong, by_users = found[DELONG][1], found["auc"][1]
    assert (delong.difference, delong.error) == pytest.approx((gain.auc, gain.error))
    assert by_users.difference == pytest.approx(gain.auc)
    assert by_users.error == pytest.approx(gain.error, rel=0.15)  # candidates are independent here
    gauc = found["gauc"][1]
    wins = [(run[::2] > run[1::2]) for run in (first, second)]
    assert gauc.difference == pytest.approx(wins[1].mean() - wins[0].mean())
    assert gauc.error == pytest.approx((wins[1].astype(int) - wins[0]).std(ddof=1) / 10)
    tables = corrected([found])
    p = [tables[0][metric][1].p for metric in ("mrr", "auc", "gauc", "logloss")]
    assert [tables[0][metric][1].p_holm for metric in ("mrr", "auc", "gauc", "logloss")] == holm(p)
    assert tables[0][DELONG][1].p_holm is None
    one_class = [Stored(ranks([1.0] * 100), clicks(list(first), labels=[1] * 200)) for _ in range(2)]
    assert list(compared(one_class, ["mrr", "auc"], resamples=100, seed=0)) == ["mrr"]


def test_all_tables_of_a_family_are_corrected_together() -> None:
    def table(p: float) -> dict[str, list[Compared]]:
        return {"mrr": [Compared(0.1, (0, 1)), Compared(0.1, (0, 1), p=p)]}

    found = corrected([table(0.01), table(0.04), table(0.02)])
    assert [each["mrr"][1].p_holm for each in found] == pytest.approx([0.03, 0.04, 0.04])
    assert found[0]["mrr"][0].p_holm is None


def test_other_users_items_or_candidates_are_refused() -> None:
    def pair(*sides: tuple[StoredRanks, StoredClicks | None]) -> list[Stored]:
        return [Stored(*side) for side in sides]

    asked = ranks([1, 2], [4, 5])
    same_targets(pair((asked, None), (ranks([9, 9], [4, 5]), None)), ["a", "b"])
    with pytest.raises(SeqrecError, match="a and b ranked other items"):
        same_targets(pair((asked, None), (ranks([1, 2], [4, 6]), None)), ["a", "b"])
    with pytest.raises(SeqrecError, match="a and b ranked other users"):
        same_targets(pair((asked, None), (ranks([1, 2, 3], [4, 5, 6]), None)), ["a", "b"])
    with pytest.raises(SeqrecError, match="other candidates"):
        same_targets(pair((asked, clicks([1, 0])), (asked, clicks([1, 0], items=[1, 2]))), ["a", "b"])
    with pytest.raises(SeqrecError, match="other labels"):
        same_targets(pair((asked, clicks([1, 0])), (asked, clicks([1, 0], labels=[0, 1]))), ["a", "b"])
