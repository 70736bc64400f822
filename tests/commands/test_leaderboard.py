"""`seqrec leaderboard`: runs of one protocol together, ordered, filtered, in every form, whatever else lies about."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

import seqrec_cli
from seqrec_cli.cli import main as command_line
from seqrec_cli.config.errors import SeqrecError

TINY = ["dataset=synthetic", "dataset.users=60", "dataset.items=40", "dataset.max_events=15", "model.max_length=8"]


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base: Path = tmp_path_factory.mktemp("board")
    data = f"data_dir={base / 'data'}"
    for name, words in {
        "a/popular": ["model=popular"],
        "b/markov": ["model=markov"],
        "short": ["model=markov", "model.max_length=5"],
        "other": ["model=popular", "dataset.name=other", "dataset.seed=3"],
    }.items():
        seqrec_cli.run("train", [*TINY, *words, data, f"run_dir={base / 'runs' / name}"])
    seqrec_cli.run("evaluate", [f"ckpt={base / 'runs/b/markov'}", f"run_dir={base / 'runs/again'}"])
    seqrec_cli.run("evaluate", [f"ckpt={base / 'runs/b/markov'}", "split=val", f"run_dir={base / 'runs/val'}"])
    for name, text in {"begun": None, "torn": "{", "foreign": '{"test": {"mrr": 1}}'}.items():
        folder = base / "runs" / name
        folder.mkdir()
        (folder / "manifest.json").write_text("{}\n")
        if text is not None:
            (folder / "metrics.json").write_text(text)
    return base / "runs"


def groups(top: Path, *words: str) -> dict[str, list[str]]:
    """The runs of each group by its dataset and max_length, in order."""
    found = seqrec_cli.run("leaderboard", [f"folder={top}", *words])["groups"]
    return {
        f"{group['protocol'].get('dataset')} {group['protocol'].get('max_length')}": [
            run["run"] for run in group["runs"]
        ]
        for group in found
    }


def test_runs_of_one_protocol_stand_together_best_first(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("leaderboard", [f"folder={top}"])
    assert groups(top) == {
        "other 8": ["other"],
        "synthetic 8": ["again", "b/markov", "a/popular"],
        "synthetic 5": ["short"],
    }
    group = found["groups"][1]
    own = json.loads((top / "b/markov/metrics.json").read_text())
    markov = next(run for run in group["runs"] if run["run"] == "b/markov")
    assert markov["metrics"] == own["test"]
    assert markov["intervals"] == own["intervals"]["test"]
    assert [run["model"] for run in group["runs"]] == ["markov", "markov", "popular"]
    assert {row["model"] for row in group["baselines"]} == {"oracle", "random", "popular", "markov", "itemknn", "graph"}
    assert found["groups"][2]["differs"] == "max_length 5 (there 8)"
    assert found["left_out"]["unfinished"] == ["begun"]
    assert found["left_out"]["no test numbers"] == ["val"]
    assert [each.split(":")[0] for each in found["left_out"]["damaged"]] == ["foreign", "torn"]
    printed = capsys.readouterr().out
    assert "left out, unfinished: 1 (begun)" in printed
    assert "left out, damaged: 2 (foreign: its numbers carry no protocol, torn: " in printed
    assert f"{own['test']['ndcg@10']:.4f}" in printed
    low, high = own["intervals"]["test"]["ndcg@10"]
    assert f"±{(high - low) / 2:.4f}" in printed


def test_lines_fit_a_terminal(top: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, old, new in (("first", "synthetic", "synthetic"), ("second", "whole corpus", "a few of the many " * 9)):
        (tmp_path / name).mkdir()
        for file in ("manifest.json", "config.yaml", "metrics.json"):
            shutil.copy(top / "b/markov" / file, tmp_path / name / file)
        text = (tmp_path / name / "metrics.json").read_text()
        (tmp_path / name / "metrics.json").write_text(
            text.replace(old, new).replace('"fingerprint": "', f'"fingerprint": "{"a" * (name == "second")}')
        )
    capsys.readouterr()
    found = seqrec_cli.run("leaderboard", [f"folder={tmp_path}"])
    told = found["groups"][1]["differs"]  # which of the two comes first is by a digest
    assert re.fullmatch(
        r"fingerprint a?[0-9a-f]{11,12} \(there a?[0-9a-f]{11,12}\); candidates .*few of the many.*", told
    )
    printed = capsys.readouterr().out
    assert not re.search(r"[0-9a-f]{13}", printed)
    assert max(map(len, printed.splitlines())) <= 120


def test_order_and_filters(top: Path) -> None:
    assert groups(top, "sort=logloss", "dataset=synthetic", "where={max_length: 8}") == {
        "synthetic 8": ["again", "b/markov", "a/popular"]
    }
    assert groups(top, "model=popular") == {"other 8": ["other"], "synthetic 8": ["a/popular"]}
    assert groups(top, "model=[popular,markov]", "where={trainer.seed: 0, max_length: 5}") == {"synthetic 5": ["short"]}
    assert groups(top, "dataset=synthetic", "may_differ=[max_length]", "model=markov") == {
        "synthetic None": ["again", "b/markov", "short"]
    }
    assert groups(top, "split=val", "model=popular", "dataset=other") == {"other 8": ["other"]}
    lower_first = seqrec_cli.run("leaderboard", [f"folder={top}", "sort=logloss", "dataset=synthetic"])["groups"][0]
    losses = [run["metrics"]["logloss"] for run in lower_first["runs"]]
    assert losses == sorted(losses)


def test_files(top: Path, tmp_path: Path) -> None:
    found = seqrec_cli.run("leaderboard", [f"folder={top}", "metrics=[mrr,auc]", "sort=mrr", f"output={tmp_path}"])
    markdown = (tmp_path / "leaderboard.md").read_text()
    run = found["groups"][2]["runs"][0]
    half = (run["intervals"]["mrr"][1] - run["intervals"]["mrr"][0]) / 2
    assert f"| markov | 0 | short | {run['metrics']['mrr']:.4f} ± {half:.4f} |" in markdown
    assert "Differs from the first of its dataset: max_length 5 (there 8)." in markdown
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (short,) = [row for row in rows if row["run"] == "short"]
    assert (float(short["mrr"]), float(short["mrr low"])) == (run["metrics"]["mrr"], run["intervals"]["mrr"][0])
    assert [row["position"] for row in rows if row["run"] in ("again", "b/markov", "a/popular")] == ["1", "2", "3"]
    page = (tmp_path / "leaderboard.html").read_text()
    assert page.count("<svg") == page.count("<details>") == 3
    assert "http" not in page


def test_the_folder_is_a_word(top: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(top.parent)
    assert command_line(["leaderboard", "runs", "model=popular"]) == 0
    assert "synthetic, leave_last, test, protocol" in capsys.readouterr().out
    (Path("it's [here]")).symlink_to("runs")
    assert command_line(["leaderboard", "it's [here]", "model=popular"]) == 0
    assert command_line(["leaderboard", "nothing"]) == 2
    assert "nothing is no folder" in capsys.readouterr().err
    assert command_line(["compare", "runs"]) == 2  # other verbs take no words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sort=hr@7"], r"sort=hr@7: no run has measured it"),
        (["sort=ncdg@10"], r"sort: ncdg@10 is no metric; did you mean"),
        (["where={max_lenght: 5}"], r"where: no run has a 'max_lenght' .*did you mean 'max_length'"),
        (["model=din"], "none of 5 runs is of those models"),
    ],
)
def test_what_there_is_not_is_refused(top: Path, words: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("leaderboard", [f"folder={top}", *words])


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match="holds no run with numbers of split=test"):
        seqrec_cli.run("leaderboard", [f"folder={tmp_path}"])
