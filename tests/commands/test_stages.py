"""`retriever=RUN ranker=RUN`: two runs evaluated, asked and served as one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqrec_cli
from seqrec_cli import cli
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import AS_TRAINED, Restored, restore
from seqrec_cli.commands.stages import TwoRuns, two_runs
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.splits import held_out

TINY = [
    "dataset=synthetic",
    "dataset.users=80",
    "dataset.items=60",
    "dataset.max_events=14",
    "trainer.max_epochs=1",
    "trainer.batch_size=16",
    "evaluation.baselines=false",
    "evaluation.test=none",
    "hardware.device=cpu",
    "hardware.precision=fp32",
    "model.embed_dim=8",
]
RETRIEVED = 7
ITEMS = 60


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


def trained(base: Path, name: str, *words: str) -> str:
    if not (base / name).exists():
        folders = [f"data_dir={base / 'data'}", f"run_dir={base / name}"]
        seqrec_cli.run("train", [*TINY, *words, *folders])
    return str(base / name)


@pytest.fixture(scope="module")
def runs(base: Path) -> tuple[str, str]:
    """An encoder of ten events, and a click model of six that reads when they happened."""
    return (
        trained(base, "sasrec", "model=sasrec", "model.max_length=10"),
        trained(base, "bst", "model=bst", "model.max_length=6"),
    )


def both(runs: tuple[str, str], *more: str) -> list[str]:
    return [f"retriever={runs[0]}", f"ranker={runs[1]}", *more]


def restored(runs: tuple[str, str]) -> list[Restored]:
    return [restore(run, None, None, hardware=AS_TRAINED) for run in runs]


def scores_of(run: Restored, row: int, end: int, *, asked_at: int) -> np.ndarray:
    """What a run's own model says of every item to a user before the position `end`, by a row made by hand."""
    log, start = run.log, max(int(run.log.offsets_U1[row]), end - run.cfg.model.max_length)
    assert log.times_N is not None
    batch = Batch(
        users_B=torch.tensor([row + 1]),
        items_BL=torch.from_numpy(np.asarray(log.items_N[start:end], np.int64))[None],
        lengths_B=torch.tensor([end - start]),
        times_BL=torch.from_numpy(np.asarray(log.times_N[start:end], np.int64))[None],
        request_times_B=torch.tensor([asked_at]),
    )
    with torch.inference_mode():
        return run.model.eval().score_corpus(batch)[0].double().numpy()


def reference(runs: tuple[str, str], retrieved: int) -> dict[str, float]:
    """Validation metrics of the system, item by item: unseen ones by the retriever, its best by the ranker."""
    retriever, ranker = restored(runs)
    log = retriever.log
    assert log.times_N is not None
    targets = held_out(log, "val")
    ranks, found = [], 0
    for row, end in zip(targets.rows_R.tolist(), targets.ends_R.tolist(), strict=True):
        target = int(log.items_N[end])
        seen = set(np.asarray(log.items_N[int(log.offsets_U1[row]) : end]).tolist())
        asked_at = int(log.times_N[end])
        first, second = (scores_of(run, row, end, asked_at=asked_at) for run in (retriever, ranker))
        order = sorted(set(range(1, ITEMS + 1)) - seen, key=lambda item: -first[item])
        order = sorted(order[:retrieved], key=lambda item: -second[item]) + order[retrieved:]
        ranks.append(1 + order.index(target))
        found += ranks[-1] <= retrieved
    at = np.array(ranks)
    return {
        "hr@5": float((at <= 5).mean()),
        "ndcg@5": float(np.where(at <= 5, 1 / np.log2(1 + at), 0).mean()),
        "mrr": float((1 / at).mean()),
        "recall": found / len(at),
    }


@pytest.mark.parametrize("retrieved", [RETRIEVED, 25])
def test_metrics_are_those_of_the_composite_made_by_hand(runs: tuple[str, str], retrieved: int) -> None:
    found = seqrec_cli.run("evaluate", both(runs, f"retrieved={retrieved}", "split=val"))
    by_hand = reference(runs, retrieved)
    assert {name: found["val"][name] for name in ("hr@5", "ndcg@5", "mrr")} == pytest.approx(
        {name: by_hand[name] for name in ("hr@5", "ndcg@5", "mrr")}
    )
    assert found["stages"]["recall"] == pytest.approx(by_hand["recall"])
    assert 0 < found["stages"]["recall"] < 1


def test_each_stage_alone_is_what_its_run_says(
    runs: tuple[str, str], base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = seqrec_cli.run(
        "evaluate", both(runs, f"retrieved={RETRIEVED}", "split=val", "ranker_alone=true", f"run_dir={base / 'both'}")
    )
    for stage, run in zip(("retriever", "ranker"), runs, strict=True):
        alone = seqrec_cli.run("evaluate", [f"ckpt={run}", "split=val"])["val"]
        alone.pop("loss")
        assert found["stages"][f"{stage}_metrics"] == alone
    assert "ranker_metrics" not in seqrec_cli.run("evaluate", both(runs, "split=val"))["stages"]
    # Click candidates are given, not retrieved: the ranker's own scores of them.
    assert found["val"]["auc"] == pytest.approx(found["stages"]["ranker_metrics"]["auc"])
    assert found["protocol"]["max_length"] == 10
    printed = capsys.readouterr().out
    assert "sasrec alone" in printed
    assert "bst alone" in printed
    assert f"{found['stages']['recall']:.1%} of the targets are among the 7 best of the retriever" in " ".join(
        printed.split()
    )
    written = json.loads((base / "both" / "manifest.json").read_text())
    assert written == {"retriever": runs[0], "ranker": runs[1], "retrieved": RETRIEVED}
    assert json.loads((base / "both" / "metrics.json").read_text())["stages"] == found["stages"]


def test_the_leaderboard_and_comparisons_take_what_was_written(runs: tuple[str, str], base: Path) -> None:
    board = base / "board"
    seqrec_cli.run("evaluate", both(runs, "split=val", "retrieved=9", f"run_dir={board / 'pair'}"))
    seqrec_cli.run("evaluate", [f"ckpt={runs[0]}", "split=val", f"run_dir={board / 'one'}"])
    found = seqrec_cli.run("leaderboard", [f"folder={board}", "split=val"])
    assert {row["model"] for group in found["groups"] for row in group["runs"]} == {"two_stage", "sasrec"}
    runs_told = f"runs=[{board / 'pair'},{board / 'one'}]"
    compared = seqrec_cli.run("compare", [runs_told, "split=val", "metrics=[mrr]", "segments=history:2"])
    assert [row["run"] for row in compared["runs"]] == ["pair", "one"]
    table = seqrec_cli.runs(board)
    assert set(table["state"]) == {"evaluation"}


def test_a_shortlist_as_long_as_the_corpus_is_the_ranker_alone(runs: tuple[str, str]) -> None:
    whole = seqrec_cli.run("evaluate", both(runs, f"retrieved={ITEMS}", "split=val", "ranker_alone=true"))
    assert whole["val"] == pytest.approx(whole["stages"]["ranker_metrics"])
    assert whole["stages"]["recall"] == 1
    default = seqrec_cli.run("evaluate", both(runs, "split=val"))  # 500, which are more than there are
    assert default["stages"]["retrieved"] == 500
    assert default["val"] == whole["val"]


def test_to_read_test_is_one_opening_that_both_runs_are_told_of(runs: tuple[str, str]) -> None:
    before = seqrec_cli.run("evaluate", both(runs, "retrieved=5"))["test_opened"]
    found = seqrec_cli.run("evaluate", both(runs, "retrieved=6", "ranker_alone=true"))
    assert found["test_opened"] == before + 1
    openings = [json.loads((Path(run) / "manifest.json").read_text())["test_openings"][-1] for run in runs]
    assert openings[0]["opening"] == openings[1]["opening"]
    assert seqrec_cli.run("evaluate", both(runs, "split=val")).get("test_opened") is None


@pytest.fixture(scope="module")
def system(runs: tuple[str, str]) -> TwoRuns:
    return two_runs(*restored(runs), RETRIEVED)


def of_user(system: TwoRuns, raw: Any) -> list[int]:
    """The unseen items in the composite's order, for a user's whole history, by hand."""
    retriever, ranker = system.retriever, system.ranker
    log, row = retriever.log, recommending_of(system)._rows[str(raw)]
    end = int(log.offsets_U1[row + 1])
    seen = set(np.asarray(log.items_N[int(log.offsets_U1[row]) : end]).tolist())
    assert log.times_N is not None

    first, second = (scores_of(run, row, end, asked_at=int(log.times_N[end - 1])) for run in (retriever, ranker))
    order = sorted(set(range(1, ITEMS + 1)) - seen, key=lambda item: -first[item])
    return sorted(order[:RETRIEVED], key=lambda item: -second[item]) + order[RETRIEVED:]


def test_recommend_answers_with_the_composite(runs: tuple[str, str], system: TwoRuns) -> None:
    recommending = recommending_of(system)
    for user in (3, 11, 40):
        found = seqrec_cli.run("recommend", both(runs, f"user={user}", "top=12", f"retrieved={RETRIEVED}"))
        expected = [recommending.items[item - 1] for item in of_user(system, user)[:12]]
        assert found["items"] == expected  # five more than were retrieved: these as the retriever has them
        few = seqrec_cli.run("recommend", both(runs, f"user={user}", "top=3", f"retrieved={RETRIEVED}"))
        assert few["items"] == expected[:3]
    one = seqrec_cli.run("recommend", both(runs, "user=3", "top=3", "retrieved=1"))
    assert one["items"][0] == recommending.items[first_retrieved(system, 3) - 1]


def first_retrieved(system: TwoRuns, raw: Any) -> int:
    """The retriever's best unseen item."""
    found = recommending_of(system.retriever).logged([raw])
    _, items_K, _ = recommending_of(system.retriever).best(found, 1, repeats=None, rows_at_once=1)
    return int(items_K[0])


def test_left_out_items_take_no_place_of_the_shortlist(system: TwoRuns) -> None:
    """Somebody for whom the retriever's best are no answer still has as many items from the ranker as anybody."""
    recommending = recommending_of(system)
    expected = of_user(system, 3)
    best = sorted(expected[:RETRIEVED])
    recommending.left_out = torch.tensor(best)
    asked = recommending.logged([3])
    _, items_K, scores_K = recommending.best(asked, RETRIEVED, repeats=None, rows_at_once=1)
    assert sorted(items_K.tolist()) == sorted(expected[RETRIEVED : 2 * RETRIEVED])
    ranked = recommending_of(system.ranker).score(asked, items_K, rows_at_once=1)[0]
    assert scores_K == pytest.approx(ranked)
    recommending.left_out = None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dataset.seed=5"], "differ in the raw file's bytes, or a setting of the dataset"),
        (["dataset.user_core=3"], r"differ in filters\.user_core \(0 against 3\)"),
        (["dataset.time_context=[hour]"], r"differ in time_context \(\[\] against \[hour\]\)"),
        (["protocol.click_negatives=7"], r"differ in settings\.click_negatives \(100 against 7\)"),
        (["protocol=last"], r"differ in name \(leave_last against last\)"),
    ],
)
def test_runs_of_other_data_or_another_protocol_are_refused(
    runs: tuple[str, str], base: Path, words: list[str], says: str
) -> None:
    other = trained(base, "_".join(words).replace("=", "_"), "model=din", "model.max_length=6", *words)
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.run("evaluate", both((runs[0], other), "split=val"))


@pytest.mark.parametrize(
    ("verb", "words", "says"),
    [
        ("evaluate", [], "ckpt is missing: give it as ckpt=VALUE (a run folder or a checkpoint file), or two as"),
        ("evaluate", ["retriever=a"], "retriever=a: two stages are a retriever and a ranker; give ranker=VALUE too"),
        ("serve", ["ranker=a"], "ranker=a: two stages are a retriever and a ranker; give retriever=VALUE too"),
        ("recommend", ["ckpt=a", "retriever=b"], "ckpt=a and retriever=b: one run answers, or a retriever and a"),
        ("recommend", ["ckpt=a", "retrieved=5"], "retrieved=5: ckpt=a answers alone"),
        ("evaluate", ["ckpt=a", "ranker_alone=true"], "ranker_alone=true goes with retriever=RUN and ranker=RUN"),
        ("evaluate", ["retriever=a", "ranker=b", "candidates=uniform:9"], "candidates=uniform:9: sampled items are"),
        ("evaluate", ["retriever=a", "ranker=b", "retrieved=0"], "retrieved=0: expected integer >= 1"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    verb: str, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([verb, *words]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1


def test_a_protocol_of_sampled_candidates_is_refused_unless_the_corpus_is_asked_for(base: Path) -> None:
    words = ["model=sasrec", "model.max_length=6", "protocol.candidates=uniform:9"]
    run = trained(base, "sampled", *words)
    with pytest.raises(SeqrecError, match=r"the runs' protocol has uniform:9.*give candidates=full"):
        seqrec_cli.run("evaluate", both((run, run), "split=val", "retrieved=5"))
    found = seqrec_cli.run("evaluate", both((run, run), "split=val", "retrieved=5", "candidates=full"))
    assert found["val"]["mrr"] == pytest.approx(found["stages"]["retriever_metrics"]["mrr"])  # one order, cut or not
