"""Runs whose models read numbers, pre-trained vectors, user attributes and context: trained, measured again, explained,
exported, asked."""

import json
from pathlib import Path

import numpy as np
import pytest

import seqrec_cli
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError

READS_ALL = ["model=sasrec", "model.attributes=tied", "model.user_attributes=add", "model.context=request"]
RUNS = {
    "encoder": [*READS_ALL, "model.heads=1"],
    "ranker": ["model=din", "model.user_id=true", "model.widths={user_id: 3, cost: 5, price: 2, item_vectors: 4}"],
    "unread": ["model=sasrec"],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    rows = ["user,item,time,cost,age,price,device"]
    for user in range(40):
        for nth, item in enumerate(rng.permutation(25)[:7]):
            price, device = rng.exponential(30), "ab"[rng.integers(2)]
            rows.append(
                f"{user},{item},{1_700_000_000 + 1000 * user + nth},{item * 1.5},{20 + user},{price:.2f},{device}"
            )
    (folder / "log.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    np.savez(folder / "vectors.npz", ids=np.arange(20), vectors=rng.normal(size=(20, 6)))
    return folder


def settings(base: Path) -> list[str]:
    return [
        "dataset=csv",
        f"dataset.archive={base / 'log.csv'}",
        "dataset.item_attribute_columns=[cost]",
        "dataset.user_attribute_columns=[age]",
        "dataset.context_columns=[price,device]",
        "dataset.numeric_columns=[cost,age,price]",
        f"dataset.item_vectors={base / 'vectors.npz'}",
        f"data_dir={base / 'data'}",
        "trainer.max_epochs=1",
        "model.embed_dim=8",
        "model.max_length=5",
    ]


@pytest.fixture(scope="module", params=["encoder", "ranker"])
def run(request: pytest.FixtureRequest, base: Path) -> str:
    folder = base / request.param
    more = ["evaluation.baselines=false", f"run_dir={folder}"]
    seqrec_cli.run("train", [*settings(base), *RUNS[request.param], *more])
    return str(folder)


def test_a_run_is_measured_again_as_it_was(run: str) -> None:
    before = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
    again = seqrec_cli.run("evaluate", [f"ckpt={run}", "split=val"])
    found = again.get("val", again)["ndcg@10"]
    assert found == pytest.approx(before["val"]["ndcg@10"], abs=1e-6)


def test_the_exported_program_agrees_with_the_model_and_names_what_it_reads(run: str, tmp_path: Path) -> None:
    made = seqrec_cli.run("export", [f"ckpt={run}", "format=torch", f"out={tmp_path / 'out'}"])
    assert made["max_difference"] <= compose("export", ["ckpt=run"]).tolerance.scores
    signature = json.loads((tmp_path / "out" / "signature.json").read_text(encoding="utf-8"))
    inputs = {each["name"]: each["shape"][-1] for each in signature["inputs"]}
    assert inputs["context_BF"] == 2
    assert ("context_BLF" in inputs) is run.endswith("encoder")
    assert [each["name"] for each in signature["context"]] == ["price", "device"]


def test_a_user_of_the_log_is_recommended_to_and_a_told_number_changes_the_answer(run: str) -> None:
    assert len(seqrec_cli.run("recommend", [f"ckpt={run}", "user=3", "top=4"])["items"]) == 4
    asked = [f"ckpt={run}", "history=[3,7]", "top=4"]
    if run.endswith("encoder"):
        with pytest.raises(SeqrecError, match=r"reads the context of every event \(price, device\)"):
            seqrec_cli.run("recommend", asked)
        return
    cheap, dear = (seqrec_cli.run("recommend", [*asked, f"+context.price={price}"]) for price in ("0.5", "1000.25"))
    assert cheap["scores"] != dear["scores"]


def test_explain_takes_the_context_of_the_user_s_events(run: str) -> None:
    if run.endswith("ranker"):
        assert seqrec_cli.run("explain", [f"ckpt={run}", "user=3"])


def test_a_rollout_does_not_make_up_context(base: Path, run: str) -> None:
    if run.endswith("encoder"):
        with pytest.raises(SeqrecError, match=r"model\.context=none"):
            seqrec_cli.run("rollout", [f"ckpt={run}", "split=val", "steps=1"])


def test_what_a_run_does_not_read_is_said(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["evaluation.baselines=false", f"run_dir={base / 'unread'}", "evaluation.test=none"]
    seqrec_cli.run("train", [*settings(base), *RUNS["unread"], *more])
    printed = capsys.readouterr().out
    assert "item attributes cost, item_vectors: not read by model=sasrec; set model.attributes=add" in printed
    assert "user attributes age: not read by model=sasrec; set model.user_attributes=add" in printed
    assert "context price, device: not read by model=sasrec; set model.context=history" in printed


def test_the_cost_of_a_run_is_planned(base: Path) -> None:
    assert seqrec_cli.run("plan", [*settings(base), *RUNS["encoder"], "trainer.max_epochs=1"])
