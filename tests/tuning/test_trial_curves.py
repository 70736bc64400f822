"""Where a curve peaked, whether it still rose, and validation loss that rises beside the metric."""

import pytest
from stub_endpoint import trial

from seqrec_cli.tuning.curves import OverFit, over_fit, still_rising, thinned


@pytest.mark.parametrize(
    ("values", "losses", "found"),
    [
        ([0.1, 0.2, 0.3], [3.0, 2.0, 2.2], OverFit(2, 3, 3, pytest.approx(0.1))),  # type: ignore[arg-type]
        ([0.3, 0.2, 0.1], [3.0, 2.0, 2.01], None),  # less than a hundredth: noise
        ([0.1, 0.2, 0.3], [3.0, 2.0, 1.0], None),
        ([0.1, 0.2, 0.3], [None, None, None], None),
        ([0.1, 0.2, 0.3], [3.0, float("nan"), 4.0], OverFit(1, 3, 3, pytest.approx(1 / 3))),  # type: ignore[arg-type]
        ([0.1], [3.0], None),
        ([], [], None),
        ([0.1, 0.2], [0.0, 1.0], None),
    ],
)
def test_over_fitting(values: list[float], losses: list[float | None], found: OverFit | None) -> None:
    assert over_fit(trial(0, {}, values, losses=losses)) == found


def test_over_fitting_in_words() -> None:
    found = over_fit(trial(0, {}, [0.1, 0.3, 0.2], losses=[2.0, 3.0, 2.16]))
    assert found is not None
    assert found.in_words("auc") == (
        "validation loss is lowest at epoch 1 and 8% above that at epoch 3; auc is best at epoch 2"
    )


@pytest.mark.parametrize(("values", "rising"), [([0.1, 0.2], True), ([0.2, 0.1], False), ([0.1], False), ([], False)])
def test_still_rising(values: list[float], rising: bool) -> None:
    assert still_rising(trial(0, {}, values)) is rising


@pytest.mark.parametrize("count", [0, 1, 2, 11, 12, 13, 14, 100, 1000])
def test_a_thinned_curve_keeps_its_ends_and_its_peak(count: int) -> None:
    whole = trial(0, {}, [float(nth == count // 3) for nth in range(count)])
    kept = thinned(whole, 12)
    assert len(kept) == min(count, len(kept)) <= 12
    assert list(kept) == sorted(kept, key=lambda at: at.epoch)
    if count:
        assert {whole.curve[0], whole.curve[-1], whole.best} <= set(kept)
