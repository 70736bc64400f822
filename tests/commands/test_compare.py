"""`seqrec compare` on two runs of one dataset."""

import json
from pathlib import Path

import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError

TINY = [
    "dataset=synthetic",
    "dataset.users=80",
    "dataset.items=40",
    "dataset.max_events=15",
    "evaluation.baselines=false",
    "model.max_length=8",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    base: Path = tmp_path_factory.mktemp("compare")
    for name, words in {
        "popular": ["model=popular"],
        "markov": ["model=markov"],
        "short": ["model=popular", "model.max_length=5"],
    }.items():
        seqrec_cli.run("train", [*TINY, *words, f"data_dir={base / 'data'}", f"run_dir={base / name}"])
    return str(base / "popular"), str(base / "markov"), str(base / "short")


def test_means_are_the_runs_own_and_differences_stand_beside(
    runs: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    popular, markov, _ = runs
    found = seqrec_cli.run("compare", [f"runs=[{popular},{markov}]", "metrics=[ndcg@10,mrr,hr@3]", "segments=3"])
    own = [json.loads((Path(run) / "metrics.json").read_text())["test"] for run in (popular, markov)]
    for row, metrics, name in zip(found["runs"], own, ("popular", "markov"), strict=True):
        assert row["run"] == name
        for metric in ("ndcg@10", "mrr"):
            assert row[metric]["mean"] == pytest.approx(metrics[metric])
            assert row[metric]["difference"] == pytest.approx(metrics[metric] - own[0][metric])
    assert found["runs"][1]["mrr"]["error"] > 0
    parts = found["segments"]
    assert sum(part["users"] for part in parts) == 80
    weighted = sum(part["users"] * part["runs"][1]["mrr"]["mean"] for part in parts) / 80
    assert weighted == pytest.approx(own[1]["mrr"])
    printed = capsys.readouterr().out
    assert f"{found['runs'][1]['mrr']['difference']:+.4f}" in printed
    assert "80 users" in printed


def test_other_protocols_are_refused_unless_they_may_differ(runs: tuple[str, str, str]) -> None:
    popular, markov, short = runs
    with pytest.raises(SeqrecError, match="popular and short differ in max_length"):
        seqrec_cli.run("compare", [f"runs=[{popular},{markov},{short}]"])
    found = seqrec_cli.run("compare", [f"runs=[{popular},{short}]", "may_differ=[max_length]"])
    assert [row["run"] for row in found["runs"]] == ["popular", "short"]
    assert found["runs"][1]["ndcg@10"]["difference"] == 0  # what is popular does not depend on a window
    with pytest.raises(SeqrecError, match=r"no field 'maxlength' of a protocol; did you mean 'max_length'"):
        seqrec_cli.run("compare", [f"runs=[{popular},{short}]", "may_differ=[maxlength]"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runs=[a]"], "runs"),
        (["runs=[a,b]", "metrics=[auc]"], "auc is no metric of ranks"),
        (["runs=[nowhere,nothing]"], "nowhere"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("compare", words)
