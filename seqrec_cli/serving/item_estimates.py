"""Vectors of items that training never saw, estimated from their attributes or text vectors by ridge regression.

Hoerl & Kennard 1970 (Technometrics 12(1)), as a map from content to factors as in Gantner et al. 2010 (ICDM, "Learning
Attribute-to-Feature Mappings for Cold-Start Recommendations", eq. 4: there by stochastic descent, here in closed form).
The regularisation is the one with the smallest error on items that were left out one at a time, for which ridge has a
formula (PRESS, Allen 1974, Technometrics 16(1)): e_i / (1 - h_ii).

Regression shrinks towards the mean of all items what it cannot tell, and an item at the mean stands in next to no list.
So estimates are stretched away from the mean, as far as trained vectors stand from it, but no further than to where
items that are left out stand in as many lists of ten as trained items do: a new item is no favourite of everybody's.
Where the regression tells nothing (r2 is not above 0) there is nothing to stretch, and the estimate is the mean.

Legend: V items, N items that are learned from, F features, D width, Y = D or D + 1 (with the bias), R requests.
"""

from dataclasses import dataclass

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.numbers import vector_features
from seqrec_cli.serving.attribute_values import AttributeValues, Given

MOST_ITEMS, MOST_VALUES = 20_000, 2_000  # that are learned from: the first drawn, the second by how many items have it
HALVINGS = 12  # of the stretch, until it is known to a four-thousandth
STRENGTHS = 10.0 ** np.arange(-4, 5)  # of the ridge, times the mean squared feature


@dataclass(frozen=True)
class Quality:
    """What estimates are worth, measured on trained items left out one at a time."""

    items: int
    r2: float  # share of the vectors' variance that is explained
    recall10: float | None = (
        None  # validation targets among the ten best, each with its estimate in place of its vector
    )
    recall10_trained: float | None = None  # and with its trained vector
    shown10: float | None = None  # validation lists of ten that an estimated item would stand in: their share
    shown10_trained: float | None = None  # and a trained one


class Ridge:
    """Vectors (and biases) from features."""

    def __init__(self, features_NF: np.ndarray, targets_NY: np.ndarray, *, width: int) -> None:
        x_NF, y_NY = features_NF.astype(np.float64), targets_NY.astype(np.float64)
        self._mean_F, self._mean_Y, self._width = x_NF.mean(0), y_NY.mean(0), width
        x_NF, y_NY = x_NF - self._mean_F, y_NY - self._mean_Y
        deviations_ND = y_NY[:, :width]
        squares_F, q_FF = np.linalg.eigh(x_NF.T @ x_NF)
        rotated_NF = x_NF @ q_FF
        projected_FY = rotated_NF.T @ y_NY
        errors = []
        for strength in STRENGTHS * max(squares_F.mean(), 1e-12):
            inverse_F = 1 / (np.maximum(squares_F, 0) + strength)
            left_out_NY = self._left_out(rotated_NF, inverse_F, projected_FY, targets_NY=y_NY)
            errors.append((((y_NY - left_out_NY)[:, :width] ** 2).sum(), strength))
        error, strength = min(errors)
        inverse_F = 1 / (np.maximum(squares_F, 0) + strength)
        self._weights_FY = q_FF @ (inverse_F[:, None] * projected_FY)
        self.r2 = float(1 - error / max((y_NY[:, :width] ** 2).sum(), 1e-12))
        self._left_out_NY = self._left_out(rotated_NF, inverse_F, projected_FY, targets_NY=y_NY)  # from the mean
        estimated = float((self._left_out_NY[:, :width] ** 2).sum()) ** 0.5
        trained = float((deviations_ND**2).sum()) ** 0.5
        # How far an estimate stands from the mean, in what the regression makes of it: as far as trained vectors do, or
        # not at all where it tells nothing of them.
        self.stretch = trained / max(estimated, 1e-12) if self.r2 > 0 else 0.0

    def __call__(self, features_F: np.ndarray) -> np.ndarray:
        """[F] -> [Y]."""
        return self._stretched(((features_F - self._mean_F) @ self._weights_FY)[None], self.stretch)[0]

    @property
    def left_out_NY(self) -> np.ndarray:
        """The estimate of each item that was learned from, without it, [N, Y]."""
        return self._stretched(self._left_out_NY, self.stretch)

    def show_no_more(self, queries_RY: np.ndarray, tenth_R: np.ndarray, shown: float) -> None:
        """Stretch estimates less, until they stand in no larger share of lists of ten than trained items do: where a
        score is above a list's tenth."""

        at_mean_RN = queries_RY @ self._stretched(self._left_out_NY, 0.0).T - tenth_R[:, None]
        beyond_RN = queries_RY[:, : self._width] @ self._left_out_NY[:, : self._width].T

        def share(stretch: float) -> float:
            return float((at_mean_RN + stretch * beyond_RN > 0).mean())

        low, high = 0.0, self.stretch
        if share(high) <= shown:
            return
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if share(middle) <= shown else (low, middle)
        self.stretch = low

    def _left_out(
        self, rotated_NF: np.ndarray, inverse_F: np.ndarray, projected_FY: np.ndarray, *, targets_NY: np.ndarray
    ) -> np.ndarray:
        """What each item's vector is without it, but for the mean; `h` holds the intercept's part too."""
        fitted_NY = rotated_NF @ (inverse_F[:, None] * projected_FY)
        h_N = 1 / len(rotated_NF) + (rotated_NF**2) @ inverse_F
        return targets_NY - (targets_NY - fitted_NY) / np.maximum(1 - h_N, 1e-6)[:, None]

    def _stretched(self, deviations_NY: np.ndarray, stretch: float) -> np.ndarray:
        """A bias is what the regression makes of it."""
        found_NY: np.ndarray = self._mean_Y + deviations_NY
        found_NY[:, : self._width] = self._mean_Y[: self._width] + stretch * deviations_NY[:, : self._width]
        return found_NY


class AttributeFeatures:
    """Items' attributes as features: 1 for every value an item has, and each number, in standard deviations from its
    mean, with a 1 where there is one."""

    def __init__(self, values: AttributeValues) -> None:
        self._values = values
        self._columns: dict[tuple[str, int], int] = {}
        of_numbers = values.numbers
        counted = []
        for name in values.names:
            if name not in of_numbers:
                codes = values.codes(name)
                counts_A = np.bincount(codes.ravel(), minlength=values.size(name))
                counted += [(-counts_A[code], name, code) for code in range(1, len(counts_A)) if counts_A[code]]
        for _, name, code in sorted(counted)[:MOST_VALUES]:
            self._columns[name, code] = len(self._columns)
        self._numbers = {
            name: (float(np.nanmean(numbers)), float(np.nanstd(numbers)) or 1.0)
            for name, numbers in of_numbers.items()
            if not np.isnan(numbers).all()
        }

    def matrix(self) -> np.ndarray:
        """Of every item, float32 [V + 1, F]."""
        names = self._values.names
        rows = len(self._values.codes(names[0]))
        features_VF = np.zeros((rows, len(self._columns) + 2 * len(self._numbers)), np.float32)
        for (name, code), column in self._columns.items():
            features_VF[(self._values.codes(name) == code).any(axis=1), column] = 1
        for nth, (name, (mean, deviation)) in enumerate(self._numbers.items()):
            numbers_V = self._values.numbers[name]
            column = len(self._columns) + 2 * nth
            features_VF[:, column] = np.nan_to_num((numbers_V - mean) / deviation)
            features_VF[:, column + 1] = ~np.isnan(numbers_V)
        return features_VF

    def of(self, given: Given) -> np.ndarray:
        """[F] of an item. Raises SeqrecError on what the data do not have, and where nothing is told."""
        features_F = np.zeros(len(self._columns) + 2 * len(self._numbers), np.float32)
        values = self._values.read(given, "attributes")
        if not values:
            raise SeqrecError("attributes: none is given, so there is nothing to estimate a vector from")
        for value in values:
            if (value.attribute, value.code) in self._columns:
                features_F[self._columns[value.attribute, value.code]] = 1
        numbers = self._values.numbers_told(given, "attributes")
        for nth, (name, (mean, deviation)) in enumerate(self._numbers.items()):
            if not np.isnan(numbers.get(name, np.nan)):
                column = len(self._columns) + 2 * nth
                features_F[[column, column + 1]] = (numbers[name] - mean) / deviation, 1
        return features_F


class TextFeatures:
    """Pre-trained vectors of items, as models read them (`vector_features`)."""

    def __init__(self, vectors_VW: np.ndarray) -> None:
        self.vectors_VW = vectors_VW

    def matrix(self) -> np.ndarray:
        """Of every item, float32 [V + 1, F]; without a vector: zeros."""
        return vector_features(self.vectors_VW)

    def of(self, vector: list[float]) -> np.ndarray:
        """[F] of an item. Raises SeqrecError where it is not as wide as the others."""
        if len(vector) != self.vectors_VW.shape[1]:
            raise SeqrecError(f"text_vector: {len(vector)} numbers, those of the data have {self.vectors_VW.shape[1]}")
        centre = np.nanmean(self.vectors_VW, axis=0)
        scale = max(float(np.sqrt(np.nanmean((self.vectors_VW - centre) ** 2))), 1e-12)
        features_F = np.append((np.array(vector) - centre) / scale, 1.0)
        found: np.ndarray = (features_F / len(features_F) ** 0.5).astype(np.float32)
        return found


class Estimator:
    """Vectors of new items from one kind of features, and what they are worth."""

    def __init__(
        self, features: AttributeFeatures | TextFeatures, table_VY: np.ndarray, known_V: np.ndarray, *, width: int
    ) -> None:
        """`known_V`: items whose vectors were trained; of these, those that have features are learned from. Raises
        SeqrecError where they are fewer than two."""
        self._features = features
        features_VF = features.matrix()
        items_N = np.flatnonzero(known_V & features_VF.any(axis=1))
        if len(items_N) < 2:
            raise SeqrecError("fewer than two trained items have attributes to learn from")
        if len(items_N) > MOST_ITEMS:
            items_N = np.sort(np.random.default_rng(0).permutation(items_N)[:MOST_ITEMS])
        self.items_N = items_N
        self.ridge = Ridge(features_VF[items_N], table_VY[items_N], width=width)

    @property
    def r2(self) -> float:
        """Share of the trained vectors' variance that is explained, of items left out."""
        return self.ridge.r2

    def estimate(self, told: Given | list[float]) -> np.ndarray:
        """[Y]. Raises SeqrecError on what is not understood."""
        return self.ridge(self._features.of(told))  # type: ignore[arg-type]

    def quality(
        self,
        queries_RY: np.ndarray,
        targets_R: np.ndarray,
        seen: tuple[np.ndarray, np.ndarray],
        *,
        table_VY: np.ndarray,
    ) -> Quality:
        """With the recall over requests, whose targets are items (from 1) and whose seen items are left out."""
        place_V = np.full(len(table_VY), -1)
        place_V[self.items_N] = np.arange(len(self.items_N))
        rows_R = np.flatnonzero(place_V[targets_R] >= 0)
        if not len(rows_R):
            return Quality(len(self.items_N), self.ridge.r2)
        scores_RV = queries_RY @ table_VY.T
        trained_R = scores_RV[np.arange(len(targets_R)), targets_R].copy()
        scores_RV[:, 0] = -np.inf
        scores_RV[seen] = -np.inf
        listed = min(10, scores_RV.shape[1] - 1)
        tenth_R = np.partition(scores_RV, -listed, axis=1)[:, -listed]
        shown = listed / (len(table_VY) - 1)
        self.ridge.show_no_more(queries_RY, tenth_R, shown)
        left_out_NY = self.ridge.left_out_NY
        estimated_R = (queries_RY * left_out_NY[place_V[targets_R]]).sum(1)
        scores_RV[np.arange(len(targets_R)), targets_R] = -np.inf
        hits = [(scores_RV > own_R[:, None]).sum(1)[rows_R] < 10 for own_R in (estimated_R, trained_R)]
        recall10, recall10_trained = (float(hit_R.mean()) for hit_R in hits)
        estimated = float((queries_RY @ left_out_NY.T > tenth_R[:, None]).mean())
        return Quality(len(self.items_N), self.ridge.r2, recall10, recall10_trained, estimated, shown)
