"""Every run under a folder, whatever its state, as one frame."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import seqrec_cli
from seqrec_cli import SeqrecError, Trained
from seqrec_cli.api.overrides import as_overrides
from seqrec_cli.cli import main
from tests.api.conftest import TINY


def copied(run: Trained, path: Path, without: tuple[str, ...] = ()) -> Path:
    shutil.copytree(run.path, path)
    for name in without:
        (path / name).unlink()
    return path


def test_a_row_says_what_was_trained_and_what_came_out(sasrec: Trained, din: Trained, tmp_path: Path) -> None:
    copied(sasrec, tmp_path / "2026-01-01" / "a")
    copied(din, tmp_path / "2026-01-02" / "b")
    table = seqrec_cli.runs(tmp_path)
    assert table["path"].tolist() == [str(tmp_path / "2026-01-01" / "a"), str(tmp_path / "2026-01-02" / "b")]
    assert table[["state", "model", "dataset", "group"]].values.tolist() == [
        ["finished", "sasrec", "synthetic", None],
        ["finished", "din", "synthetic", None],
    ]
    for (_, row), run in zip(table.iterrows(), (sasrec, din), strict=True):
        manifest = json.loads((run.path / "manifest.json").read_text())
        assert row["fingerprint"] == run.protocol["fingerprint"]
        assert (row["seed"], row["objective"]) == (run.config["trainer"]["seed"], run.config["objective"]["name"])
        assert (row["wall_seconds"], row["parameters"]) == (manifest["wall_seconds"], manifest["parameters"])
        assert (row["chosen_by"], row["max_length"]) == (run.protocol["chosen_by"], 8)
        assert {name: row[f"test_{name}"] for name in run.metrics["test"]} == run.metrics["test"]
        assert {name: row[f"val_{name}"] for name in run.metrics["val"]} == run.metrics["val"]
    best = table.sort_values("val_ndcg@10", ascending=False).iloc[0]
    assert best["val_ndcg@10"] == max(run.metrics["val"]["ndcg@10"] for run in (sasrec, din))


def test_unfinished_and_unreadable_folders_are_marked(sasrec: Trained, tmp_path: Path) -> None:
    copied(sasrec, tmp_path / "1_stopped", without=("DONE", "metrics.json"))
    begun = tmp_path / "2_begun"
    begun.mkdir()
    (begun / "manifest.json").write_text("{}\n")
    (copied(sasrec, tmp_path / "3_torn") / "config.yaml").write_text("model: [")
    (copied(sasrec, tmp_path / "4_torn") / "manifest.json").write_text('{"fit": ')
    (copied(sasrec, tmp_path / "5_foreign") / "config.yaml").write_text("model: 3\n")
    table = seqrec_cli.runs(tmp_path)
    assert table["state"].tolist() == ["unfinished", "unfinished", *["unreadable"] * 3]
    assert not table["finished"].any()
    assert table["model"][0] == "sasrec"
    assert pd.isna(table["model"][1])
    assert table["error"].isna().tolist() == [True, True, False, False, False]
    assert not any("\n" in said for said in table["error"].dropna())


def test_seeds_and_sweeps_have_a_row_a_run_and_data_none(base: Path, tmp_path: Path) -> None:
    settings = {**TINY, "data_dir": tmp_path / "data"}
    seqrec_cli.train({**settings, "trainer.seeds": 2}, run_dir=tmp_path / "seeds", verbose=False)
    overrides = as_overrides(settings)
    assert (
        main(
            [
                "train",
                "-m",
                "hydra/launcher=inline",
                *overrides,
                "model=sasrec,gru4rec",
                f"run_dir={tmp_path / 'sweep'}",
            ]
        )
        == 0
    )
    table = seqrec_cli.runs(tmp_path)
    seeds = table[table["group"] == str(tmp_path / "seeds")]
    assert seeds["seed"].tolist() == [0, 1]
    sweep = table[table["group"] == str(tmp_path / "sweep")]
    assert sweep["model"].tolist() == ["sasrec", "gru4rec"]
    assert len(table) == 4


def test_a_measurement_s_folder_is_no_run(sasrec: Trained, tmp_path: Path) -> None:
    seqrec_cli.run("evaluate", [f"ckpt={sasrec.path}", f"run_dir={tmp_path / 'again'}", "split=val"])
    (row,) = seqrec_cli.runs(tmp_path).to_dict("records")
    assert (row["state"], row["dataset"]) == ("evaluation", "synthetic")
    assert row["val_mrr"] == sasrec.metrics["val"]["mrr"]


def test_a_folder_without_runs_is_an_empty_frame_and_no_folder_is_refused(tmp_path: Path) -> None:
    empty = seqrec_cli.runs(tmp_path)
    assert len(empty) == 0
    assert {"path", "state", "model", "seed", "wall_seconds"} <= set(empty.columns)
    with pytest.raises(SeqrecError, match=r"nothing is no folder$"):
        seqrec_cli.runs(tmp_path / "nothing")
