"""`evaluate history=[...]`: one checkpoint at shorter histories, for encoders and rankers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import seqrec_cli
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.splits import held_out
from seqrec_cli.evaluation.evaluate import measuring

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=20",
    "trainer.max_epochs=1",
    "trainer.batch_size=32",
    "evaluation.baselines=false",
    "evaluation.test=none",
    "hardware.precision=fp32",
    "model.max_length=12",
]
MORE = {"dien": ["trainer=click", "objective.negatives=1", "model.dropout=0"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("history")


def trained(base: Path, model: str) -> Path:
    folder = base / model
    if not folder.exists():
        words = [*TINY, f"model={model}", "model.embed_dim=8", *MORE.get(model, [])]
        seqrec_cli.run("train", [*words, f"data_dir={base / 'data'}", f"run_dir={folder}"])
    return folder


def mrr_of_short_histories(folder: Path, length: int) -> float:
    """From the model's own scores of rows that hold the latest `length` events and no others."""
    run, reciprocals = restore(str(folder), None, None, hardware=AS_TRAINED), []
    log, targets = run.log, held_out(run.log, "val")
    with measuring(run.model, run.precision):
        for row, end in zip(targets.rows_R, targets.ends_R, strict=True):
            start = max(log.offsets_U1[row], end - length)
            items_BL, times_BL = (
                torch.from_numpy(np.asarray(of[start:end], np.int64))[None] for of in (log.items_N, log.times_N)
            )
            request_B = torch.tensor([int(log.times_N[end])])
            batch = Batch(torch.tensor([row + 1]), items_BL, torch.tensor([end - start]), times_BL)
            scores_V = run.model.score_corpus(Batch(**{**vars(batch), "request_times_B": request_B}))[0].double()
            scores_V[log.items_N[log.offsets_U1[row] : end].tolist()] = -torch.inf  # seen, in the whole history
            scores_V[0] = -torch.inf
            own = scores_V[int(log.items_N[end])]
            reciprocals.append(1 / (1 + (scores_V > own).sum().item()))
    return float(np.mean(reciprocals))


@pytest.mark.parametrize("model", ["sasrec", "bert4rec", "dien"])
def test_a_checkpoint_is_measured_at_each_length(base: Path, model: str, capsys) -> None:
    folder, run_dir = trained(base, model), base / f"{model}-lengths"
    whole = seqrec_cli.run("evaluate", [f"ckpt={folder}", "split=val"])
    capsys.readouterr()
    words = ["split=val", "history=[12,3,7,3]", f"run_dir={run_dir}"]
    found = seqrec_cli.run("evaluate", [f"ckpt={folder}", *words])
    rows = found["history"]
    assert [row["history"] for row in rows] == [3, 7, 12]
    assert found["val"] == whole["val"]
    assert {name: value for name, value in rows[-1].items() if name in whole["val"]} == {
        name: value for name, value in whole["val"].items() if name != "loss"
    }
    assert rows[0]["mrr"] == pytest.approx(mrr_of_short_histories(folder, 3), rel=1e-6)
    assert rows[0]["mrr"] != rows[-1]["mrr"]
    assert all(row["ms_a_user"] > 0 for row in rows)
    assert json.loads((run_dir / "metrics.json").read_text())["history"] == rows
    assert imread(run_dir / "history.png").shape[1] > 1000
    out = capsys.readouterr().out
    assert "val metrics by the latest events read" in out
    line = next(line for line in out.splitlines() if line.split()[:1] == ["3"])
    assert f"{rows[0]['mrr']:.4f}" in line


def test_more_events_than_the_model_reads_are_refused(base: Path) -> None:
    folder = trained(base, "sasrec")
    with pytest.raises(SeqrecError, match=r"history: 13 events are more than the model reads \(model.max_length=12\)"):
        seqrec_cli.run("evaluate", [f"ckpt={folder}", "history=[5,13]", f"run_dir={base / 'never'}"])
    with pytest.raises(SeqrecError, match=r"history"):
        seqrec_cli.run("evaluate", [f"ckpt={folder}", "history=[0]"])
    assert not (base / "never").exists()
    assert not (base / "data" / "test_openings.jsonl").exists()


def test_all_lengths_are_one_opening(base: Path) -> None:
    found = seqrec_cli.run("evaluate", [f"ckpt={trained(base, 'sasrec')}", "history=[3,5]"])
    assert found["test_opened"] == 1
