"""Ridge regression of item vectors: against items that are really left out, and against planted maps."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.item_estimates import STRENGTHS, Estimator, Ridge, TextFeatures

N, FEATURES, D = 40, 6, 5


def planted(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x_NF = rng.standard_normal((N, FEATURES))
    return x_NF, x_NF @ rng.standard_normal((FEATURES, D)) + 2 + noise * rng.standard_normal((N, D))


def test_left_out_items_are_estimated_as_if_they_were_not_there() -> None:
    x_NF, y_NY = planted(0.5)
    ridge = Ridge(x_NF, y_NY, width=D)
    centred = x_NF - x_NF.mean(0)
    scale = np.linalg.eigvalsh(centred.T @ centred).mean()

    def left_out(strength: float) -> np.ndarray:
        rows = []
        for n in range(N):
            others = np.arange(N) != n
            # The formula leaves the mean of the features where it is; the fit with an intercept is the same.
            rows.append(SklearnRidge(alpha=strength).fit(x_NF[others], y_NY[others]).predict(x_NF[n : n + 1])[0])
        return np.array(rows)

    by_hand = {strength: left_out(strength * scale) for strength in STRENGTHS}
    errors = {strength: float(((y_NY - found) ** 2).sum()) for strength, found in by_hand.items()}
    best = min(errors, key=errors.__getitem__)
    assert ridge.r2 == pytest.approx(1 - errors[best] / ((y_NY - y_NY.mean(0)) ** 2).sum(), rel=1e-6)
    mean = y_NY.mean(0)
    stretch = np.linalg.norm(y_NY - mean) / np.linalg.norm(by_hand[best] - mean)
    assert ridge.left_out_NY == pytest.approx(mean + stretch * (by_hand[best] - mean), rel=1e-6)


def test_a_planted_map_is_found_and_noise_is_not() -> None:
    x_NF, y_NY = planted(0.01)
    ridge = Ridge(x_NF[:-5], y_NY[:-5], width=D)
    assert ridge.r2 > 0.99
    for x_F, y_Y in zip(x_NF[-5:], y_NY[-5:], strict=True):
        assert ridge(x_F) == pytest.approx(y_Y, abs=0.1)
    rng = np.random.default_rng(3)
    assert Ridge(x_NF, rng.standard_normal((N, D)), width=D).r2 < 0.1


def test_estimates_stand_as_far_from_the_mean_as_trained_vectors_and_the_bias_is_not_stretched() -> None:
    x_NF, y_NY = planted(3.0)
    with_bias = np.concatenate([y_NY, 10 + x_NF[:, :1]], axis=1)
    ridge = Ridge(x_NF, with_bias, width=D)
    assert ridge.r2 > 0
    assert np.linalg.norm(ridge.left_out_NY[:, :D] - y_NY.mean(0)) == pytest.approx(
        np.linalg.norm(y_NY - y_NY.mean(0)), rel=1e-6
    )
    assert ridge.left_out_NY[:, D] == pytest.approx(10 + x_NF[:, 0], abs=0.5)


def test_what_tells_nothing_gives_the_mean_of_all_items() -> None:
    rng = np.random.default_rng(4)
    x_NF, y_NY = rng.standard_normal((N, FEATURES)), 2 + rng.standard_normal((N, D))
    ridge = Ridge(x_NF, y_NY, width=D)
    assert ridge.r2 <= 0
    assert ridge(x_NF[0]) == pytest.approx(y_NY.mean(0))


def test_estimates_stand_in_as_many_lists_as_trained_items_and_no_more() -> None:
    """Groups of items around places of their own, and users who like a group: the group's middle is near them all."""
    rng = np.random.default_rng(1)
    groups, items, width = 8, 400, 16
    of_N = rng.integers(0, groups, items)
    centres_GD = rng.standard_normal((groups, width))
    table_VY = np.zeros((items + 1, width))
    table_VY[1:] = 0.5 + 0.4 * centres_GD[of_N] + rng.standard_normal((items, width))
    features = TextFeatures(np.concatenate([np.full((1, groups), np.nan), np.eye(groups)[of_N]]))
    queries_RY = centres_GD[rng.integers(0, groups, 200)] + rng.standard_normal((200, width))
    targets_R = rng.integers(1, items + 1, 200)
    nothing_seen = np.zeros(0, np.int64), np.zeros(0, np.int64)
    estimator = Estimator(features, table_VY, np.arange(items + 1) > 0, width=width)
    lists_R = np.sort(queries_RY @ table_VY[1:].T, axis=1)[:, -10:]

    def shown() -> float:
        return float((queries_RY @ estimator.ridge.left_out_NY.T > lists_R[:, :1]).mean())

    full = estimator.ridge.stretch
    assert shown() > 2 * 10 / items  # each in more lists than a trained item
    found = estimator.quality(queries_RY, targets_R, nothing_seen, table_VY=table_VY)
    assert 1 < estimator.ridge.stretch < full
    assert found.shown10 == pytest.approx(shown())
    assert found.shown10_trained == 10 / items
    assert 0.9 * 10 / items < shown() <= 10 / items


def test_text_vectors_of_new_items_are_read_as_those_of_trained_ones() -> None:
    x_NF, y_NY = planted(0.1)
    vectors_VW = np.concatenate([np.full((1, FEATURES), np.nan), x_NF]).astype(np.float32)
    vectors_VW[7] = np.nan  # an item without
    features = TextFeatures(vectors_VW)
    for item in (1, 9):
        assert features.of(x_NF[item - 1].tolist()) == pytest.approx(features.matrix()[item], abs=1e-5)
    table_VY = np.concatenate([np.zeros((1, D)), y_NY]).astype(np.float32)
    known_V = np.arange(N + 1) > 0
    known_V[3] = False
    estimator = Estimator(features, table_VY, known_V, width=D)
    assert set(estimator.items_N) == set(range(1, N + 1)) - {3, 7}
    assert estimator.estimate(x_NF[2].tolist()) == pytest.approx(y_NY[2], abs=0.6)
    with pytest.raises(SeqrecError, match="text_vector: 1 numbers, those of the data have 6"):
        estimator.estimate([1.0])
    with pytest.raises(SeqrecError, match="fewer than two"):
        Estimator(features, table_VY, np.arange(N + 1) == 1, width=D)


def test_recall_is_that_of_each_target_with_its_estimate_in_place() -> None:
    x_NF, y_NY = planted(1.0)
    table_VY = np.concatenate([np.zeros((1, D)), y_NY])
    features = TextFeatures(np.concatenate([np.full((1, FEATURES), np.nan), x_NF]))
    estimator = Estimator(features, table_VY, np.arange(N + 1) > 0, width=D)
    rng = np.random.default_rng(0)
    targets_R, queries_RY = rng.integers(1, N + 1, 30), rng.standard_normal((30, D))
    queries_RY += table_VY[targets_R]
    seen = np.repeat(np.arange(30), 2), rng.integers(1, N + 1, 60)
    found = estimator.quality(queries_RY, targets_R, seen, table_VY=table_VY)
    hits = []
    for row, target in enumerate(targets_R):
        left = set(range(1, N + 1)) - set(seen[1][2 * row : 2 * row + 2].tolist()) - {int(target)}
        others = np.array([queries_RY[row] @ table_VY[item] for item in left])
        both = (estimator.ridge.left_out_NY[target - 1], table_VY[target])
        hits.append([(others > queries_RY[row] @ own).sum() < 10 for own in both])
    assert (found.recall10, found.recall10_trained) == pytest.approx(tuple(np.mean(hits, axis=0)))
