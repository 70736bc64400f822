"""`scripts.cold_items`: which events train, and ranks of held-out items against ranks counted one by one."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqrec_cli
from scripts import cold_items
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import training_counts, view_of
from seqrec_cli.saying import silent


def test_held_out_items_test_and_the_last_others_test_and_validate() -> None:
    held_V = np.zeros(10, bool)
    held_V[[3, 7]] = True
    assert cold_items.parts(np.array([1, 3, 2, 4, 7, 5]), held_V) == ["train", "test", "train", "valid", "test", "test"]
    assert cold_items.parts(np.array([1, 3, 2]), held_V) == ["train", "test", "train"]  # too few to test
    counts_V = np.array([0, 9, 9, 1, 9, 9])
    held_V = cold_items.held_out_items(counts_V, share=0.5, least=5, seed=0)
    assert held_V.sum() == 2
    assert not held_V[[0, 3]].any()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("cold")
    small = ["dataset=synthetic", "dataset.users=60", "dataset.items=40", "dataset.categories=5", f"data_dir={folder}"]
    log = prepare(validate("train", compose("train", small)).dataset, folder, silent)  # type: ignore[union-attr]
    held_V = cold_items.held_out_items(np.bincount(log.items_N, minlength=41), share=0.2, least=5, seed=0)
    cold_items.write_log(log, folder / "held", held_V)
    with (folder / "held" / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(log.items_N)
    given = ["dataset=csv", f"dataset.archive={folder / 'held' / 'log.csv'}", "dataset.split_column=part"]
    given += ["dataset.split_leaks=true", f"dataset.item_file={folder / 'held' / 'items.csv'}"]
    given += ["dataset.item_attribute_columns=[category]", "protocol=given", "protocol.targets=all"]
    model = ["model=sasrec", "model.embed_dim=8", "model.max_length=8", "trainer.max_epochs=1"]
    more = ["evaluation.baselines=false", f"data_dir={folder}", f"run_dir={folder / 'run'}"]
    seqrec_cli.run("train", [*given, *model, *more])
    found = restore(str(folder / "run"), None, None, hardware=AS_TRAINED, tell=silent)
    found.model.eval()
    return found, int(held_V.sum())


def test_ranks_are_those_counted_one_by_one(run: Any) -> None:
    restored, held = run
    log, test = restored.log, view_of(restored.log).test
    cold_V = training_counts(log) == 0
    cold_V[0] = False
    assert cold_V.sum() == held
    scores_RV = cold_items.queries(restored, test) @ cold_items.table_of(restored).T
    found = cold_items.ranked(scores_RV, log, test, wanted_V=cold_V, among_V=cold_V)
    auc = []
    for r, row in enumerate(test.rows_R):
        items_T = log.items_N[test.positions_T[test.offsets_R1[r] : test.offsets_R1[r + 1]]]
        read = set(log.items_N[log.offsets_U1[row] : test.ends_R[r]].tolist())
        others = [v for v in np.flatnonzero(cold_V) if v not in read and v not in items_T]
        asked = [t for t in items_T if cold_V[t]]
        if asked and others:
            auc.append(np.mean([scores_RV[r, t] > scores_RV[r, v] for t in asked for v in others]))
    np.testing.assert_allclose(found.auc_R, auc, atol=1e-6)
    assert len(found.hits_R) == len(auc)


def test_the_table_has_popularity_and_estimates_beside_a_run(run: Any) -> None:
    restored, _ = run
    rows = [line.split(" | ") for line in cold_items.lines(restored, "ids")]
    assert [row[0] for row in rows[::3]] == ["| ids", "| ids, cold by attributes", "| popularity beside ids"]
    assert [row[1] for row in rows[:3]] == ["cold, whole corpus", "cold, among cold", "warm, whole corpus"]
    assert rows[-2][-1].startswith("0.5000")  # among items that it has no counts of
