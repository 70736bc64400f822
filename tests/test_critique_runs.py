"""The runner of docs/critique: two arms of a tiny log, trained once; its tables; and the committed pages."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import seqrec_cli
from scripts import critique_also, critique_training
from scripts.critique_arms import (
    PAGES,
    Arm,
    Run,
    arm_of,
    read_lines,
    read_results,
    read_tables,
    run_of,
    wanted,
)
from scripts.critique_runs import PAIRED, RESULTS, main
from scripts.critique_summary import summary_lines
from scripts.critique_tables import Kept, main_lines, read_kept
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.stored import StoredRanks
from tests.critique_toys import THREE, row_of_no_run

SMALL = """
toy:
  page: toy.md
  also: [quarters]
  logs:
    synthetic: [SETTINGS]
  arms:
    plain: []
    deep: [model.blocks=2]
other:
  page: toy.md
  logs: {synthetic: []}
  arms: {as there: {same: [toy, plain]}}
"""
SETTINGS = ["dataset=synthetic", "dataset.users=60", "dataset.items=40", "model.embed_dim=8", "model.max_length=8"]
SETTINGS += ["trainer.max_epochs=1", "trainer.patience=null"]
PAGE = "# Toy\n\n<!-- table: toy, synthetic -->\n\nold\n\n<!-- end of table -->\n\nThe end.\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of the pages after two seeds of two arms, and the command line that asked for them."""
    folder = tmp_path_factory.mktemp("critique")
    (folder / "arms.yaml").write_text(SMALL.replace("SETTINGS", ", ".join(SETTINGS)), encoding="utf-8")
    (folder / "toy.md").write_text(PAGE, encoding="utf-8")
    asked = ["--archive", "synthetic", "--seeds", "0,1", "--pages", str(folder), "--work", str(folder / "work")]
    assert main(asked) == 0
    return folder, asked


def test_every_arm_and_seed_has_a_line_and_is_not_trained_again(
    trained: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = trained
    rows = read_lines(folder / RESULTS)
    assert [(row["arm"], row["seed"]) for row in rows] == [("plain", 0), ("deep", 0), ("plain", 1), ("deep", 1)]
    other, one = rows[0], rows[1]
    assert one["parameters"] > other["parameters"]
    assert one["tflop_epoch"] > other["tflop_epoch"] > 0
    assert one["epochs"] == one["best_epoch"] == 1
    assert one["config"] == rows[3]["config"] != other["config"]
    assert all(name.endswith("events before") for name in one["also"]["quarters"])
    monkeypatch.setattr(critique_training, "train", None)  # would be called
    page = (folder / "toy.md").read_text(encoding="utf-8")
    assert main(asked) == 0
    assert (folder / "toy.md").read_text(encoding="utf-8") == page
    assert read_lines(folder / RESULTS) == rows


def test_an_arm_that_is_counted_costs_no_operations(tmp_path: Path) -> None:
    (tmp_path / "arms.yaml").write_text(
        "counted:\n  page: toy.md\n  logs: {synthetic: [dataset.users=60, dataset.items=40]}\n"
        "  arms: {popular: [model=popular]}\n",
        encoding="utf-8",
    )
    (tmp_path / "toy.md").write_text("# Toy\n", encoding="utf-8")
    places = ["--pages", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(["--archive", "synthetic", "--seeds", "0", *places]) == 0
    (row,) = read_lines(tmp_path / RESULTS)
    assert row["tflop_epoch"] == 0
    assert row["test"]["hr@10"] > 0


def test_the_table_has_means_of_seeds_and_the_users_differences(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    values = {}
    for row in read_lines(folder / RESULTS):
        arm = Arm(row["table"], row["log"], row["arm"], tuple(row["settings"]))
        ranks = StoredRanks.read(
            critique_training.folder_of(Run(arm, row["seed"]), folder / "work") / "ranks_test.parquet"
        )
        values[row["arm"], row["seed"]] = np.where(ranks.ranks_T <= 10, 1 / np.log2(1 + ranks.ranks_T), 0)
        assert row["test"]["ndcg@10"] == pytest.approx(values[row["arm"], row["seed"]].mean(), abs=1e-5)
    users = np.mean([values["deep", seed] - values["plain", seed] for seed in (0, 1)], axis=0)
    (pair,) = read_lines(folder / PAIRED)
    assert pair["difference"] == pytest.approx(users.mean(), abs=1e-5)
    assert pair["half"] == pytest.approx(1.96 * users.std(ddof=1) / np.sqrt(len(users)), abs=2e-5)
    assert pair["each"] == pytest.approx([(values["deep", s] - values["plain", s]).mean() for s in (0, 1)], abs=1e-5)
    page = (folder / "toy.md").read_text(encoding="utf-8")
    assert "old" not in page
    assert page.startswith("# Toy")
    assert page.endswith("The end.\n")
    plain, deep = (line for line in page.splitlines() if line.startswith(("| plain", "| deep")))
    means = [np.mean([values[arm, seed].mean() for seed in (0, 1)]) for arm in ("plain", "deep")]
    for line, mean in zip((plain, deep), means, strict=True):
        assert f"{mean:.4f}"[1:] in line
        assert "| 0, 1 |" in line
    assert f"{pair['difference']:+.4f} ± {pair['half']:.4f}".replace("0.", ".") in deep
    assert f"{sum(each > 0 for each in pair['each'])} of 2" in deep


def test_rollouts_and_unknown_users_are_measured_as_the_verbs_do(tmp_path: Path) -> None:
    small = [*SETTINGS, "protocol=last_k", "protocol.k=5", "protocol.targets=all", "model.user_dim=4"]
    small += [f"data_dir={tmp_path}", f"run_dir={tmp_path / 'run'}", "evaluation.baselines=false"]
    seqrec_cli.run("train", small)
    kinds = critique_also.measured(tmp_path / "run", ["rollout", "unknown_users"])
    found = kinds["rollout"] | kinds["unknown_users"]
    told = seqrec_cli.run("rollout", [f"ckpt={tmp_path / 'run'}", "steps=5"])
    assert found["overlap, rollout"] == pytest.approx(told["overlap"]["rollout"], abs=1e-5)
    last = told["by_step"]["found@10"]
    assert {name: found[f"found at step 5, {name}"] for name in last} == {
        name: pytest.approx(values[4], abs=1e-5) for name, values in last.items()
    }
    payload = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    payload["model"]["users.weight"].zero_()
    torch.save(payload, tmp_path / "run" / "best.pt")
    unknown = seqrec_cli.run("evaluate", [f"ckpt={tmp_path / 'run'}", "split=val"])["val"]["ndcg@10"]
    assert found["validation, users unknown"] == pytest.approx(unknown, abs=1e-5)


def test_quarters_are_of_the_users_of_test_by_their_events_before(tmp_path: Path) -> None:
    of_users = {"user_index": [1, 2, 3, 4], "item_index": [1] * 4, "candidates": [40] * 4, "history": [3, 5, 8, 9]}
    for split, ranks in (("val", [11, 11, 11, 11]), ("test", [1, 3, 1, 11])):
        pd.DataFrame({**of_users, "rank": ranks}).to_parquet(tmp_path / f"ranks_{split}.parquet")
    found = critique_also.measured(tmp_path, ["quarters"])["quarters"]
    assert found == {f"{events} events before": value for events, value in ((3, 1.0), (5, 0.5), (8, 1.0), (9, 0.0))}


def test_drift_and_same_endings_are_what_the_audit_tells(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    (row, *_) = read_lines(folder / RESULTS)
    run = critique_training.folder_of(run_of(row), folder / "work")
    found = critique_also.measured(run, ["drift", "endings"])
    told = seqrec_cli.run("audit", [f"ckpt={run}", "drift=5", "endings=[1,2,5]", "tokens=null", "repetitions=1"])
    findings = told["findings"]
    of_ways = {(each["way"], each["fit"]): each for each in findings["drift"]["numbers"]["ways"]}
    for way in ("before", "shown"):
        assert found["drift"][f"back, {way}, by score"] == pytest.approx(
            of_ways[way, "score"]["turns"][0]["back"], abs=1e-5
        )
        last = of_ways[way, "cosine"]["turns"][-1]
        assert found["drift"][f"different items after 5, {way}"] == last["different"]
        assert found["drift"][f"neighbours kept after 5, {way}"] == pytest.approx(last["neighbours"], abs=1e-5)
    rows = findings["same_endings"]["numbers"]["endings"]
    assert rows
    for each in rows:
        for name, key in (("planted", "planted"), ("by history alone", "history"), ("by user alone", "user")):
            assert found["endings"][f"{name}, {each['events']}"] == pytest.approx(each[key]["differ"], abs=1e-5)
        natural = found["endings"].get(f"natural, {each['events']}")  # none where no two users end alike
        assert natural == (each["natural"]["differ"] and pytest.approx(each["natural"]["differ"], abs=1e-5))


def test_a_kind_of_numbers_that_is_asked_for_later_is_measured_of_kept_runs(trained: tuple[Path, list[str]]) -> None:
    folder, asked = trained
    page, arms = folder / "toy.md", folder / "arms.yaml"
    before = {path: path.read_text(encoding="utf-8") for path in (page, arms, folder / RESULTS)}
    arms.write_text(before[arms].replace("also: [quarters]", "also: [quarters, drift]"), encoding="utf-8")
    page.write_text("# Toy\n\n<!-- table: toy, synthetic, drift -->\n\n<!-- end of table -->\n", encoding="utf-8")
    assert main(asked) == 0
    rows = read_lines(folder / RESULTS)
    assert all(set(row["also"]) == {"quarters", "drift"} for row in rows)
    first = next(row for row in rows if row["arm"] == "plain" and row["seed"] == 0)
    kept = [json.loads(line)["also"]["quarters"] for line in before[folder / RESULTS].splitlines()]
    assert [row["also"]["quarters"] for row in rows] == kept
    lines = page.read_text(encoding="utf-8").splitlines()
    head = next(line for line in lines if line.startswith("| arm"))
    assert list(first["also"]["drift"]) == [cell.strip() for cell in head.strip("|").split("|")][2:]
    for path, text in before.items():
        path.write_text(text, encoding="utf-8")


def test_an_arm_of_another_table_is_trained_once(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    tables, results = read_tables(folder / "arms.yaml"), read_results(folder / RESULTS)
    runs = wanted(tables, results, only=["toy", "other"], logs=["synthetic"], seeds=[0])
    assert [run.arm.name for run in runs] == ["plain", "deep"]
    assert "| as there | 0, 1 |" in main_lines(tables, "other", log="synthetic", kept=Kept(results, []))[2]


def test_only_the_arms_that_are_named_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Run] = []

    def heard(run: Run, *given: Any, **named: Any) -> dict[str, Any]:
        asked.append(run)
        return row_of_no_run(run.arm, run.seed)

    monkeypatch.setattr(critique_training, "trained", heard)
    (tmp_path / "arms.yaml").write_text(json.dumps(THREE), encoding="utf-8")
    (tmp_path / "p.md").write_text("# None\n", encoding="utf-8")
    told = ["--archive", "l", "--seeds", "0,2", "--pages", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main([*told, "--arm", "y", "--arm", "z"]) == 0
    assert [(run.arm.name, run.seed) for run in asked] == [("y", 0), ("z", 0), ("y", 2), ("z", 2)]


def test_an_arm_that_fails_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(run: Run, *given: Any, **named: Any) -> dict[str, Any]:
        if run.arm.name == "y":
            raise SeqrecError("no memory")
        return row_of_no_run(run.arm, run.seed)

    monkeypatch.setattr(critique_training, "trained", fails)
    (tmp_path / "arms.yaml").write_text(json.dumps(THREE), encoding="utf-8")
    (tmp_path / "p.md").write_text("# None\n", encoding="utf-8")
    told = ["--archive", "l", "--seeds", "0", "--pages", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(told) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "t, l, y, seed 0: no memory"
    assert [row["arm"] for row in read_lines(tmp_path / RESULTS)] == ["x", "z"]


def test_a_log_of_other_data_adds_nothing_to_the_kept_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = iter(["first", "first", "other"])

    def found(run: Run, *given: Any, **named: Any) -> dict[str, Any]:
        return row_of_no_run(run.arm, run.seed) | {"data": next(data)}

    monkeypatch.setattr(critique_training, "trained", found)
    (tmp_path / "arms.yaml").write_text(json.dumps(THREE), encoding="utf-8")
    (tmp_path / "p.md").write_text("# None\n", encoding="utf-8")
    told = ["--archive", "l", "--seeds", "0", "--pages", str(tmp_path), "--work", str(tmp_path / "work")]
    assert main(told) == 1
    assert len(read_lines(tmp_path / RESULTS)) == 2
    assert "holds other data (other) than this log's kept results (first)" in capsys.readouterr().err


def test_a_run_has_its_seed_and_learns_from_the_run_of_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = {"teacher": SETTINGS, "student": [*SETTINGS, "objective=distil", "objective.teacher={run:teacher}"]}
    tables: Any = {"t": {"page": "p.md", "logs": {"l": []}, "arms": arms}}
    teacher, student = (arm_of(tables, "t", log="l", arm=name) for name in arms)
    seen = []

    def heard(cfg: Any) -> None:
        seen.append(cfg)
        raise SeqrecError("heard")

    monkeypatch.setattr(critique_training, "train", heard)
    for seed in (2, 3):
        folder = critique_training.folder_of(Run(teacher, seed), tmp_path)
        folder.mkdir(parents=True)
        (folder / "metrics.json").touch()  # it is there, and not trained again
        with pytest.raises(SeqrecError, match="heard"):
            critique_training.trained(Run(student, seed), tables, "", work=tmp_path)
    cfg, next_cfg = seen
    assert cfg.run_dir == str(critique_training.folder_of(Run(student, 2), tmp_path))
    assert (cfg.trainer.seed, next_cfg.trainer.seed) == (2, 3)
    assert cfg.objective.teacher == str(critique_training.folder_of(Run(teacher, 2), tmp_path))
    assert next_cfg.objective.teacher == str(folder)
    # Two seeds of an arm have one configuration, whatever the folders of the runs that they learn from.
    configs = [critique_training.fingerprint(each, {each.objective.teacher: "teacher"}) for each in (cfg, next_cfg)]
    assert configs[0] == configs[1] != critique_training.fingerprint(cfg, {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nothing"], "--only nothing: no such table"),
        (["--archive", "ml-20m=x"], "--archive ml-20m: no table has this log"),
        (["--archive", "ml-100k=not/there.zip"], "no such file"),
        (["--seeds", "one"], "invalid literal"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_the_overview_has_each_tables_differences(trained: tuple[Path, list[str]]) -> None:
    tables, kept = read_tables(trained[0] / "arms.yaml"), read_kept(trained[0])
    rows = {"two blocks": {"synthetic": ["toy", "deep"]}, "nothing": {}}
    lines = summary_lines({"logs": {"synthetic": "A log"}, "rows": rows}, tables, kept)
    (pair,) = kept.pairs
    assert lines[0] == "| what is changed | A log |"
    assert lines[2].startswith("| two blocks | ")
    assert f"{abs(pair['difference']):.4f}".lstrip("0") in lines[2]
    assert f"of {len(pair['each'])})" in lines[2]
    assert lines[3] == "| nothing |  |"
    for wrong in ({"synthetic": ["toy", "wide"]}, {"elsewhere": ["toy", "deep"]}):
        with pytest.raises(SeqrecError, match=r"summary\.yaml: .*(wide|elsewhere)"):
            summary_lines({"logs": {"synthetic": "A log"}, "rows": {"x": wrong}}, tables, kept)


def test_the_command_writes_the_overview_too(trained: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "critique"
    folder.mkdir()
    for name in ("arms.yaml", "toy.md", RESULTS, PAIRED):
        shutil.copy(trained[0] / name, folder)
    summary = "logs: {synthetic: A log}\nrows: {two blocks: {synthetic: [toy, deep]}}\n"
    (folder / "summary.yaml").write_text(summary, encoding="utf-8")
    asked = ["--tables-only", "--pages", str(folder), "--work", str(tmp_path / "work")]
    assert main(asked) == 2  # there is no page yet
    page = tmp_path / "critique.md"
    page.write_text("# All\n\n<!-- summary -->\n\n<!-- end of summary -->\n", encoding="utf-8")
    assert main(asked) == 0
    assert "| two blocks | " in page.read_text(encoding="utf-8")


def test_what_an_experiment_sets_to_null_goes_as_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`model.temperature: null` of experiment=ml-100k_distil, which an ensemble has not."""

    def heard(cfg: Any) -> None:
        raise SeqrecError(f"heard {cfg.model.name}")

    monkeypatch.setattr(critique_training, "train", heard)
    tables = read_tables(PAGES / "arms.yaml")
    teacher = arm_of(tables, "distil", log="ml-100k", arm="the teacher (three models, 200 events, 30 epochs)")
    with pytest.raises(SeqrecError, match="heard ensemble"):
        critique_training.trained(Run(teacher, 0), tables, "", work=tmp_path)
