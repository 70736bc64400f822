"""`seqrec audit` end to end: a verdict a line, JSON and a picture, with and without a run's model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.audit import perturbed
from seqrec_cli.evaluation.ranks import rank_held_out
from seqrec_cli.models.contract import Recommender
from seqrec_cli.reporting.openings import LEDGER

TINY = ["dataset.users=80", "dataset.items=40", "dataset.max_events=15"]
COLUMNS = ["dataset=csv", "dataset.time_unit=s", "dataset.user_column=user", "dataset.item_column=item"]


def write(path: Path, rows: list[tuple[int, int, int]]) -> Path:
    path.write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows), encoding="utf-8")
    return path


def verdicts(found: dict[str, dict[str, dict[str, str]]]) -> dict[str, str]:
    return {name: finding["verdict"] for name, finding in found["findings"].items()}


def test_json_picture_and_table_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=synthetic", *TINY, f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'audit'}"]
    found = seqrec_cli.run("audit", words)
    assert json.loads((tmp_path / "audit" / "audit.json").read_text()) == json.loads(json.dumps(found))
    assert (tmp_path / "audit" / "audit.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "the future of" in printed
    assert found["findings"]["future"]["verdict"] == "leak"
    assert "protocol=global_time" in printed


def test_ratings_of_a_form_are_told_from_choices(tmp_path: Path) -> None:
    """Everybody rates the same form from top to bottom within a minute: last-item Markov lives on the form's order."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        start = int(rng.integers(12))
        items = [(start + nth) % 20 for nth in range(8)]
        rows += [(user, item, user * 10_000 + nth) for nth, item in enumerate(items)]
    path = write(tmp_path / "form.csv", rows)
    found = seqrec_cli.run("audit", [*COLUMNS, f"dataset.archive={path}", f"data_dir={tmp_path / 'data'}"])
    assert verdicts(found)["bursts"] == "look"
    assert found["findings"]["bursts"]["numbers"]["share_of_events"] == 1
    assert verdicts(found)["ties"] == "ok"
    assert "ties_effect" not in found["findings"]
    effect = found["findings"]["bursts_effect"]
    assert effect["verdict"] == "look"
    markov = next(
        change
        for change in effect["numbers"]["changes"]
        if (change["order"], change["model"]) == ("bursts shuffled, targets kept", "markov")
    )
    assert markov["as_logged"]["hr@10"] > 0.9
    assert markov["mean"]["ndcg@10"] < markov["as_logged"]["ndcg@10"] - 0.2


def test_a_log_without_times_is_audited_as_far_as_it_goes(tmp_path: Path) -> None:
    rows = [(user, (user * 3 + nth) % 11, 0) for user in range(12) for nth in range(6)]
    path = write(tmp_path / "log.csv", rows)
    words = [
        *COLUMNS,
        "tokens=null",
        "dataset.time_column=null",
        f"dataset.archive={path}",
        f"data_dir={tmp_path / 'data'}",
    ]
    found = verdicts(seqrec_cli.run("audit", words))
    untold = {name for name, verdict in found.items() if verdict == "unknown"}
    assert untold == {"clock", "future", "duplicates", "ties", "bursts", "smoothness"}


def with_ties(folder: Path) -> list[str]:
    """The overrides of a log of which three events have one time."""
    rng = np.random.default_rng(0)
    rows = [
        (user, int(item), user * 1000 + nth // 3)
        for user in range(40)
        for nth, item in enumerate(rng.permutation(30)[:12])
    ]
    path = write(folder / "ties.csv", rows)
    return [*COLUMNS, f"dataset.archive={path}", f"data_dir={folder / 'data'}"]


def test_a_runs_model_is_measured_on_reordered_histories(tmp_path: Path) -> None:
    data = with_ties(tmp_path)
    run = tmp_path / "run"
    seqrec_cli.run("train", [*data, "model=markov", "evaluation.baselines=false", f"run_dir={run}"])
    found = seqrec_cli.run("audit", [f"ckpt={run}", "repetitions=2", "endings=[2,1]"])
    same = found["findings"]["same_endings"]
    assert same["question"] == "same last events (markov)"
    assert [row["events"] for row in same["numbers"]["endings"]] == [1, 2]
    assert all(row["planted"]["differ"] == 0 for row in same["numbers"]["endings"])  # the last event says it all
    assert same["verdict"] == "look"
    changes = found["findings"]["ties_effect"]["numbers"]["changes"]
    mine = [change["order"] for change in changes if change["model"] == "markov"]
    assert mine.count("ties shuffled, targets kept") == 2  # the baseline counted anew, and the run's own
    trained = json.loads((run / "metrics.json").read_text())["val"]
    assert changes[-1]["as_logged"]["mrr"] == pytest.approx(trained["mrr"])


def test_the_split_that_is_asked_for_is_looked_at_and_a_runs_model_is_asked_no_test_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = with_ties(tmp_path), tmp_path / "run"
    words = ["model=sasrec", "model.embed_dim=8", "evaluation.baselines=false", "evaluation.test=none"]
    words += ["trainer.max_epochs=1", f"run_dir={run}"]
    seqrec_cli.run("train", [*data, *words])
    asked: list[str] = []

    def rank(model: Recommender, log: PackedLog, split: str, **how: Any) -> Any:
        asked.append(split)
        return rank_held_out(model, log, split, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(perturbed, "rank_held_out", rank)
    for split in ("val", "test"):
        found = seqrec_cli.run("audit", [f"ckpt={run}", f"split={split}", "endings=[]", "drift=1"])
        assert "same_endings" not in found["findings"]
        assert f"training and {split} popularity" in found["findings"]["shift"]["found"]
    assert set(asked) == {"val"}
    assert not (tmp_path / "data" / LEDGER).exists()


@pytest.mark.parametrize("words", [[], ["dataset=synthetic", "ckpt=runs/first"]])
def test_neither_or_both_of_dataset_and_run_are_refused(words: list[str]) -> None:
    with pytest.raises(SeqrecError, match=r"dataset=NAME, or a run, ckpt=FOLDER"):
        seqrec_cli.run("audit", words)


def test_a_long_log_is_sampled_where_order_is_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=synthetic", *TINY, f"data_dir={tmp_path / 'data'}", "events=200"]
    found = seqrec_cli.run("audit", words)
    assert 0 < found["sampled_users"] < found["users"] == 80
    assert f"{found['sampled_users']} of 80 users" in capsys.readouterr().out
