"""A study of fake runs: who names settings, which runs end early, what a budget allows, and how one goes on."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from stub_endpoint import trial

from seqrec_cli.config.compose import conf_folder
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.tuning import SpaceEntry, TuneSettings
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.saying import silent
from seqrec_cli.tuning.engine import open_study
from seqrec_cli.tuning.records import Proposal, TrialRecord
from seqrec_cli.tuning.report import trial_row
from seqrec_cli.tuning.space import Space
from seqrec_cli.tuning.study import Claim, Outcome, Study
from seqrec_cli.tuning.worker import work

pytest.importorskip("optuna")


SHIPPED = OmegaConf.to_container(OmegaConf.load(conf_folder() / "tune.yaml").tune)
TUNE = {**SHIPPED, "pruner": "none", "trials": 8, "startup": 4}  # type: ignore[dict-item]
ENTRIES = {
    "trainer.lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "model.blocks": {"type": "int", "low": 1, "high": 3},
    "objective": {"type": "choice", "values": ["next_item", "gbce"]},
    "objective.t": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25, "when": {"objective": "gbce"}},
}
EPOCHS = 10


def space_of(entries: dict[str, Any] = ENTRIES) -> Space:
    return Space({key: SpaceEntry.from_plain(entry) for key, entry in entries.items()}, base={})


def study_in(folder: Path, entries: dict[str, Any] = ENTRIES, **changes: Any) -> Study:
    tune = TuneSettings.from_plain(TUNE | changes)
    return Study(folder, space_of(entries), tune, metric="ndcg@10", maximise=True)


def quality(settings: dict[str, Any]) -> float:
    """Best at a rate of .01 and with many blocks."""
    return 0.5 - 0.1 * abs(math.log10(settings["trainer.lr"]) + 2) + 0.01 * settings["model.blocks"]


def following(curve: Callable[[Claim, int], float], epochs: int = EPOCHS) -> Callable[[Claim], Outcome]:
    """A run that validates after each epoch as the curve says, writes it down, and keeps its best."""

    def run(claim: Claim) -> Outcome:
        folder = RunFolder.allocate(str(claim.folder), "fake")
        values = []
        for epoch in range(1, epochs + 1):
            value = curve(claim, epoch)
            values.append(value)
            folder.append_metrics({"epoch": epoch, "step": epoch, "split": "val", "seconds": 0.1, "ndcg@10": value})
            if claim.watch(value, epoch / epochs):
                return Outcome("pruned", followed=epochs)
        return Outcome("complete", max(values), followed=epochs)

    return run


def rising(claim: Claim, epoch: int) -> float:
    return quality(claim.settings) * epoch / EPOCHS


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_samplers_stay_in_the_space_and_find_what_is_good(tmp_path: Path, sampler: str) -> None:
    study = study_in(tmp_path, sampler=sampler, trials=24)
    assert work(study, following(rising, 2), silent)
    records = study.records()
    assert [record.number for record in records] == list(range(24))
    assert all(record.state == "complete" and record.proposed_by == sampler for record in records)
    assert all(not study.space.problems(record.settings) for record in records)
    assert len({record.settings["trainer.lr"] for record in records}) == 24
    assert {"next_item", "gbce"} == {record.settings["objective"] for record in records}
    best = study.best()
    assert best is not None
    assert best.value == max(record.value for record in records if record.value is not None)
    if sampler != "random":  # what came later knows of what came first
        early, late = records[:8], records[-8:]
        assert sum(quality(each.settings) for each in late) > sum(quality(each.settings) for each in early)


def test_a_grid_tries_every_combination_once_and_ends(tmp_path: Path) -> None:
    entries = {**ENTRIES, "trainer.lr": {"type": "choice", "values": [0.01, 0.1]}}
    entries["objective.t"] = {**ENTRIES["objective.t"], "step": 0.5}
    study = study_in(tmp_path, entries, sampler="grid", trials=None)
    assert work(study, following(rising, 1), silent)
    tried = [tuple(record.settings.items()) for record in study.records()]
    # 2 rates x 3 blocks x (next_item, and gbce with three t)
    assert len(tried) == len(set(tried)) == 2 * 3 * (1 + 3)


def test_a_grid_of_endlessly_many_values_is_refused() -> None:
    with pytest.raises(
        SeqrecError, match=r"trainer\.lr has endlessly many values; give its entry values .*, or a step and no log"
    ):
        list(space_of().grid())


def test_the_seed_repeats_a_study_and_another_does_not(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        study = study_in(tmp_path / name, seed=seed, trials=6)
        work(study, following(rising, 1), silent)
        found.append([record.settings for record in study.records()])
    assert found[0] == found[1] != found[2]


def test_first_trials_are_random_for_as_many_as_asked(tmp_path: Path) -> None:
    found = {}
    for startup in (2, 5):
        study = study_in(tmp_path / f"{startup}", startup=startup, trials=6)
        work(study, following(rising, 1), silent)
        found[startup] = [record.settings for record in study.records()]
    assert found[2][:2] == found[5][:2]
    assert all(one != other for one, other in zip(found[2][2:], found[5][2:], strict=True))


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_run_below_the_others_ends_early_and_a_better_one_does_not(tmp_path: Path, pruner: str) -> None:
    def curve(claim: Claim, epoch: int) -> float:  # the sixth trial is bad, the last one the best
        level = {5: 0.1, 7: 0.9}.get(claim.number, 0.5 + 0.01 * claim.number)
        return level * epoch / EPOCHS

    study = study_in(tmp_path, pruner=pruner, trials=8)
    work(study, following(curve), silent)
    states = [record.state for record in study.records()]
    assert states[5] == "pruned"
    assert states[7] == "complete"
    if pruner == "median":
        assert states == ["complete"] * 5 + ["pruned", "complete", "complete"]
        pruned = study.records()[5]
        assert pruned.followed == EPOCHS
        assert pruned.curve[-1].epoch == 3  # at .3 of the run the warm-up is over, and not before
    assert study.best() is not None
    assert study.best().number == 7  # type: ignore[union-attr]


def test_no_trial_ends_in_its_warm_up_nor_among_the_first(tmp_path: Path) -> None:
    study = study_in(tmp_path, pruner="median", trials=6, warmup=0.8)
    work(study, following(lambda claim, epoch: 0.5 / (1 + claim.number)), silent)
    ends = [record.curve[-1].epoch for record in study.records()]
    assert ends == [10, 10, 10, 10, 8, 8]


def test_trials_are_compared_at_the_same_share_of_their_own_epochs(tmp_path: Path) -> None:
    """A run of four epochs is at its end where one of ten, of the same rise, is at its fourth."""
    study = study_in(tmp_path, pruner="median", trials=6)

    def run(claim: Claim) -> Outcome:
        epochs = 10 if claim.number < 5 else 4
        return following(lambda of, epoch: 0.5 * epoch / epochs, epochs)(claim)

    work(study, run, silent)
    assert [record.state for record in study.records()] == ["complete"] * 6


def test_patience_ends_a_run_that_stands_still(tmp_path: Path) -> None:
    study = study_in(tmp_path, pruner="patience", trials=2, patience=0.4)
    peaks = {0: 3, 1: 10}
    work(study, following(lambda claim, epoch: 0.1 * min(epoch, peaks[claim.number]) - 0.001 * epoch), silent)
    still, goes_on = study.records()
    assert (still.state, goes_on.state) == ("pruned", "complete")
    assert 3 + 4 <= still.curve[-1].epoch <= 3 + 5


@pytest.mark.parametrize("continues", [0, None])
def test_only_runs_of_the_same_length_are_compared(tmp_path: Path, continues: int | None) -> None:
    """Short runs, whose rate has fallen sooner, say nothing of long ones."""

    class Longer:
        name = "longer"

        def propose(self, trials: list[TrialRecord]) -> Proposal | None:
            return Proposal(trials[0].settings, epochs=20, continues=continues) if len(trials) == 6 else None

    study = study_in(tmp_path, pruner="median", trials=7)
    study.proposers = [Longer()]
    work(study, following(lambda claim, epoch: (0.1 if claim.epochs == 20 else 0.5) * epoch / EPOCHS), silent)
    last = study.records()[-1]
    assert (last.state, last.followed, last.continues, last.proposed_by) == ("complete", 20, continues, "longer")
    assert last.settings == study.records()[0].settings


@pytest.mark.parametrize(("continues", "state"), [(0, "complete"), (None, "pruned")])
def test_what_is_followed_further_is_not_ended_early(tmp_path: Path, continues: int | None, state: str) -> None:
    """Though it is far below others of its length."""

    class Further:
        name = "further"

        def propose(self, trials: list[TrialRecord]) -> Proposal:
            settings = {"trainer.lr": 0.01, "model.blocks": 1, "objective": "next_item"}
            return Proposal(settings, epochs=20, continues=continues if len(trials) == 6 else None)

    study = study_in(tmp_path, pruner="median", trials=7)
    study.proposers = [Further()]
    work(study, following(lambda claim, epoch: (0.1 if claim.number == 6 else 0.5) * epoch / EPOCHS), silent)
    assert [record.state for record in study.records()] == [*["complete"] * 6, state]


def test_a_failing_trial_is_told_and_the_study_goes_on(tmp_path: Path) -> None:
    def run(claim: Claim) -> Outcome:
        if claim.number == 1:
            raise SeqrecError("no memory for it")
        if claim.number == 2:
            raise ValueError("a bug")
        return following(rising, 1)(claim)

    said: list[str] = []
    study = study_in(tmp_path, trials=5)
    work(study, run, said.append)
    records = study.records()
    assert [record.state for record in records] == ["complete", "failed", "failed", "complete", "complete"]
    assert records[1].error == "no memory for it"
    assert records[2].error is not None
    assert records[2].error.startswith("ValueError: a bug; see ")
    assert "Traceback" in (tmp_path / "trials" / "0002" / "error.txt").read_text()
    assert any("trial 1: failed (no memory for it)" in line for line in said)


def test_a_study_whose_trials_all_fail_ends(tmp_path: Path) -> None:
    def run(claim: Claim) -> Outcome:
        raise SeqrecError("the disk is full")

    study = study_in(tmp_path, trials=40)
    with pytest.raises(SeqrecError, match="the first 5 trials all failed; the last: the disk is full"):
        work(study, run, silent)


def test_a_study_goes_on_to_a_larger_number_and_no_further(tmp_path: Path) -> None:
    work(study_in(tmp_path, trials=3), following(rising, 1), silent)
    again = study_in(tmp_path, trials=5)
    ran = []

    def run(claim: Claim) -> Outcome:
        ran.append(claim.number)
        return following(rising, 1)(claim)

    work(again, run, silent)
    work(again, run, silent)
    assert ran == [3, 4]


def test_epochs_are_a_budget(tmp_path: Path) -> None:
    study = study_in(tmp_path, trials=None, epochs=25)
    work(study, following(rising), silent)
    assert len(study.records()) == 3  # 10, 20, 30


def test_minutes_are_a_budget_and_end_the_run_under_way(tmp_path: Path) -> None:
    study = study_in(tmp_path, trials=None, minutes=1e-9)
    work(study, following(rising), silent)
    (record,) = study.records()
    assert (record.state, record.curve[-1].epoch) == ("pruned", 1)


def test_what_workers_do_at_once_counts_once_and_nights_between_do_not(tmp_path: Path) -> None:
    study = study_in(tmp_path, trials=2)
    one, two = study.claim(), study.claim()
    assert one is not None
    assert two is not None
    time.sleep(0.3)
    for claim in (one, two):
        study.finish(claim, Outcome("complete", 0.1))
    together = study.seconds()
    time.sleep(0.5)
    assert study.seconds() == together
    assert together < sum(record.seconds for record in study.records())


def test_a_study_in_a_database(tmp_path: Path) -> None:
    for trials in (1, 2):
        study = study_in(tmp_path, storage="sqlite", trials=trials)
        work(study, following(rising, 1), silent)
        assert [record.state for record in study.records()] == ["complete"] * trials


def test_an_interrupted_trial_is_run_again_with_its_settings(tmp_path: Path) -> None:
    study = study_in(tmp_path, trials=2)
    assert not work(study, lambda claim: Outcome("interrupted"), silent)
    assert study.records() == []  # not counted
    (waiting,) = [trial for trial in study.optuna.trials if trial.state.name == "WAITING"]
    again = study_in(tmp_path, trials=2)
    work(again, following(rising, 1), silent)
    records = again.records()
    assert [(record.number, record.state, record.proposed_by) for record in records] == [
        (1, "complete", "tpe"),
        (2, "complete", "tpe"),
    ]
    first = study.optuna.trials[0].user_attrs["settings"]
    assert records[0].settings == first
    assert waiting.number == 1


def test_checkpoints_of_the_best_are_kept_alone(tmp_path: Path) -> None:
    def run(claim: Claim) -> Outcome:
        outcome = following(lambda of, epoch: {0: 0.3, 1: 0.5, 2: 0.4}[of.number], 1)(claim)
        for name in ("best.pt", "last.pt"):
            (claim.folder / name).write_bytes(b"x")
        return outcome

    work(study_in(tmp_path, trials=3), run, silent)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.pt")) == ["trials/0001/best.pt"]
    work(study_in(tmp_path / "all", trials=3, keep="all"), run, silent)
    assert len(list((tmp_path / "all").rglob("*.pt"))) == 6


def test_a_trial_s_row_has_its_best_validation_and_the_loss_at_its_end(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    row = trial_row(study, trial(3, {"trainer.lr": 0.1}, [0.1, 0.3, 0.2], losses=[3.0, 2.0, 2.16], value=None))
    assert (row["ndcg@10"], row["epoch"], row["epochs"]) == (0.3, 2, 3)
    assert (row["loss"], row["loss_rise"]) == (2.16, 0.08)
    assert (row["trainer.lr"], row["objective.t"]) == (0.1, None)
    unmeasured = trial_row(study, trial(4, {}, [], state="failed", error="no memory"))
    assert [unmeasured[key] for key in ("ndcg@10", "epoch", "epochs", "loss", "loss_rise")] == [None] * 5
    assert list(unmeasured) == list(row)


@pytest.mark.parametrize(("storage", "name"), [("journal", "journal.log"), ("sqlite", "study.db")])
@pytest.mark.parametrize("left", [None, "", "garbage\n"])
def test_runs_whose_trials_are_lost_are_not_counted_anew(
    storage: str, name: str, left: str | None, tmp_path: Path
) -> None:
    tune = TuneSettings.from_plain(TUNE | {"storage": storage})
    open_study(tmp_path, tune, True)  # nothing is lost where no trial has run
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    open_study(tmp_path, tune, True)
    (tmp_path / name).unlink()
    if left is not None:
        (tmp_path / name).write_text(left)
    words = {None: "is not there, but the runs of 1", "": "is empty, but the runs of 1"}.get(
        left, "is damaged; the runs"
    )
    with pytest.raises(SeqrecError, match=rf"{name} {words} .*name another run_dir"):
        open_study(tmp_path, tune, True)
    assert (tmp_path / name).exists() is (left is not None)
