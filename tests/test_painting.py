"""What stands in for the pictures of runs in tests (tests/painting.py)."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seqrec_cli.reporting import figures, reliability
from tests.painting import Unpainted, a_picture

BINS = SimpleNamespace(
    counts_K=np.array([3, 0, 5]), predicted_K=np.array([0.1, 0.0, 0.9]), clicked_K=np.array([0.2, 0.0, 0.8]), error=0.1
)


@pytest.mark.usefixtures("painted")
@pytest.mark.parametrize(("handed", "laid_out"), [(False, 1), (True, 0)])
def test_a_picture_of_a_run_is_laid_out_once_or_never(
    handed: bool, laid_out: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[float, ...]] = []

    def new_figure(*size: float) -> object:
        made.append(size)
        return figures.new_figure(*size)

    monkeypatch.setattr(reliability, "new_figure", new_figure)
    patch = Unpainted(painted=a_picture() if handed else None)
    patch.start()
    for name in ("a", "b"):
        reliability.draw_reliability(tmp_path / f"reliability_{name}.png", BINS)
    patch.stop()
    assert len(made) == laid_out
    first, second = ((tmp_path / f"reliability_{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second
    assert first.startswith(b"\x89PNG")
    reliability.draw_reliability(tmp_path / "own.png", BINS)
    assert len(made) == laid_out + 1
