"""The fit of a scaling law on planted laws, and the ladder whose runs it reads."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from scripts import scaling_ladder
from scripts.power_law import Law, fit, trust
from scripts.scaling_ladder import Cost, shape
from scripts.scaling_law import Run, best_shapes, laws, read, runs_table, stated

SIZES = np.array([16, 32, 64])[:, None] ** 2 * np.array([1, 2])[None] * 12.0
X_RK = np.stack([np.tile(SIZES.ravel(), 3), np.repeat([1e10, 1e11, 1e12], 6)], axis=1)
CENTRE = np.exp(np.log(X_RK).mean(0))


def planted(size: float, compute: float, noise: float, seed: int = 0) -> np.ndarray:
    parts = np.array([size, compute]) * (X_RK / CENTRE) ** -np.array([0.4, 0.25])
    return (4 + parts.sum(1)) * np.exp(np.random.default_rng(seed).normal(0, noise, len(X_RK)))


def test_a_planted_law_is_found() -> None:
    law = fit(X_RK, planted(0.8, 0.5, 0.0))
    assert law.floor == pytest.approx(4, abs=0.02)
    np.testing.assert_allclose(law.amplitudes_K, [0.8, 0.5], rtol=0.05)
    np.testing.assert_allclose(law.exponents_K, [0.4, 0.25], rtol=0.05)
    np.testing.assert_allclose(law.loss(X_RK), planted(0.8, 0.5, 0.0), rtol=1e-3)
    ends = 0.8 * ((X_RK.min(0) / CENTRE)[0] ** -0.4 - (X_RK.max(0) / CENTRE)[0] ** -0.4)
    assert law.falls(X_RK)[0] == pytest.approx(ends, rel=0.05)


def test_an_outlier_does_not_move_it() -> None:
    losses_R = planted(0.8, 0.5, 0.0)
    losses_R[4] *= 1.5
    np.testing.assert_allclose(fit(X_RK, losses_R).exponents_K, [0.4, 0.25], rtol=0.15)


def test_what_is_not_there_cannot_be_told_from_a_constant() -> None:
    losses_R = planted(0.0, 0.5, 0.005)
    law = fit(X_RK, losses_R)
    found = trust(X_RK, losses_R, law, draws=19)
    assert law.floor == pytest.approx(4, abs=0.1)  # what does not change is in the floor
    assert found.p_values[0] > 0.1
    assert found.p_values[1] == pytest.approx(1 / 20)
    assert found.left_out < 0.3 * found.constant
    assert found.left_out > 1.1 * np.abs(law.loss(X_RK) - losses_R).mean()  # of runs that the law has not seen
    low, high = found.exponents[1]
    assert low <= 0.25 <= high
    lines = "\n".join(stated("sasrec on x", ["layers", "flops"], law, error=found, runs=18))
    assert lines.count("cannot be told from a constant") == 1
    assert "flops: exponent 0.2" in lines
    assert "no law" not in lines
    no_law = Law(4.0, law.amplitudes_K, law.exponents_K, law.centre_K, 0.0)
    worse = found.__class__(**{**vars(found), "left_out": 2 * found.constant})
    assert "no law, a constant predicts as well" in "\n".join(stated("x", ["a", "b"], no_law, error=worse, runs=18))


def test_too_few_runs_and_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="4 runs cannot tell 5 parameters"):
        fit(X_RK[:4], np.ones(4))
    with pytest.raises(ValueError, match="positive"):
        fit(X_RK, np.full(len(X_RK), np.nan))


def test_a_law_is_of_the_terms_that_vary_and_the_best_shape_of_a_budget_has_the_least_loss() -> None:
    losses_R = planted(0.0, 0.5, 0.0)
    runs = [
        Run("sasrec", "x", nth % 6, 1, int(size), 2 * int(size), flops, 1000, loss, {}, 1.0)
        for nth, ((size, flops), loss) in enumerate(zip(X_RK.tolist(), losses_R.tolist(), strict=True))
    ]
    said = "\n".join(laws(runs, ["events", "flops"], draws=1))
    assert "events has fewer than three values, and no term" in said
    assert "flops: exponent 0.25" in said
    shapes = list(best_shapes([run._replace(loss=run.loss + 0.1 * (run.dim != 4)) for run in runs]))
    assert len(shapes) == 3
    assert all("d 4, 1 blocks" in line and "(of 6 shapes" in line for line in shapes)


def test_every_budget_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_ladder, "cost", lambda cfg: Cost(1e6, 10, 1, 1, 1))
    budgets = [1e9, 1.5e9, 1.6e9, 2e9, 2.4e9]
    given = Namespace(models=["sasrec"], dims=[8], blocks=[1], flops=budgets, least=1, validations=4, out="x")
    found = list(scaling_ladder.rungs(Namespace(**vars(given), overrides=["dataset=synthetic"])))
    assert len({words[-1] for words in found}) == len(budgets)
    steps = {words[-1]: next(word for word in words if "max_steps" in word) for words in found}
    assert steps["run_dir=x/sasrec_synthetic_d8_b1_1.5e+09"] == "trainer.max_steps=1500"


def test_the_ladder_spends_one_budget_and_its_runs_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shape("sasrec", 64, 2)[1:] == ["model.embed_dim=64", "model.blocks=2", "model.heads=2", "model.ffn_dim=256"]
    assert "model.ffn_dim=64" not in shape("hstu", 16, 1)
    words = ["--models", "sasrec", "--dims", "8", "16", "--blocks", "1", "--flops", "4e8", "1e3", "--least", "2"]
    small = ["experiment=synthetic_scaling", "dataset.users=60", "dataset.items=40", f"data_dir={tmp_path / 'data'}"]
    monkeypatch.setattr("sys.argv", ["ladder", *words, "--out", str(tmp_path / "runs"), "--run", *small])
    scaling_ladder.main()
    assert capsys.readouterr().err.count("so it is left out") == 2  # the budget of 1e3
    folders = sorted((tmp_path / "runs").iterdir())
    runs = [read(folder) for folder in folders]
    assert [(run.dim, run.blocks) for run in runs] == [(16, 1), (8, 1)]
    for run in runs:
        assert run.flops == pytest.approx(4e8, rel=0.2)
        assert run.loss > 0
    assert runs[0].layers > 2 * runs[1].layers
    assert runs[0].parameters > runs[0].layers
    lines = [*runs_table(runs), *best_shapes(runs), *laws(runs, ["layers", "flops"], draws=5)]
    assert sum(line.startswith("| sasrec | synthetic | ") for line in lines) == 2
    assert any("too few for a law" in line for line in lines)
