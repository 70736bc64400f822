"""`seqrec rollout` end to end: from a run of protocol=last_k to a table, JSON, the sequences and a picture."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import seqrec_cli
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.rollouts.continuations import continuations
from seqrec_cli.reporting.openings import LEDGER

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=20",
    "evaluation.baselines=false",
]
FAST = ["trainer.max_epochs=1", "hardware.threads=1", "hardware.precision=fp32"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base: Path = tmp_path_factory.mktemp("rollout")
    for model, words in {
        "markov": [],
        "sasrec": [*FAST, "model.embed_dim=8"],
        "din": [*FAST, "model.embed_dim=4"],
    }.items():
        protocol = ["protocol=last_k", "protocol.k=4", "protocol.targets=all"]
        fixed = [f"model={model}", f"data_dir={base / 'data'}", f"run_dir={base / model}"]
        seqrec_cli.run("train", [*TINY, *protocol, *words, *fixed])
    return {model: str(base / model) for model in ("markov", "sasrec", "din")}


def test_the_table_and_every_file_say_the_same(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = seqrec_cli.run("rollout", [f"ckpt={runs['markov']}", "steps=4", f"run_dir={tmp_path / 'out'}"])
    assert json.loads((tmp_path / "out" / "rollout.json").read_text()) == json.loads(json.dumps(found))
    assert (tmp_path / "out" / "rollout.png").read_bytes().startswith(b"\x89PNG")
    rows = pq.read_table(tmp_path / "out" / "rollout.parquet").to_pandas()
    assert len(rows) == 4 * found["requests"]
    hits = (rows.item_index == rows.target_index)[rows.target_index > 0].groupby(rows.step).mean()
    assert hits.tolist() == pytest.approx(found["by_step"]["hit"]["rollout"])
    assert not rows.duplicated(["user_index", "item_index"]).any()  # seen items leave, those just said too
    printed = capsys.readouterr().out
    assert f"{found['overlap']['rollout']:.4f}" in printed


@pytest.mark.parametrize("model", ["sasrec", "din"])
@pytest.mark.parametrize("words", [["by=beam", "width=2"], ["by=sample", "top_p=0.9", "temperature=2.0", "seed=1"]])
def test_encoders_and_rankers_go_on_by_beam_and_by_draws(runs: dict[str, str], model: str, words: list[str]) -> None:
    found = seqrec_cli.run("rollout", [f"ckpt={runs[model]}", "steps=3", "users=10", "truth=false", *words])
    assert found["requests"] == 10
    assert set(found["by_step"]["found@10"]) == {"rollout", "plain"}
    # after no generated event the two are one
    assert found["by_step"]["found@10"]["rollout"][0] == found["by_step"]["found@10"]["plain"][0]


def test_the_first_greedy_step_is_the_plain_list_and_the_truth(runs: dict[str, str]) -> None:
    found = seqrec_cli.run("rollout", [f"ckpt={runs['sasrec']}", "steps=2"])
    for kinds in found["by_step"].values():
        assert kinds["rollout"][0] == kinds["plain"][0]
    assert found["by_step"]["found@10"]["given_truth"][0] == found["by_step"]["found@10"]["plain"][0]


def test_the_split_that_is_asked_for_goes_on_and_test_is_counted(runs: dict[str, str], tmp_path: Path) -> None:
    folder = Path(runs["markov"])
    log = restore(str(folder), None, None, hardware=AS_TRAINED).log
    readings = []
    for split in ("val", "test"):
        words = [f"ckpt={folder}", f"split={split}", "steps=4", f"run_dir={tmp_path / split}"]
        assert seqrec_cli.run("rollout", words)["split"] == split
        targets = pq.read_table(tmp_path / split / "rollout.parquet")["target_index"].to_pylist()
        assert targets == continuations(log, split, steps=4, users=None).targets_Rn.ravel().tolist()  # type: ignore[arg-type]
        lines = (folder.parent / "data" / LEDGER).read_text().splitlines()
        readings.append([json.loads(line)["by"] for line in lines].count("rollout"))
    assert readings[1] == readings[0] + 1


def test_draws_follow_the_seed(runs: dict[str, str], tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        words = [f"ckpt={runs['markov']}", "steps=3", "by=sample", f"seed={seed}", f"run_dir={tmp_path / name}"]
        seqrec_cli.run("rollout", words)
        drawn.append(pq.read_table(tmp_path / name / "rollout.parquet")["item_index"].to_pylist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_settings_of_another_way_and_too_many_steps_are_refused(runs: dict[str, str]) -> None:
    with pytest.raises(SeqrecError, match="width=3 is of by=beam, and by=greedy"):
        seqrec_cli.run("rollout", [f"ckpt={runs['markov']}", "width=3"])
    with pytest.raises(SeqrecError, match=r"steps=9.*protocol=last_k protocol.k=9"):
        seqrec_cli.run("rollout", [f"ckpt={runs['markov']}", "steps=9"])
