"""Short runs, promotions, checks, and the rank correlation that doubles a horizon which misleads."""

from collections.abc import Callable
from typing import Any

import pytest
from stub_endpoint import trial

from seqrec_cli.config.horizon import HorizonConfig
from seqrec_cli.tuning.horizons import LEAST_PAIRS, Agreement, Horizons
from seqrec_cli.tuning.records import TrialRecord


def horizons(longest: int = 18, metric: str = "ndcg@10", **changes: Any) -> tuple[Horizons, list[str]]:
    said: list[str] = []
    plain = {"epochs": 2, "factor": 3, "checks": 2, "agreement": 0.7} | changes
    return Horizons(HorizonConfig.from_plain(plain), metric, longest, said.append), said


def at(number: int, x: float, epochs: int, value: float, **changes: Any) -> TrialRecord:
    """The run of setting `x` for so many epochs."""
    return trial(number, {"x": x}, [value / 2] * (epochs - 1) + [value], **changes)


def study(horizon: Horizons, count: int, value: Callable[[float, int], float]) -> list[TrialRecord]:
    """A study whose sampler names 0, 1, 2, ... and whose runs are worth `value(setting, epochs)`."""
    trials: list[TrialRecord] = []
    fresh = 0.0
    for number in range(count):
        proposal = horizon.propose(trials)
        if proposal is None:
            trials.append(at(number, fresh, horizon.epochs(trials), value(fresh, horizon.epochs(trials))))
            fresh += 1
        else:
            assert proposal.epochs is not None
            x = proposal.settings["x"]
            trials.append(at(number, x, proposal.epochs, value(x, proposal.epochs), continues=proposal.continues))
    return trials


def test_the_best_of_a_rung_are_followed_from_the_highest_rung_down() -> None:
    horizon, said = horizons(checks=0)
    trials = study(horizon, 14, lambda x, epochs: x * epochs / 100)
    # of three short ones one goes on, however many are the best in their turn; of three of these one to the end
    assert [(each.settings["x"], each.followed) for each in trials] == [
        (0, 2), (1, 2), (2, 2), (2, 6),
        (3, 2), (4, 2), (5, 2), (5, 6),
        (6, 2), (7, 2), (8, 2), (8, 6), (8, 18), (9, 2),
    ]  # fmt: skip
    assert [each.continues for each in trials if each.continues] == [2, 6, 10, 11]
    assert said == []


def test_what_is_worse_stays_short() -> None:
    horizon, _ = horizons(checks=0)
    trials = study(horizon, 13, lambda x, epochs: (100 - x) * epochs / 1000)
    assert [(each.settings["x"], each.followed) for each in trials if each.followed > 2] == [
        (0, 6),
        (1, 6),
        (2, 6),
        (0, 18),
    ]


def test_a_lower_metric_promotes_the_lowest() -> None:
    horizon, _ = horizons(metric="loss")
    trials = [at(nth, nth, 2, value) for nth, value in enumerate([0.5, 0.2, 0.4])]
    proposal = horizon.propose(trials)
    assert proposal is not None
    assert (proposal.continues, proposal.epochs, proposal.settings) == (1, 6, {"x": 1})
    assert proposal.rationale == "number 1 of 3 settings after 2 epochs"


def test_running_failed_and_pruned_trials() -> None:
    horizon, _ = horizons(checks=0)
    done = [at(nth, nth, 2, 0.1 * nth) for nth in range(2)]
    assert horizon.propose([*done, at(2, 2, 2, 0.9, state="failed")]) is None  # it is none of the rung's
    assert horizon.propose([*done, at(2, 2, 2, 0.9, state="running")]) is None
    found = horizon.propose([*done, at(2, 2, 2, 0.9, state="pruned")])  # it lost, but is one of three
    assert found is not None
    assert found.continues == 1
    for state in ("running", "failed", "pruned"):  # under way, or tried in vain
        assert horizon.propose([*done, at(2, 2, 2, 0.0), at(3, 1, 6, 0.0, state=state)]) is None


def test_rungs_end_at_the_studys_own_epochs_without_a_step_that_is_hardly_one() -> None:
    assert [horizons(longest)[0]._rungs(2) for longest in (18, 20, 50, 60, 7, 5, 2)] == [
        [2, 6, 18], [2, 6, 20], [2, 6, 18, 50], [2, 6, 18, 60], [2, 7], [2, 5], [2],
    ]  # fmt: skip
    assert horizons(1)[0].epochs([]) == 1


def test_some_that_are_not_among_the_best_are_followed_too_spread_over_the_ranks() -> None:
    horizon, _ = horizons(longest=6, checks=2)
    trials = study(horizon, 20, lambda x, epochs: (50 - x) * epochs / 1000)
    followed = [each.settings["x"] for each in trials if each.followed == 6]
    # the best (0), with six known the farthest from it (5), then the next best; with twelve the widest gap anywhere
    assert followed[:3] == [0, 1, 5]
    assert len([x for x in followed if x >= len(trials) // 3]) <= 2
    assert "to see whether short runs order as long ones" in str(
        horizon.propose([at(nth, nth, 2, 1 - nth / 10) for nth in range(6)] + [at(6, 0, 6, 1.0), at(7, 1, 6, 1.0)])
    )


PAIRS = [(0.1, 0.2), (0.2, 0.1), (0.3, 0.4), (0.4, 0.3), (0.5, 0.5)]


def with_both(pairs: list[tuple[float, float]], short: int = 2, longer: int = 18) -> list[TrialRecord]:
    trials = [at(nth, nth, short, value) for nth, (value, _) in enumerate(pairs)]
    return trials + [at(len(pairs) + nth, nth, longer, value) for nth, (_, value) in enumerate(pairs)]


def test_the_rank_correlation_by_hand() -> None:
    # rank differences 1, 1, 1, 1, 0: 1 - 6 * 4 / (5 * 24) = .8
    (found,) = horizons()[0].agreements(with_both(PAIRS))
    assert found == Agreement(2, 18, 5, pytest.approx(0.8))
    # a tie has the mean of its ranks: (1, 2, 3) against (1.5, 1.5, 3) is cos 30 degrees
    (tied,) = horizons()[0].agreements(with_both([(0.1, 0.2), (0.2, 0.2), (0.3, 0.4)]))
    assert tied.correlation == pytest.approx(3**0.5 / 2)
    (alike,) = horizons()[0].agreements(with_both([(0.1, 0.2)] * 3))
    assert alike.correlation is None
    assert horizons()[0].agreements(with_both(PAIRS)[:5]) == []


def test_the_horizon_is_doubled_where_short_runs_mislead_and_that_is_said() -> None:
    horizon, said = horizons()
    assert horizon.epochs(with_both(PAIRS)) == 2
    turned = with_both([(short, -longer) for short, longer in PAIRS])
    assert horizon.epochs(turned[:-1]) == 2  # four pairs are too few to say
    assert horizon.epochs(turned) == 4
    horizon.propose(with_both(PAIRS))
    assert said == []
    horizon.propose(turned)
    horizon.propose(turned)
    assert said == [
        "horizon: runs of 2 and 18 epochs order 5 settings differently (rank correlation -0.80, below 0.7): new trials "
        "begin with 4 epochs instead of 2"
    ]
    assert horizon.lines(turned)[-1] == said[0].removeprefix("horizon: ")
    horizon.propose(with_both(PAIRS))
    assert said[1] == "horizon: short runs order settings as long ones after all: new trials begin with 2 epochs again"


def test_doubling_goes_on_while_the_doubled_horizon_misleads_too() -> None:
    horizon, _ = horizons()
    turned = [(short, -longer) for short, longer in PAIRS]
    both = with_both(turned) + [
        trial(20 + each.number, {"x": each.settings["x"] + 10}, [at.value for at in each.curve], followed=each.followed)
        for each in with_both(turned, short=4)
    ]
    assert horizon.epochs(both) == 8
    assert horizon.epochs([*both, *_moved(with_both(turned, short=8), 50)]) == 16
    assert horizons(longest=6)[0].epochs(both) == 6  # no longer than the study's own


def _moved(trials: list[TrialRecord], by: int) -> list[TrialRecord]:
    return [
        trial(by + each.number, {"x": each.settings["x"] + by}, [at.value for at in each.curve], followed=each.followed)
        for each in trials
    ]


def test_runs_of_a_horizon_before_it_was_doubled_are_followed_still() -> None:
    """Rungs of 4, 12, ... have no 6: a setting that was ahead there is of the rung below."""
    horizon, _ = horizons(longest=50, checks=0)
    turned = with_both([(short, -longer) for short, longer in PAIRS], longer=6)
    assert horizon.epochs(turned) == 4
    proposal = horizon.propose(turned)
    assert proposal is not None
    assert (proposal.continues, proposal.epochs) == (6, 12)  # of 1, the best after 6 epochs


def test_a_study_that_is_misled_ends_with_the_setting_that_wins_late() -> None:
    """Fast starters are ahead for three epochs and behind at the end: the source's warning, in small."""

    def value(x: float, epochs: int) -> float:
        slow = (x * 7) % 10 / 10  # 0: starts fast, .9: wins late
        return (1 - slow) / 10 + slow * max(epochs - 3, 0) / 2

    misled, _ = horizons(agreement=-1.0, checks=0)
    doubled, said = horizons()
    first = max(value(each.settings["x"], 18) for each in study(misled, 40, value) if each.followed == 18)
    second = max(value(each.settings["x"], 18) for each in study(doubled, 40, value) if each.followed == 18)
    assert "new trials begin with 4 epochs" in said[0]
    assert second > first


def test_the_report_counts_runs_over_fitting_and_agreement() -> None:
    horizon, _ = horizons()
    trials = [
        trial(0, {"x": 0}, [0.1, 0.2], losses=[3.0, 2.0]),
        trial(1, {"x": 1}, [0.1, 0.1], losses=[3.0, 2.5]),
        trial(2, {"x": 0}, [0.1] * 6, losses=[3.0, 2.0, 1.0, 1.5, 2.0, 2.5]),
        trial(3, {"x": 1}, [0.1] * 6),
    ]
    assert horizon.lines(trials) == [
        "2 epochs: 2 runs; validation loss rises at the end of 0 of 2",
        "6 epochs: 2 runs; validation loss rises at the end of 1 of 1",
        "whether short runs order settings as long ones do cannot be told: fewer than three have both",
    ]
    (few,) = [line for line in horizon.lines(with_both(PAIRS[:3])) if "against" in line]
    assert (
        few
        == f"2 against 18 epochs: rank correlation 0.50 over 3 settings (fewer than {LEAST_PAIRS}: too few to act on)"
    )
    assert horizon.lines(with_both(PAIRS))[-1] == "2 against 18 epochs: rank correlation 0.80 over 5 settings"
