"""A loaded run answers as its verbs do, for many users at a time."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import seqrec_cli
from seqrec_cli import SeqrecError, Trained
from tests.api.conftest import TINY


def test_users_get_what_the_verb_recommends(sasrec: Trained) -> None:
    found = sasrec.recommend([8, "3"], top=4)
    assert found.columns.tolist() == ["user", "rank", "item", "score"]
    assert found["user"].tolist() == [8] * 4 + [3] * 4
    assert found["rank"].tolist() == [1, 2, 3, 4] * 2
    for user, rows in found.groupby("user"):
        told = seqrec_cli.run("recommend", [f"ckpt={sasrec.path}", f"user={user}", "top=4"])
        assert rows["item"].tolist() == told["items"]
        assert rows["score"].tolist() == pytest.approx(told["scores"], rel=2e-2, abs=2e-2)


def test_histories_get_what_the_verb_recommends(sasrec: Trained) -> None:
    found = sasrec.recommend(histories=[[3, 7], [9]], top=3)
    assert found["row"].tolist() == [0, 0, 0, 1, 1, 1]
    assert (
        found["item"][:3].tolist()
        == seqrec_cli.run("recommend", [f"ckpt={sasrec.path}", "history=[3,7]", "top=3"])["items"]
    )
    assert not {3, 7} & set(sasrec.recommend(histories=[3, 7], top=99)["item"])
    assert {3, 7} < set(sasrec.recommend(histories=[3, 7], top=99, repeats=True)["item"])


def test_everybody_is_asked_in_batches(sasrec: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    score_corpus = type(sasrec.model).score_corpus

    def counted(model: Any, batch: Any) -> torch.Tensor:
        rows.append(len(batch))
        return score_corpus(model, batch)

    sasrec.recommend(3)  # what a model reads is found out once
    monkeypatch.setattr(type(sasrec.model), "score_corpus", counted)
    found = sasrec.recommend(top=1)
    assert found["user"].tolist() == sasrec.users.tolist()
    assert rows == [len(sasrec.users)]


def test_titles_stand_beside_the_items(sasrec: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sasrec._recommending, "titles", [f"Item {item}" for item in sasrec.items])
    found = sasrec.recommend(3, top=3)
    assert found.columns.tolist() == ["user", "rank", "item", "title", "score"]
    assert found["title"].tolist() == [f"Item {item}" for item in found["item"]]


def test_ids_come_in_any_form(sasrec: Trained) -> None:
    polars = pytest.importorskip("polars", reason="the development extras bring polars")
    expected = sasrec.recommend([3, 8], top=2)
    events = pd.DataFrame({"user": [3, 8, 3], "item": [1, 1, 2]})
    for users in (np.array([3, 8]), pd.Series([3, 8]), events, polars.DataFrame(events.to_dict("list")), ("3", "8")):
        pd.testing.assert_frame_equal(sasrec.recommend(users, top=2), expected)
    pd.testing.assert_frame_equal(sasrec.recommend(3, top=2), expected[:2])


def test_histories_come_in_any_form(sasrec: Trained) -> None:
    polars = pytest.importorskip("polars", reason="the development extras bring polars")
    expected = sasrec.recommend([8, 3], histories=[[9], [5, 7]], top=2)
    assert expected["user"].tolist() == [8, 8, 3, 3]
    times = pd.to_datetime(["2020-01-02", "2020-01-04", "2020-01-03"])
    events = pd.DataFrame({"user": [8, 3, 3], "item": [9, 7, 5], "time": times})  # 5 came before 7
    seconds = events.assign(time=events["time"].astype("datetime64[s]").astype("int64"))
    lazy = polars.LazyFrame(seconds.to_dict("list"))
    for histories in ({8: [9], 3: [5, 7]}, events, seconds, lazy, lazy.collect(), lazy.collect().to_arrow()):
        pd.testing.assert_frame_equal(sasrec.recommend(histories=histories, top=2), expected)


def test_scores_are_the_ones_that_recommendations_are_made_of(sasrec: Trained) -> None:
    everything = sasrec.score([3, 8])
    assert everything.shape == (2, len(sasrec.items))
    assert (everything.index.name, everything.columns.name) == ("user", "item")
    some = sasrec.score([3, 8], items=[9, 2])
    np.testing.assert_allclose(some, everything[[9, 2]], rtol=1e-5, atol=1e-6)
    best = sasrec.recommend([3, 8], top=1, repeats=True)
    np.testing.assert_array_equal(best["item"], everything.idxmax(axis=1))
    np.testing.assert_allclose(best["score"], everything.max(axis=1), rtol=1e-5)
    assert sasrec.score(histories=[[4]]).index.name == "row"
    assert sasrec.score(3, items=pd.DataFrame({"item": [4, 5, 4]})).columns.tolist() == [4, 5]


def test_vectors_multiply_to_the_scores(sasrec: Trained) -> None:
    queries_RD, items_VD, bias_V = sasrec.encode([3, 8]), sasrec.item_vectors(), sasrec.item_bias()
    items_VD[0] += 1  # a copy
    items_VD = sasrec.item_vectors()
    assert (queries_RD.dtype, queries_RD.shape, items_VD.shape) == (np.float32, (2, 8), (len(sasrec.items), 8))
    products = queries_RD @ items_VD.T + (0 if bias_V is None else bias_V)
    np.testing.assert_allclose(products, sasrec.score([3, 8]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sasrec.encode()[sasrec.users.tolist().index(8)], queries_RD[1], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("name", ["sasrec", "din"])
def test_metrics_are_the_run_s_bit_by_bit(name: str, split: Any, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    measured = run.evaluate(split)
    assert measured == run.metrics[split]
    ranks = run.ranks(split)
    assert set(ranks["user"]) <= set(run.users.tolist())
    assert set(ranks["item"]) <= set(run.items.tolist())
    assert float((1 / ranks["rank"]).mean()) == measured["mrr"]


def test_the_protocol_is_that_of_its_numbers(sasrec: Trained) -> None:
    assert sasrec.protocol == sasrec.metrics["protocol"]


def test_the_heaviest_events_of_a_user_are_those_of_the_verb(din: Trained, tmp_path: Path) -> None:
    told = seqrec_cli.run("explain", [f"ckpt={din.path}", "user=3", "top=2", "events=3", f"out={tmp_path / 'x.png'}"])
    found = din.explain(3, top=2, events=3)
    assert found.columns.tolist() == ["item", "score", "event", "time", "weight"]
    assert list(map(str, found["item"].unique())) == [each["item"] for each in told["items"]]
    first = found[found["item"] == found["item"][0]]
    assert list(map(str, first["event"])) == told["items"][0]["events"]
    assert first["time"].tolist() == [datetime.fromtimestamp(at, UTC) for at in told["items"][0]["times"]]
    assert first["weight"].tolist() == pytest.approx(told["items"][0]["weights"], rel=1e-4)
    alone = din.explain(3, item=7)
    assert (set(alone["item"]), len(alone)) == ({7}, min(8, (din.ranks("test")["history"][2] + 1)))


def test_an_encoder_s_events_are_weighed_by_leaving_them_out(sasrec: Trained) -> None:
    found = sasrec.explain(history=[3, 7, 5], item=9, order="time")
    assert found["event"].tolist() == [3, 7, 5]
    assert found.attrs == {"method": "leave_one_out", "scale": "raw"}
    assert found.columns.tolist() == ["item", "score", "event", "weight"]
    exact = seqrec_cli.load(sasrec.path, device="cpu", precision="fp32")  # in which events are weighed
    whole, without = (float(exact.score(histories=[ids], items=[9]).iloc[0, 0]) for ids in ([3, 7, 5], [3, 5]))
    assert found["weight"][1] == pytest.approx(whole - without, abs=1e-4)
    assert found["score"][0] == pytest.approx(whole, abs=1e-4)
    along = sasrec.explain(3, item=9, method="integrated_gradients", events=2)
    assert along.attrs["method"] == "integrated_gradients"
    assert len(along) == 2


@pytest.mark.parametrize(
    ("name", "ask", "says"),
    [
        (
            "sasrec",
            lambda run: run.recommend([3, 999, 998]),
            r"^user=999: the data have no such user .*\(and 1 more\)$",
        ),
        ("sasrec", lambda run: run.recommend([]), "^users: none is given$"),
        ("sasrec", lambda run: run.recommend(histories=[]), "^histories: none is given$"),
        ("sasrec", lambda run: run.recommend(histories=[[3], ["x"]]), "^history 1: no item of the history is in the"),
        ("sasrec", lambda run: run.recommend(histories=[[3], 4]), "^histories: give a list for each"),
        ("sasrec", lambda run: run.recommend([1, 2], histories=[[3]]), "^users: 2 for 1 histories; give one for each$"),
        ("sasrec", lambda run: run.recommend(3, times=[1]), "^times goes with histories"),
        ("sasrec", lambda run: run.recommend(3, top=0), "^top=0: ask for one item or more$"),
        ("sasrec", lambda run: run.score(3, items=[1, 999]), "^item=999: the data have no such item"),
        ("sasrec", lambda run: run.recommend(pd.DataFrame({"usr": [3]})), r"^frame has no column 'user'; did you mean"),
        ("sasrec", lambda run: run.evaluate("train"), "^split=train: have val and test$"),
        (
            "sasrec",
            lambda run: run.explain(3, method="attention"),
            "^model=sasrec has no attention over a history's events to show",
        ),
        ("sasrec", lambda run: run.explain(), "^neither a user nor a history"),
        ("din", lambda run: run.encode(3), "^model=din makes no vector of a history"),
        ("din", lambda run: run.item_vectors(), "^model=din makes no vector of a history"),
        ("din", lambda run: run.explain(3, method="atention"), "^method=atention: expected one of auto, .*'attention'"),
        ("din", lambda run: run.explain(3, order="size"), "^order=size: expected one of weight, time"),
        ("sasrec", lambda run: run.recommend_frame([1, 2]), "^recommend_frame: a list is no frame"),
        ("din", lambda run: run.explain("nobody"), "^user=nobody: the data have no such user"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    name: str, ask: Any, says: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(SeqrecError, match=says) as refusal:
        ask(request.getfixturevalue(name))
    assert "\n" not in str(refusal.value)


def test_unknown_items_are_left_out_with_a_warning(sasrec: Trained) -> None:
    with pytest.warns(UserWarning, match=r"^items that the data do not have are left out: nothing$") as warned:
        found = sasrec.recommend(histories=[[3, "nothing", 7]], top=3)
    assert warned[0].filename == __file__
    pd.testing.assert_frame_equal(found, sasrec.recommend(histories=[[3, 7]], top=3))


def test_a_run_folder_a_checkpoint_and_a_seed_are_loaded(base: Path, sasrec: Trained) -> None:
    assert seqrec_cli.load(f"{sasrec.path}").metrics == sasrec.metrics
    last = seqrec_cli.load(sasrec.path / "last.pt", device="cpu", precision="fp32", threads=1)
    assert (last.path, next(last.model.parameters()).dtype) == (sasrec.path, torch.float32)
    parent = base / "seeds"
    best = seqrec_cli.train(
        {**TINY, "trainer.seeds": 2, "trainer.seed": 4, "data_dir": base / "data"}, run_dir=parent, verbose=False
    )
    monitor = best.protocol["chosen_by"]
    both = {seed: seqrec_cli.load(parent, seed=seed) for seed in (4, 5)}
    assert {run.config["trainer"]["seed"] for run in both.values()} == {4, 5}
    assert best.path == max(both.values(), key=lambda run: run.metrics["val"][monitor]).path
    with pytest.raises(SeqrecError, match=r"^seed=7: .* holds seeds 4 to 5$"):
        seqrec_cli.load(parent, seed=7)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "no such run folder or checkpoint file"),
        ({"seed": 3}, "is no folder of several seeds"),
    ],
)
def test_what_is_no_run_is_refused(told: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=says):
        seqrec_cli.load(tmp_path / "nothing", **told)


def test_a_wrong_device_is_refused(sasrec: Trained) -> None:
    with pytest.raises(SeqrecError, match=r"hardware\.device=tpu"):
        seqrec_cli.load(sasrec.path, device="tpu")


def test_an_ensemble_is_a_run_too(base: Path, sasrec: Trained) -> None:
    seqrec_cli.run("ensemble", [f"ckpts=[{sasrec.path},{sasrec.path}]", f"run_dir={base / 'both'}"])
    both = seqrec_cli.load(base / "both")
    assert repr(both) == f"Trained(ensemble on synthetic, 60 users, {len(both.items)} items, {base / 'both'})"
    np.testing.assert_array_equal(both.recommend([3], top=5)["item"], sasrec.recommend([3], top=5)["item"])


def test_answers_leave_torch_as_it_was(sasrec: Trained) -> None:
    before, drawn = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        sasrec.evaluate("val")
        sasrec.recommend(3)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), drawn)
    finally:
        torch.set_num_threads(before)


def test_items_that_explain_leaves_out_are_a_warning(sasrec: Trained) -> None:
    with pytest.warns(UserWarning, match="left out, for the data do not have them: 9999"):
        found = sasrec.explain(history=[3, 9999, 5], item=9)
    assert set(found["event"].astype(str)) == {"3", "5"}
