"""Items that are added, changed and removed while a service runs, against scores worked out by hand."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seqrec_cli.data.interactions import PackedLog

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.changing import Biased, Changing, Tied, table_of, vector
from tests.serving.test_recommending import Encoder


def test_an_added_item_is_recommended_scored_like_others_and_read(changing: Changing) -> None:
    table, added = table_of(changing), torch.tensor(vector())
    before = changing.best(user_history=[105, 106], top_k=30, repeats=True)
    answer = changing.put("new", vector=vector())
    assert answer == {"item_id": "new", "status": "added", "by": "vector", "quality": None}
    user = changing.answering.loaded.scoring.model.users.weight[0].detach()
    expected = sorted([(100 + v, float((table[7] + user) @ table[v + 1])) for v in range(25)], key=lambda e: -e[1])
    new_score = float((table[7] + user) @ added)
    after = dict(changing.best(user_history=[105, 106], top_k=30, repeats=True))
    assert dict(before) == pytest.approx(dict(expected), rel=1e-4)
    assert after == pytest.approx(dict(expected) | {"new": new_score}, rel=1e-4)
    ((_, scored),) = changing.post("/score", {"user_history": [105, 106], "candidates": ["new", 100, "no"]})
    assert [each["score"] for each in scored["scores"]] == pytest.approx([new_score, after[100]], rel=1e-4)
    assert scored["unknown_candidates"] == ["no"]
    units = torch.nn.functional.normalize(table, dim=1) @ torch.nn.functional.normalize(added, dim=0)
    ((_, alike),) = changing.post("/similar", {"item": "new", "top_k": 3})
    best = units[1:].topk(3)
    assert [each["item_id"] for each in alike["similar"]] == [100 + v for v in best.indices.tolist()]
    assert [each["score"] for each in alike["similar"]] == pytest.approx(best.values.tolist(), rel=1e-4)
    # Read from a history by the same vector, and seen: it does not come back.
    ((_, answer),) = changing.post("/recommend", {"user_history": [105, "new"], "top_k": 30, "repeats": False})
    assert (answer["num_input_items"], answer["unknown_items"]) == (2, [])
    scores = {each["item_id"]: each["score"] for each in answer["recommendations"]}
    assert not {105, "new"} & scores.keys()
    assert scores[100] == pytest.approx(float((added + user) @ table[1]), rel=1e-4)
    assert changing.item("GET", "new")[1]["vector"] == pytest.approx(vector(), rel=1e-6)


def test_what_is_removed_is_never_recommended_and_still_read(changing: Changing, saved_log: PackedLog) -> None:
    (first, _), *_ = changing.best(user_history=[105], top_k=5)
    assert changing.item("DELETE", str(first)) == (200, {"item_id": first, "status": "removed"})
    changing.put("new", vector=vector())
    assert changing.item("DELETE", "new")[0] == 200
    for body in ({"user_history": [105]}, {"user_history": [first]}, {"user": 3}, {"user_history": []}, {"user": "x"}):
        for repeats in (True, False):
            found = changing.best(**body, top_k=100, repeats=repeats)
            assert not {first, "new"} & {item for item, _ in found}
            assert repeats is False or len(found) == 24
    ((_, answer),) = changing.post("/recommend", {"user_history": [first, "new"]})
    assert answer["num_input_items"] == 2
    ((_, scored),) = changing.post("/score", {"user": 3, "candidates": [first, "new", 100]})
    assert scored["unknown_candidates"] == [first, "new"]
    for path in (str(first), "new", "never"):
        assert changing.item("GET", path) == (404, {"detail": f"there is no item {path}"})
        assert changing.item("DELETE", path)[0] == 404
        assert changing.post("/similar", {"item": path})[0][0] == 422
    ((_, alike),) = changing.post("/similar", {"item": 105, "top_k": 100})
    assert len(alike["similar"]) == 23
    assert changing.put(first, trained=True)["status"] == "trained"
    assert changing.best(user_history=[105], top_k=5)[0][0] == first


def test_a_changed_item_has_its_new_vector_everywhere_and_stays_seen(changing: Changing, saved_log: PackedLog) -> None:
    row = 3
    history = saved_log.items_N[saved_log.offsets_U1[row] : saved_log.offsets_U1[row + 1]].tolist()
    last = 99 + history[-1]
    assert changing.put(last, vector=vector(5))["status"] == "changed"
    table, user = table_of(changing), changing.answering.loaded.scoring.model.users.weight[row + 1].detach()
    state = torch.tensor(vector(5)) + user  # the model reads the new one of the logged history, too
    expected = {100 + v: float(state @ table[v + 1]) for v in range(25)} | {
        last: float(state @ torch.tensor(vector(5)))
    }
    assert dict(changing.best(user=row, top_k=100, repeats=True)) == pytest.approx(expected, rel=1e-4)
    unseen = {item: score for item, score in expected.items() if item - 99 not in history}
    assert dict(changing.best(user=row, top_k=100, repeats=False)) == pytest.approx(unseen, rel=1e-4)
    told = changing.best(user_history=[99 + item for item in history], top_k=100, repeats=False)
    assert {item for item, _ in told} == unseen.keys()
    changing.put(last, trained=True)
    assert dict(changing.best(user=row, top_k=100, repeats=True))[last] != pytest.approx(expected[last], rel=1e-4)


def test_where_input_and_output_differ_an_added_item_is_not_read_but_seen(
    saved_log: PackedLog, tmp_path: Path, made: Callable[..., Changing]
) -> None:
    changing = made(saved_log, tmp_path / "state", Biased)
    changing.put("new", vector=vector(0, 50.0), bias=9.0)
    model = changing.answering.loaded.scoring.model
    ((_, answer),) = changing.post("/recommend", {"user_history": [105, "new"], "top_k": 30, "repeats": False})
    assert (answer["num_input_items"], answer["unknown_items"]) == (1, ["new"])
    assert "new" not in {each["item_id"] for each in answer["recommendations"]}
    after = dict(changing.best(user_history=[105], top_k=30, repeats=True))
    state = (model.items.weight[6] + model.users.weight[0]).detach()
    assert after["new"] == pytest.approx(float(state @ torch.tensor(vector(0, 50.0))) + 9, rel=1e-4)
    changing.put(105, vector=vector(2))  # the mean bias
    state = (model.items.weight[6] + model.users.weight[0]).detach()  # which is read as before
    score = dict(changing.best(user_history=[105], top_k=30, repeats=True))[105]
    assert score == pytest.approx(float(state @ torch.tensor(vector(2))) + float(model.bias_V[1:].mean()), rel=1e-4)
    assert 105 not in dict(changing.best(user_history=[105], top_k=30, repeats=False))
    row = next(u for u in range(30) if 6 in saved_log.items_N[saved_log.offsets_U1[u] : saved_log.offsets_U1[u + 1]])
    assert 105 not in dict(changing.best(user=row, top_k=30, repeats=False))


def test_like_items_give_their_mean_at_their_length(changing: Changing) -> None:
    table = table_of(changing)
    changing.put("new", like=[100, "101", 104])
    mean, length = table[[1, 2, 5]].mean(0), table[[1, 2, 5]].norm(dim=1).mean()
    expected = (mean / mean.norm() * length).tolist()
    assert changing.item("GET", "new")[1]["vector"] == pytest.approx(expected, rel=1e-5)
    changing.put("newer", like=["new"])
    assert changing.item("GET", "newer")[1]["vector"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [Tied, Biased])
@pytest.mark.parametrize("index", ["flat", "ivf"])
def test_faiss_finds_what_all_scores_say(
    tmp_path: Path, made: Callable[..., Changing], kind: type[Encoder], index: str
) -> None:
    pytest.importorskip("faiss", reason="the development extras bring it")
    log = _many_items(tmp_path)
    exact = made(log, tmp_path / "state", kind)
    found = made(log, tmp_path / "state", kind, index=index)
    draw, agree, asked = random.Random(0), 0, 0
    for step in range(60):
        item = draw.choice([draw.randrange(100, 500), f"new{draw.randrange(15)}"])
        if step % 3 == 2:
            exact.item("DELETE", str(item))
        else:
            exact.put(item, vector=vector(step))
        top = 5 + draw.randrange(20)
        body = {"user_history": [*draw.choices(range(100, 500), k=4), f"new{draw.randrange(15)}"], "top_k": top}
        body["repeats"] = draw.choice([True, False])
        by_all, by_index = exact.best(**body), found.best(**body)
        if index == "flat":
            assert [each for each, _ in by_index] == [each for each, _ in by_all]
            assert [s for _, s in by_index] == pytest.approx([s for _, s in by_all], rel=1e-4, abs=1e-4)
        assert len(by_index) == top
        agree += len({each for each, _ in by_all} & {each for each, _ in by_index})
        asked += top
    assert agree > (0.75 if index == "ivf" else 0.999) * asked
    there = {str(each) for each, _ in exact.best(user_history=[100], top_k=100, repeats=True)}
    assert all(exact.item("GET", each)[0] == 200 for each in there)


def _many_items(tmp_path: Path) -> PackedLog:
    from seqrec_cli.data.catalog import Catalog
    from seqrec_cli.data.vocabulary import write_vocabulary

    rng = np.random.default_rng(0)
    offsets_U1 = np.arange(0, 2001, 20)
    log = PackedLog(
        offsets_U1, rng.integers(1, 401, 2000).astype(np.int32), None, None, Catalog(100, 400), {"fingerprint": "many"}
    )
    folder = tmp_path / "many"
    folder.mkdir()
    log.save(folder)
    write_vocabulary(folder, "items", np.arange(100, 500))
    write_vocabulary(folder, "users", np.arange(100))
    return replace(log, folder=folder)
