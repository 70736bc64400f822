"""The metrics against RecTools and ranx, where one of them is installed."""

import importlib.util

import numpy as np
import pytest

from scripts.parity_metrics import LIBRARIES, Case, main

THERE = [name for name in LIBRARIES if importlib.util.find_spec(name)]


@pytest.mark.skipif(not THERE, reason="neither RecTools nor ranx is installed")
def test_metrics_are_those_of_other_libraries() -> None:
    assert main() == 0


def test_without_them_the_script_says_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main() == 0
    assert "nothing compared" in capsys.readouterr().out


def test_ties_move_metrics_of_ranks_and_no_others() -> None:
    """Sorting tied scores by item gives a tie across the cutoff away to one of its items; here it is no hit."""
    tied = Case(levels=4)
    apart = Case(levels=4)
    apart.scores_RV = apart.scores_RV - 1e-9 * np.arange(apart.scores_RV.shape[1])
    ours, sorted_ = tied.ours(), apart.ours()
    differ = {name.partition("@")[0] for name in ours if abs(ours[name] - sorted_[name]) > 1e-6}
    assert differ == {"hr", "precision", "recall", "ndcg", "mrr", "map", "r_precision"}
