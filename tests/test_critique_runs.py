"""The runner of docs/critique: two arms of a tiny log, trained once; its tables; and the committed pages."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqrec_cli
from scripts import critique_also, critique_training
from scripts.critique_arms import PAGES, Arm, Run, arm_of, chosen, read_lines, read_results, read_tables, tried, wanted
from scripts.critique_runs import PAIRED, RESULTS, main
from scripts.critique_tables import Kept, clearly_apart, main_lines, read_kept, rewritten
from seqrec_cli.evaluation.stored import StoredRanks

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
    assert all(name.endswith("events before") for name in one["also"])
    monkeypatch.setattr(critique_training, "train", None)  # would be called
    page = (folder / "toy.md").read_text(encoding="utf-8")
    assert main(asked) == 0
    assert (folder / "toy.md").read_text(encoding="utf-8") == page
    assert read_lines(folder / RESULTS) == rows


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
    found = critique_also.measured(tmp_path / "run", ["rollout", "unknown_users"])
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


def test_an_arm_of_another_table_is_trained_once(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    tables, results = read_tables(folder / "arms.yaml"), read_results(folder / RESULTS)
    runs = wanted(tables, results, only=["toy", "other"], logs=["synthetic"], seeds=[0])
    assert [run.arm.name for run in runs] == ["plain", "deep"]
    assert "| as there | 0, 1 |" in main_lines(tables, "other", log="synthetic", kept=Kept(results, []))[2]


def test_validation_chooses_the_rate_once_all_have_been_tried() -> None:
    tables: Any = {"t": {"page": "p.md", "logs": {"l": ["a=1"]}, "arms": {"x": ["b=2"]}, "rates": [0.1, 0.2]}}
    arm = arm_of(tables, "t", log="l", arm="x")
    own, slow, fast = tried(tables, arm)
    assert (own, slow.settings, fast.settings) == (
        arm,
        ("a=1", "b=2", "trainer.lr=0.1"),
        ("a=1", "b=2", "trainer.lr=0.2"),
    )
    results: Any = {Run(own, 0): {"val": {"ndcg@10": 0.1}}, Run(slow, 0): {"val": {"ndcg@10": 0.3}}}
    assert chosen(tables, arm, results) == own
    results[Run(fast, 0)] = {"val": {"ndcg@10": 0.2}}
    assert chosen(tables, arm, results) == slow
    assert wanted(tables, results, only=["t"], logs=["l"], seeds=[0, 1]) == [
        *(Run(each, 0) for each in (own, slow, fast)),
        Run(slow, 1),
    ]


def test_what_is_clear_is_so_for_all_arms_together() -> None:
    beside = {name: {"difference": value, "half": 1.0} for name, value in {"a": 1.05, "b": 0.2, "c": -2.0}.items()}
    assert clearly_apart({"a": beside["a"]}) == {"a"}
    assert clearly_apart(beside) == {"c"}


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


def test_the_committed_pages_are_what_the_committed_results_give() -> None:
    tables, kept = read_tables(PAGES / "arms.yaml"), read_kept(PAGES)
    written = set()
    for page in {table["page"] for table in tables.values()}:
        text = (PAGES / page).read_text(encoding="utf-8")
        assert rewritten(text, tables, kept) == text, f"{page}: python -m scripts.critique_runs --tables-only"
        written |= {tuple(name.split(", ")[:2]) for name in re.findall(r"<!-- table: (.*?) -->", text)}
    shown = {arm_of(tables, name, log=log, arm=arm)[:3] for name, log in written for arm in tables[name]["arms"]}
    assert shown
    assert {run.arm[:3] for run in kept.results} <= shown, "results that no page shows"
