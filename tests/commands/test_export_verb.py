"""`seqrec export`: its folder is all that a caller needs, the gate's numbers are printed, history= bounds work."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import seqrec_cli
from seqrec_cli.commands import export
from seqrec_cli.config.errors import SeqrecError

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=12",
    "trainer.max_epochs=1",
    "trainer.batch_size=64",
    "evaluation.baselines=false",
    "model.max_length=8",
    "model.embed_dim=8",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("export_verb")
    for name, monitor in (("gru4rec", "ndcg@10"), ("din", "auc")):
        run = [f"model={name}", f"trainer.monitor={monitor}", f"data_dir={base / 'data'}", f"run_dir={base / name}"]
        seqrec_cli.run("train", [*TINY, *run])
    return base


def test_the_folder_is_all_that_a_caller_needs(runs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    found = seqrec_cli.run("export", [f"ckpt={runs / 'gru4rec'}", "history=5", f"out={out}"])
    printed = capsys.readouterr().out
    assert (
        f"{found['metric']} on validation: {found['metric_now']:.4f}, the checkpoint {found['metric_was']:.4f}"
        in printed
    )
    assert "of its top 10, 100.0%" in printed
    assert found["metric_now"] == pytest.approx(found["metric_was"], abs=1e-6)
    signature = json.loads((out / "signature.json").read_text())
    assert signature["max_length"] == 5
    card = (out / "README.md").read_text()
    assert "gru4rec on synthetic" in card
    assert "On validation:" in card
    assert "How it compares with the checkpoint" in card
    assert "(format torch)" in card
    assert "seqrec train dataset=synthetic model=gru4rec" in card
    page = (out / "card.html").read_text()
    assert "How it compares with the checkpoint" in page
    assert "://" not in page
    lines = card.split("```python\n")[1].split("```")[0].splitlines()
    assert len(lines) == 3  # import, load, ask
    inputs = {"users_B": torch.tensor([0]), "items_BL": torch.tensor([[3, 4]]), "lengths_B": torch.tensor([2])}
    here = {"inputs": {each["name"]: inputs[each["name"]] for each in signature["inputs"]}}
    exec("\n".join(lines).replace('"model.pt2"', repr(str(out / "model.pt2"))), here)
    assert here["scores"].shape == (1, 41)
    told = json.loads((out / "preprocessing.json").read_text())
    assert told["data"]["fingerprint"] == signature["fingerprint"] or told["data"]["filters"]
    if (out / "item_attributes.parquet").exists():
        assert pq.read_table(out / "item_attributes.parquet")["index"].to_pylist() == list(range(1, 41))


def test_a_click_model_is_measured_by_its_click_metric(runs, tmp_path, capsys) -> None:
    found = seqrec_cli.run("export", [f"ckpt={runs / 'din'}", "users=20", f"out={tmp_path / 'out'}"])
    assert found["metric"] == "auc"
    assert 0 < found["metric_now"] < 1
    assert found["top10"] >= 0.99


def test_a_longer_history_than_the_models_is_refused(runs, tmp_path) -> None:
    with pytest.raises(SeqrecError, match="history: 9 events are more than the model reads"):
        seqrec_cli.run("export", [f"ckpt={runs / 'din'}", "history=9", f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_the_metric_is_that_of_as_many_users_as_were_asked_for(runs, tmp_path, monkeypatch) -> None:
    seen = []
    rank, score_clicks = export.rank, export.score_clicks

    def ranked(*args, cfg, **settings):
        seen.append(cfg.ranked_users)
        return rank(*args, cfg=cfg, **settings)

    def scored(model, log, *args, **settings):
        seen.append(len(log.clicks["val"].rows_R))
        return score_clicks(model, log, *args, **settings)

    monkeypatch.setattr(export, "rank", ranked)
    monkeypatch.setattr(export, "score_clicks", scored)
    for name in ("gru4rec", "din"):
        seqrec_cli.run("export", [f"ckpt={runs / name}", "users=7", f"out={tmp_path / name}"])
    assert seen == [7] * 4  # the checkpoint and the program, of each


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["format=embeddings", "quantize=fp16", "index=hnsw"], ("fp16", "hnsw")),
        (["format=torch", "quantize=bf16"], ("bf16", None)),
    ],
)
def test_the_number_format_and_the_index_are_those_that_were_given(
    words, expected, runs, tmp_path, monkeypatch
) -> None:
    given = []

    def refused(*args, options, **settings):
        given.append((options.quantize, options.index))
        raise SeqrecError("enough")

    monkeypatch.setattr(export, "check_format", lambda *args: None)
    monkeypatch.setattr(export, "export", refused)
    with pytest.raises(SeqrecError, match="enough"):
        seqrec_cli.run("export", [f"ckpt={runs / 'gru4rec'}", *words, f"out={tmp_path / 'out'}"])
    assert given == [expected]


@pytest.mark.parametrize("name", ["scores", "top10", "metric"])
def test_the_tolerance_is_the_one_that_was_given(name, runs, tmp_path, monkeypatch) -> None:
    given = []

    def refused(*args, tolerance, **settings):
        given.append(getattr(tolerance, name))
        raise SeqrecError("enough")

    monkeypatch.setattr(export, "export", refused)
    with pytest.raises(SeqrecError, match="enough"):
        seqrec_cli.run("export", [f"ckpt={runs / 'din'}", f"tolerance.{name}=0.5", f"out={tmp_path / 'out'}"])
    assert given == [0.5]
