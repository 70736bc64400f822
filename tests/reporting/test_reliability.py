"""The reliability plot: a picture, whole, also where bins are empty."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.image import imread

from seqrec_cli.reporting.reliability import draw_reliability

pytestmark = pytest.mark.usefixtures("painted")


class Bins(NamedTuple):
    counts_K: np.ndarray
    predicted_K: np.ndarray
    clicked_K: np.ndarray
    error: float


def test_a_picture_of_bins_some_of_them_empty(tmp_path: Path) -> None:
    png = tmp_path / "reliability_test.png"
    draw_reliability(png, Bins(np.array([90, 0, 10]), np.array([0.1, 0.0, 0.8]), np.array([0.2, 0.0, 0.6]), 0.11))
    image = imread(png)
    assert image.shape[0] > 400
    orange = (np.abs(image[..., :3] - np.array([0xD5, 0x5E, 0x00]) / 255) < 0.02).all(-1)
    assert orange.any()  # the model's line
    draw_reliability(png, Bins(np.array([0, 5]), np.array([0.0, 0.7]), np.array([0.0, 1.0]), 0.3))
    assert not np.array_equal(imread(png), image)
    assert [path.name for path in tmp_path.iterdir()] == [png.name]
