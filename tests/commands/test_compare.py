"""`seqrec compare` on runs of one dataset: numbers, parts, files, and what is refused."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.compare import same_protocol
from seqrec_cli.reporting.run_folder import RunFolder

TINY = [
    "dataset=synthetic",
    "dataset.users=80",
    "dataset.items=40",
    "dataset.max_events=15",
    "protocol.click_negatives=5",
    "evaluation.baselines=false",
    "model.max_length=8",
]
FEW = "resamples=500"


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


def numbers(run: str) -> dict[str, float]:
    return json.loads((Path(run) / "metrics.json").read_text())["test"]


def test_means_are_the_runs_own_and_differences_stand_beside(
    runs: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    popular, markov, _ = runs
    asked = [f"runs=[{popular},{markov}]", "metrics=[ndcg@10,mrr,hr@3]", "segments=3"]
    found = seqrec_cli.run("compare", asked)
    own = [numbers(run) for run in (popular, markov)]
    for row, metrics, name in zip(found["runs"], own, ("popular", "markov"), strict=True):
        assert row["run"] == name
        for metric in ("ndcg@10", "mrr"):
            assert row[metric]["mean"] == pytest.approx(metrics[metric])
            assert row[metric]["difference"] == pytest.approx(metrics[metric] - own[0][metric])
    better = found["runs"][1]["mrr"]
    assert better["error"] > 0
    low, high = better["difference_interval"]
    assert low < better["difference"] < high
    assert better["p_holm"] >= better["p"] > 0
    parts = found["segments"]
    assert {part["kind"] for part in parts} == {"history:3"}
    assert sum(part["users"] for part in parts) == 80
    weighted = sum(part["users"] * part["runs"][1]["mrr"]["mean"] for part in parts) / 80
    assert weighted == pytest.approx(own[1]["mrr"])
    printed = capsys.readouterr().out
    assert f"{better['difference']:+.4f} [{low:+.4f}, {high:+.4f}]" in printed
    assert "80 users" in printed
    assert max(map(len, printed.splitlines())) < 250
    assert seqrec_cli.run("compare", asked) == found  # the resamples have a seed
    assert seqrec_cli.run("compare", [*asked, "seed=1"]) != found


def test_intervals_in_metrics_json_are_those_of_compare(runs: tuple[str, str, str]) -> None:
    popular, markov, _ = runs
    stored = json.loads((Path(markov) / "metrics.json").read_text())["intervals"]
    assert set(stored) == {"val", "test"}
    assert {"hr@5", "ndcg@10", "mrr", "auc", "gauc", "logloss"} <= set(stored["test"])
    found = seqrec_cli.run("compare", [f"runs=[{popular},{markov}]", "metrics=[mrr,auc,gauc,logloss]", FEW])
    for metric in ("mrr", "auc", "gauc", "logloss"):
        assert found["runs"][1][metric]["interval"] == pytest.approx(stored["test"][metric])
        assert found["runs"][1][metric]["mean"] == pytest.approx(numbers(markov)[metric])


def test_click_scores_are_kept_and_their_metrics_compared(
    runs: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    popular, markov, _ = runs
    scores = pq.read_table(Path(markov) / "clicks_test.parquet").to_pandas()
    assert list(scores.columns) == ["user_index", "request", "item_index", "history", "label", "logit"]
    assert len(scores) == 80 * 6
    assert scores.groupby("request").label.sum().eq(1).all()
    targets = pq.read_table(Path(markov) / "ranks_test.parquet").to_pandas().set_index("user_index").item_index
    clicked = scores[scores.label == 1].set_index("user_index").item_index
    assert clicked.to_dict() == targets.to_dict()
    probability = 1 / (1 + np.exp(-scores.logit))
    loss = -np.log(np.where(scores.label == 1, probability, 1 - probability)).mean()
    assert loss == pytest.approx(numbers(markov)["logloss"])
    found = seqrec_cli.run("compare", [f"runs=[{popular},{markov}]", "metrics=[auc]", "segments=cold", FEW])
    users, delong = found["runs"][1]["auc"], found["runs"][1]["auc (DeLong)"]
    assert users["difference"] == pytest.approx(delong["difference"])
    assert delong["p_holm"] is None
    assert "auc resamples users; auc (DeLong) takes every candidate as independent" in capsys.readouterr().out


def test_parts_by_the_data(runs: tuple[str, str, str]) -> None:
    popular, markov, _ = runs
    spec = "segments=[popularity:3,cold,cold_users,user.segment]"
    found = seqrec_cli.run("compare", [f"runs=[{popular},{markov}]", "metrics=[hr@10,auc]", spec, FEW])
    kinds: dict[str, list[dict]] = {}
    for part in found["segments"]:
        kinds.setdefault(part["kind"], []).append(part)
    assert list(kinds) == ["popularity:3", "cold", "cold_users", "user.segment"]
    assert [sum(part["users"] for part in parts) for parts in kinds.values()] == [80] * 4
    rare, _, frequent = kinds["popularity:3"]
    assert rare["runs"][0]["auc"]["mean"] < frequent["runs"][0]["auc"]["mean"]  # popularity ranks what is popular high
    assert all(part["label"].startswith("segment segment-") for part in kinds["user.segment"])
    with pytest.raises(SeqrecError, match=r"segments=user.age: .*have: segment"):
        seqrec_cli.run("compare", [f"runs=[{popular},{markov}]", "segments=user.age"])


def test_files(runs: tuple[str, str, str], tmp_path: Path) -> None:
    popular, markov, _ = runs
    asked = [f"runs=[{popular},{markov}]", "metrics=[hr@10,logloss]", "segments=2", f"output={tmp_path / 'out'}", FEW]
    found = seqrec_cli.run("compare", asked)
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * (1 + len(found["segments"]))
    (better,) = [row for row in rows if (row["segments"], row["metric"], row["run"]) == ("", "hr@10", "markov")]
    expected = found["runs"][1]["hr@10"]
    assert float(better["difference_low"]) == expected["difference_interval"][0]
    assert float(better["p_holm"]) == expected["p_holm"]
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 2 + 1 + 2  # a forest a metric, the curve, and a forest a metric by history
    assert f"{expected['difference']:+.4f}" in page


def test_what_evaluate_wrote_may_be_compared(runs: tuple[str, str, str], tmp_path: Path) -> None:
    popular, markov, _ = runs
    seqrec_cli.run("evaluate", [f"ckpt={markov}", f"run_dir={tmp_path / 'again'}"])
    found = seqrec_cli.run(
        "compare", [f"runs=[{markov},{tmp_path / 'again'}]", "metrics=[mrr,auc]", "segments=cold", FEW]
    )
    assert found["runs"][1]["mrr"]["difference"] == found["runs"][1]["auc"]["difference"] == 0
    assert found["runs"][1]["mrr"]["p"] == 1
    seqrec_cli.run("compare", [f"runs=[{tmp_path / 'again'},{popular}]", "segments=popularity:2", FEW])


def test_validation_is_compared_by_its_own_files(runs: tuple[str, str, str]) -> None:
    popular, markov, _ = runs
    found = seqrec_cli.run("compare", [f"runs=[{popular},{markov}]", "split=val", "metrics=[mrr,auc]", FEW])
    for row, run in zip(found["runs"], (popular, markov), strict=True):
        own = json.loads((Path(run) / "metrics.json").read_text())
        for metric in ("mrr", "auc"):
            assert row[metric]["mean"] == pytest.approx(own["val"][metric])
            assert own["val"][metric] != own["test"][metric]


def test_other_protocols_are_refused_unless_they_may_differ(runs: tuple[str, str, str]) -> None:
    popular, markov, short = runs
    with pytest.raises(SeqrecError, match="popular and short differ in max_length"):
        seqrec_cli.run("compare", [f"runs=[{popular},{markov},{short}]"])
    found = seqrec_cli.run("compare", [f"runs=[{popular},{short}]", "may_differ=[max_length]", FEW])
    assert [row["run"] for row in found["runs"]] == ["popular", "short"]
    assert found["runs"][1]["ndcg@10"]["difference"] == 0  # what is popular does not depend on a window
    with pytest.raises(SeqrecError, match=r"no field 'maxlength' of a protocol; did you mean 'max_length'"):
        seqrec_cli.run("compare", [f"runs=[{popular},{short}]", "may_differ=[maxlength]"])


def test_nested_fields_that_differ_are_dotted_keys_with_plain_values(runs: tuple[str, str, str]) -> None:
    rows = [{"protocol": RunFolder(Path(run)).read_metrics()["protocol"]} for run in runs[:2]]
    rows[1]["protocol"]["filters"] = {**rows[1]["protocol"]["filters"], "user_core": 5, "min_rating": 3.5}
    with pytest.raises(
        SeqrecError, match=r"differ in filters\.min_rating \(null against 3\.5\), filters\.user_core \(0 ag"
    ):
        same_protocol(rows)
    rows[1]["protocol"] = rows[0]["protocol"] | {"fingerprint": "0123456789abcdef" * 4}
    with pytest.raises(SeqrecError, match=r"differ in fingerprint \([0-9a-f]{12} against 0123456789ab\) and"):
        same_protocol(rows)


def test_a_run_of_before_has_no_click_scores(runs: tuple[str, str, str], tmp_path: Path) -> None:
    popular, markov, _ = runs
    shutil.copytree(markov, tmp_path / "old")
    (tmp_path / "old" / "clicks_test.parquet").unlink()
    seqrec_cli.run("compare", [f"runs=[{popular},{tmp_path / 'old'}]", FEW])
    with pytest.raises(SeqrecError, match=r"clicks_test.parquet: no file of click scores .*evaluate the run again"):
        seqrec_cli.run("compare", [f"runs=[{popular},{tmp_path / 'old'}]", "metrics=[auc]"])
    (tmp_path / "old" / "metrics.json").write_text('{"val": ')
    with pytest.raises(SeqrecError, match=r"metrics.json is damaged .*evaluate the run again: seqrec evaluate ckpt="):
        seqrec_cli.run("compare", [f"runs=[{popular},{tmp_path / 'old'}]"])
    (tmp_path / "old" / "metrics.json").unlink()
    with pytest.raises(SeqrecError, match=r"old has no metrics.json: the run is not finished"):
        seqrec_cli.run("compare", [f"runs=[{popular},{tmp_path / 'old'}]"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runs=[a]"], "runs"),
        (["runs=[a,b]", "metrics=[ece]"], "ece is no mean over users"),
        (["runs=[a,b]", "metrics=[ncdg@10]"], r"ncdg@10 is no metric; did you mean 'ndcg@k'"),
        (["runs=[a,b]", "segments=age:3"], r"segments: 'age:3' is no way to part the users; have: history:4"),
        (["runs=[a,b]", "segments=history"], r"segments: 'history' is no way"),
        (["runs=[a,b]", "resamples=10"], "resamples=10: expected integer >= 100"),
        (["runs=[nowhere,nothing]"], "nowhere"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("compare", words)
