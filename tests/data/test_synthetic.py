"""The synthetic process: deterministic, true to its law, and its oracle unbeaten."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_helpers import build, dataset
from pydantic import ValidationError

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.sources.synthetic import SyntheticProcess, has_oracle, oracle_scores
from seqrec_cli.data.splits import held_out, train_ends
from seqrec_cli.data.vocabulary import vocabulary

SMALL: dict[str, Any] = {"users": 300, "items": 60, "categories": 6, "min_events": 5, "max_events": 15}


def process(**values: Any) -> SyntheticProcess:
    return SyntheticProcess(dataset("synthetic", **SMALL | values))


def histories(made: SyntheticProcess) -> list[list[int]]:
    raw = made.generate()
    return [raw.items_N[raw.users_N == user].tolist() for user in range(1, made.cfg.users + 1)]


def test_the_same_settings_make_the_same_events_and_another_seed_others() -> None:
    one, two, other = process().generate(), process().generate(), process(seed=1).generate()
    assert (one.items_N == two.items_N).all()
    assert one.times_N is not None
    assert two.times_N is not None
    assert (one.times_N == two.times_N).all()
    assert one.items_N[:50].tolist() != other.items_N[:50].tolist()


def test_histories_have_the_asked_lengths_and_repeat_nothing() -> None:
    made = histories(process())
    assert {len(history) for history in made} == set(range(5, 16))
    assert all(len(set(history)) == len(history) for history in made)
    assert {item for history in made for item in history} <= set(range(1, 61))


def test_times_rise_in_sessions_of_seconds_hours_apart() -> None:
    raw = process(session_gap=60.0, between_hours=[5.0, 50.0], session_events=4.0, users=500).generate()
    assert raw.times_N is not None
    gaps = np.diff(raw.times_N)[np.diff(raw.users_N) == 0]
    assert gaps.min() >= 1
    between = gaps >= 5 * 3600
    assert gaps[between].max() <= 50 * 3600 + 1
    assert gaps[~between].max() < 3600
    assert between.mean() == pytest.approx(1 / 4, abs=0.03)
    assert gaps[~between].mean() == pytest.approx(61.5, rel=0.1)


def test_probabilities_follow_the_definition() -> None:
    made = process(lag_weights=[0.5, 0.3, 0.2], predictability=0.7, successors=3, successor_decay=1.0)
    expected = 0.3 * made.popular_GV[2]
    for lag, item in zip((0.5, 0.3, 0.2), (11, 7, 30), strict=True):
        for weight, successor in zip(np.array([1, 1 / 2, 1 / 3]) * 6 / 11, made.successors_VS[item], strict=True):
            expected[successor - 1] += 0.7 * lag * weight
    found = made.next_probabilities([4, 30, 7, 11], segment=2)
    assert found == pytest.approx(expected)
    assert found.sum() == pytest.approx(1)
    # A short history shares the weights among the lags it has; an empty one is popularity alone.
    two = made.next_probabilities([7, 11], segment=0)
    assert two[made.successors_VS[11] - 1].sum() >= 0.7 * 0.5 / 0.8
    assert made.next_probabilities([], segment=1) == pytest.approx(made.popular_GV[1])


@pytest.mark.parametrize(("own", "linked", "categories"), [(0.0, 1.0, 20), (1.0, 1.0, 20), (1.0, 0.0, 1)])
def test_successors_are_distinct_also_where_items_run_short(own: float, linked: float, categories: int) -> None:
    lists = process(categories=categories, linked=linked, own_successors=own, successors=8).successors_VS[1:]
    assert all(len({*row, item}) == 9 for item, row in enumerate(lists.tolist(), 1))


def test_successors_lie_in_linked_categories_and_are_mostly_shared() -> None:
    made = process(items=600, linked=0.9, own_successors=0.2, successors=5)
    lists = made.successors_VS[1:]
    assert all(len({*row, item}) == 6 for item, row in enumerate(lists.tolist(), 1))  # distinct, and never itself
    shared, linked = [], []
    for category in range(6):
        here = lists[made.category_V == category]
        shared.append(np.mean([(here == row).mean() for row in here]))
        linked.append(np.sort(np.bincount(made.category_V[here - 1].ravel(), minlength=6))[-2:].sum() / here.size)
    assert np.mean(shared) == pytest.approx(0.8**2, abs=0.08)  # two items agree where neither has its own
    assert np.mean(linked) > 0.75


@pytest.mark.parametrize("rounds", [0, 12])
def test_events_are_drawn_by_the_law_restricted_to_unseen_items(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to draw, the exact one (0 rounds) and by rejection, against the sum of the users' probabilities."""
    monkeypatch.setattr("seqrec_cli.data.sources.synthetic.ROUNDS", rounds)
    made = process(users=4000, items=12, categories=3, segments=2, successors=3, min_events=5, max_events=5)
    drawn = histories(made)
    for step in range(5):
        expected, spread, found = np.zeros(12), np.zeros(12), np.zeros(12)
        for user, history in enumerate(drawn):
            chances = made.next_probabilities(history[:step], int(made.segment_U[user]))
            chances[[item - 1 for item in history[:step]]] = 0
            chances /= chances.sum()
            expected += chances
            spread += chances * (1 - chances)
            found[history[step] - 1] += 1
        assert np.abs(found - expected).max() < 4.5 * np.sqrt(spread.max())
        assert (np.abs(found - expected) / np.sqrt(spread)).mean() < 1.5


def test_the_dial_turns_prediction_off_and_on() -> None:
    def followed(made: SyntheticProcess) -> float:
        """Part of events that succeed one of the three items before."""
        hits = [
            history[place] in made.successors_VS[history[place - 3 : place]]
            for history in histories(made)
            for place in range(3, len(history))
        ]
        return float(np.mean(hits))

    shared: dict[str, Any] = {"successors": 4, "items": 200, "popularity_decay": 0.0, "affinity": 1.0}
    none, half, all_ = (followed(process(predictability=dial, **shared)) for dial in (0.0, 0.5, 1.0))
    assert none < 0.12
    assert 0.4 < half < 0.65
    assert all_ > 0.99


def test_full_predictability_ends_even_when_all_successors_were_seen() -> None:
    made = process(items=12, categories=2, successors=1, predictability=1.0, min_events=11, max_events=11, users=50)
    assert all(len(set(history)) == 11 for history in histories(made))


def test_attributes_are_the_processs_own(tmp_path: Path) -> None:
    cfg = dataset("synthetic", **SMALL)
    log = build(cfg, tmp_path)
    made = SyntheticProcess(cfg)
    raw_items = vocabulary(log.folder, "items")
    names = log.manifest["item_attribute_values"]["category"]
    found = [names[value - 1] for value in log.catalog.item_values["category"][1:, 0]]
    assert found == [f"category-{made.category_V[item - 1]}" for item in raw_items]
    assert log.catalog.user_values["segment"][1:, 0].tolist() == (made.segment_U + 1).tolist()


def ranks(log: PackedLog, scores_RV: np.ndarray) -> np.ndarray:
    """Ranks of the test targets among unseen items, ties at their mean."""
    targets = held_out(log, "test")
    found = []
    for row, end, scores_V in zip(targets.rows_R, targets.ends_R, scores_RV, strict=True):
        score = scores_V[log.items_N[end]]
        others = np.delete(scores_V, [0, *log.items_N[log.offsets_U1[row] : end]])
        found.append(1 + (others > score).sum() + ((others == score).sum() - 1) / 2)
    return np.array(found)


def test_the_oracle_beats_markov_and_popularity(tmp_path: Path) -> None:
    log = build(dataset("synthetic", **SMALL | {"users": 1000}), tmp_path)
    targets, ends_U = held_out(log, "test"), train_ends(log)
    popular_V, follows_VV = np.zeros(log.num_items + 1), np.zeros((log.num_items + 1, log.num_items + 1))
    for start, end in zip(log.offsets_U1[:-1], ends_U, strict=True):
        history = log.items_N[start:end]
        popular_V[history] += 1
        np.add.at(follows_VV, (history[:-1], history[1:]), 1)
    oracle = oracle_scores(log, targets.rows_R, targets.ends_R)
    assert oracle.shape == (len(targets.rows_R), log.num_items + 1)
    assert (oracle[:, 0] == 0).all()
    markov = follows_VV[log.items_N[targets.ends_R - 1]] + popular_V / popular_V.sum()
    mrr = [(1 / ranks(log, scores)).mean() for scores in (oracle, markov, np.tile(popular_V, (len(oracle), 1)))]
    assert mrr[0] > 1.05 * mrr[1]
    assert mrr[1] > 1.5 * mrr[2]


def test_the_oracle_reads_histories_by_packed_index(tmp_path: Path) -> None:
    """Few users, so that some items never occur and packed indices differ from raw ids."""
    cfg = dataset("synthetic", **SMALL | {"users": 4})
    log = build(cfg, tmp_path)
    raw_items = vocabulary(log.folder, "items")
    assert len(raw_items) < 60
    made = SyntheticProcess(cfg)
    rows_B = np.array([2, 0, 1, 3])
    ends_B = log.offsets_U1[rows_B] + np.array([0, 1, 2, 5])
    scores = oracle_scores(log, rows_B, ends_B)
    for row, end, found in zip(rows_B, ends_B, scores, strict=True):
        history = raw_items[log.items_N[log.offsets_U1[row] : end] - 1].tolist()
        assert found[1:] == pytest.approx(made.next_probabilities(history, int(made.segment_U[row]))[raw_items - 1])


def test_filters_that_remove_events_end_the_oracle(tmp_path: Path) -> None:
    log = build(dataset("synthetic", **SMALL | {"user_core": 8}), tmp_path)
    assert not has_oracle(log)
    with pytest.raises(SeqrecError, match="there is no oracle"):
        oracle_scores(log, np.array([0]), log.offsets_U1[1:2])
    assert has_oracle(build(dataset("synthetic", **SMALL), tmp_path))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"max_events": 60}, "no user repeats an item"),
        ({"min_events": 16}, r"min_events <= dataset\.max_events"),
        ({"successors": 60}, r"dataset\.successors=60 must be below half"),
        ({"categories": 61}, r"dataset\.categories=61 exceeds"),
        ({"lag_weights": [0.0, 1.0]}, r"dataset\.lag_weights"),
        ({"between_hours": [5.0, 2.0]}, r"dataset\.between_hours"),
        ({"predictability": 1.5}, "less than or equal to 1"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        process(**values)
