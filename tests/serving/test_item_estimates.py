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
    scale_of_length = np.linalg.norm(y_NY, axis=1).mean() / np.linalg.norm(by_hand[best], axis=1).mean()
    assert ridge.left_out_NY == pytest.approx(by_hand[best] * scale_of_length, rel=1e-6)


def test_a_planted_map_is_found_and_noise_is_not() -> None:
    x_NF, y_NY = planted(0.01)
    ridge = Ridge(x_NF[:-5], y_NY[:-5], width=D)
    assert ridge.r2 > 0.99
    for x_F, y_Y in zip(x_NF[-5:], y_NY[-5:], strict=True):
        assert ridge(x_F) == pytest.approx(y_Y, abs=0.1)
    rng = np.random.default_rng(3)
    assert Ridge(x_NF, rng.standard_normal((N, D)), width=D).r2 < 0.1


def test_lengths_are_those_of_trained_vectors_and_the_bias_is_not_scaled() -> None:
    x_NF, y_NY = planted(3.0)
    units = y_NY / np.linalg.norm(y_NY, axis=1, keepdims=True)
    assert np.linalg.norm(Ridge(x_NF, 2 * units, width=D)(x_NF[0])) == pytest.approx(2)
    with_bias = np.concatenate([y_NY, 10 + x_NF[:, :1]], axis=1)
    ridge = Ridge(x_NF, with_bias, width=D)
    assert np.linalg.norm(ridge.left_out_NY[:, :D], axis=1).mean() == pytest.approx(
        np.linalg.norm(y_NY, axis=1).mean(), rel=1e-6
    )
    assert ridge.left_out_NY[:, D].mean() == pytest.approx(10 + x_NF[:, 0].mean(), abs=0.3)


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
