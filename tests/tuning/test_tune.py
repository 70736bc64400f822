"""`seqrec tune` end to end: no trial reads a test set, the winner's is read once, what it found is an experiment."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock, Timeout
from stub_endpoint import trial

from seqrec_cli.cli import main
from seqrec_cli.commands import train, tune
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate
from seqrec_cli.reporting.run_folder import RunFolder, read_rows
from seqrec_cli.tuning.folder import StudyFolder

pytest.importorskip("optuna")
SPACE = """\
trainer.lr: {type: float, low: 1.0e-3, high: 1.0e-2, log: true}
model.blocks: {type: int, low: 1, high: 2}
objective: {type: choice, values: [next_item, gbce]}
objective.t: {type: float, low: 0.5, high: 1.0, step: 0.25, when: {objective: gbce}}
"""
TINY = ["dataset.users=40", "dataset.items=40", "model.embed_dim=8", "trainer.max_epochs=2", "hardware.device=cpu"]


def test_a_study_from_first_to_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine" / "space").mkdir(parents=True)
    (tmp_path / "mine" / "space" / "mine.yaml").write_text(SPACE)
    study, data = tmp_path / "study", tmp_path / "data"
    common = [*TINY, f"data_dir={data}", "space=mine", f"run_dir={study}", "--config-dir", str(tmp_path / "mine")]
    assert main(["tune", *common, "trials=2"]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^trial \d: ", said, re.M)) == 2
    assert not (data / "test_openings.jsonl").exists()  # no test set was read
    assert all("test" not in RunFolder(path).read_metrics() for path in study.glob("trials/000?"))
    # It goes on, and reads the winner's, once: also when it is started again.
    for _ in range(2):
        assert main(["tune", *common, "trials=3", "test=best"]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^trial \d: ", said, re.M)) == 1
    assert len((data / "test_openings.jsonl").read_text().splitlines()) == 1
    opened = [path for path in study.glob("trials/000?") if "test" in RunFolder(path).read_metrics()]
    values = {path: RunFolder(path).read_metrics()["val"]["ndcg@10"] for path in study.glob("trials/000?")}
    assert opened == [max(values, key=lambda path: values[path])]
    assert [path.name for path in study.rglob("*.pt")] == ["best.pt"]
    assert opened[0] / "best.pt" in study.rglob("*.pt")

    # The experiment is the winner's configuration.
    text = (study / "experiment" / "best.yaml").read_text()
    assert "# Run time: " in text
    assert f"# Expect, validation: HR@10 {RunFolder(opened[0]).read_metrics()['val']['hr@10']:.4f}" in text
    again = validate("train", compose("train", ["experiment=best"], str(study)))
    trained = RunFolder(opened[0]).read_config()
    for group in ("dataset", "protocol", "model", "objective", "trainer"):
        ours = dump(again)[group]
        settled = {key for key in again.auto if key.startswith(f"{group}.")}
        for key, value in trained[group].items():
            assert ours[key] == value or f"{group}.{key}" in settled, f"{group}.{key}"
    settings = json.loads((study / "study.json").read_text())["identity"]["space"]
    assert not settings.keys() & again.auto.keys()

    # One page without a network, with the pictures in it.
    page = (study / "study.html").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert "http" not in re.sub(r"base64,[^\"]*", "", page).replace("http-equiv", "")
    assert (study / "trials.csv").read_text().count("\n") == 4

    # Another study has no place there.
    capsys.readouterr()
    assert main(["tune", *common, "trials=3", "dataset.users=31"]) == 2
    assert (
        "is a study of other data; name another run_dir, or go on with: seqrec tune --config-dir"
        in capsys.readouterr().err
    )
    assert main(["tune", *common, "trials=3", "model.blocks=1"]) == 2
    assert "is a study of other space" in capsys.readouterr().err


def test_one_process_at_a_time_ends_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that end it at the same instant would both read the winner's test set."""
    concluded = []

    def conclude(_cfg: Any, _study: Any, folder: StudyFolder, *, configs: Any) -> dict[str, Any]:
        with pytest.raises(Timeout):
            FileLock(folder.path / ".study.lock", timeout=0).acquire()
        concluded.append(folder.path)
        return {}

    monkeypatch.setattr(tune, "work", lambda *_: True)
    monkeypatch.setattr(tune, "conclude", conclude)
    study = tmp_path / "study"
    assert main(["tune", *TINY, f"data_dir={tmp_path / 'data'}", f"run_dir={study}"]) == 0
    assert concluded == [study]
    FileLock(study / ".study.lock", timeout=0).acquire().lock.release()


class EnoughError(Exception):
    """What follows is of no interest."""


@pytest.mark.parametrize(("asked", "measured", "opened"), [("best", [], 1), ("none", [], 0), ("best", ["test"], 0)])
def test_the_winner_s_test_is_read_where_asked_and_with_the_data_of_this_machine(
    asked: str, measured: list[str], opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[Any, ...]] = []

    def ends(*_: Any, configs: Any) -> None:
        raise EnoughError

    (tmp_path / "metrics.json").write_text(json.dumps({key: {} for key in ["val", *measured]}))
    monkeypatch.setattr(tune, "print_table", lambda _: None)
    monkeypatch.setattr(tune, "trials_table", lambda _: None)
    monkeypatch.setattr(tune, "open_test", lambda *of, **where: read.append((of, where)))
    monkeypatch.setattr(tune, "write_best", ends)
    best = trial(0, {}, [0.5], run_dir=str(tmp_path))
    study: Any = SimpleNamespace(best=lambda: best)
    places = {"archive": "here.zip", "data_dir": "here"}
    cfg: Any = SimpleNamespace(
        tune=SimpleNamespace(test=asked), dataset=SimpleNamespace(archive="here.zip"), data_dir="here"
    )
    with pytest.raises(EnoughError):
        tune.conclude(cfg, study, StudyFolder(tmp_path, (), None), configs=None)  # type: ignore[arg-type]
    assert read == [((str(tmp_path), "tune"), places)] * opened
    study.best = lambda: trial(7, {}, [0.5], run_dir=None)
    with pytest.raises(
        SeqrecError, match=r"trial 7 is the best of .*, but its run is not in .*trials any more; put it"
    ):
        tune.conclude(cfg, study, StudyFolder(tmp_path, (), None), configs=None)  # type: ignore[arg-type]


def test_a_run_that_is_given_up_keeps_its_curve_and_measures_nothing(tmp_path: Path) -> None:
    overrides = [*TINY, f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}", "evaluation.test=none"]
    cfg = validate("train", compose("train", [*overrides, "trainer.max_epochs=4"]))
    assert isinstance(cfg, TrainConfig)
    told = []

    def watch(value: float, progress: float) -> bool:
        told.append((value, progress))
        return len(told) == 2

    result = train.main(cfg, watch=watch)
    assert result == {"pruned": True, "run_dir": str(tmp_path / "run")}
    folder = RunFolder(tmp_path / "run")
    rows = read_rows(folder.metrics_jsonl)
    assert [(row["ndcg@10"], row["epoch"] / 4) for row in rows] == told
    assert [row["epoch"] for row in rows] == [1, 2]
    assert folder.curves_png.is_file()
    assert not folder.metrics_json.exists()
    assert not folder.is_done
    assert folder.read_manifest()["fit"]["stopped_by"] == "pruned"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=ease"], "no space has the name of model=ease; name one: space="),
        (["trainer.seeds=2"], "tune.pruner=median ends single runs, and trainer.seeds=2 makes several"),
        (["trials=null"], "tune.trials, tune.minutes and tune.epochs are all null"),
        (["sampler=tpee"], "tune.sampler=tpee: expected one of tpe, cmaes, random, grid, adviser; did you mean 'tpe'?"),
        (["sampler=grid"], "sampler=grid: trainer.lr has endlessly many values"),
        (["space=din"], "space: model.mlp: no such key"),
        (["space=sasreck"], "space=sasreck: no such option; did you mean 'sasrec'?"),
    ],
)
def test_a_wrong_study_is_one_line(
    overrides: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *TINY[:2], *overrides, f"run_dir={tmp_path / 'study'}", f"data_dir={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_a_grid_that_the_trials_cut_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "rates.yaml").write_text("trainer.lr: {type: choice, values: [0.001, 0.003]}")
    study = ["--config-dir", str(tmp_path), *TINY, "space=rates", "sampler=grid", f"data_dir={tmp_path / 'data'}"]
    cut = "WARNING: the grid has more combinations than trials=1; trials=null runs them all"
    for trials in (1, 2):
        assert main(["tune", *study, f"trials={trials}", f"run_dir={tmp_path / str(trials)}"]) == 0
        assert (cut in capsys.readouterr().out) == (trials == 1)


def test_a_space_that_is_a_list_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "rates.yaml").write_text("- trainer.lr")
    assert main(["tune", "--config-dir", str(tmp_path), *TINY, "space=rates"]) == 2
    said = capsys.readouterr().err
    assert said == "seqrec tune: space/rates.yaml is a list (- ...); it has to hold keys with values (KEY: VALUE)\n"
