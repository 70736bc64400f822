"""Items that are added, changed and removed while a service runs, against scores worked out by hand."""

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_cold_start import planted
from tests.serving.test_recommending import CPU, WINDOW, Clock, Encoder

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.serving.catalogue import Catalogue
from seqrec_cli.serving.item_scoring import ItemVectorsAt, ScoringAt
from seqrec_cli.serving.item_search import Search
from seqrec_cli.serving.item_start import open_items
from seqrec_cli.serving.service import Loaded
from tests.serving.served import LIMITS, Served

D = 6
BIG = replace(LIMITS, most_bytes=100_000)


class Tied(Encoder):
    """Reads histories by the table that it scores by."""

    @property
    def reads_what_it_scores(self) -> bool:
        return True

    def use_item_table(self, table_RD: torch.Tensor) -> None:
        self.items.weight = torch.nn.Parameter(table_RD.clone(), requires_grad=False)


class Biased(Encoder):
    """With a bias an item, and an input that is not the output."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log)
        self.bias_V = torch.nn.Parameter(torch.linspace(0, 2, log.num_items + 1))
        self.output = torch.nn.Embedding(log.num_items + 1, D)

    def item_table(self) -> torch.Tensor:
        return self.output.weight

    def item_bias(self) -> torch.Tensor:
        return self.bias_V


class Changing(Served):
    """A service of one process whose items change; another of the same folder is another process to it."""

    def __init__(
        self,
        log: PackedLog,
        folder: Path,
        kind: type[Encoder] = Tied,
        *,
        index: str = "none",
        most: int = 20,
        **more: Any,
    ) -> None:
        recommending = Recommending(kind(log), log, name="mine", max_length=WINDOW, precision=CPU)
        super().__init__(recommending, limits=BIG, **more)
        self.load(recommending, folder, index, most)

    def load(self, recommending: Recommending, folder: Path, index: str = "none", most: int = 20) -> None:
        items = open_items(recommending, str(folder), dataset="toy", item_vectors=None, most=most)
        search = None if index == "none" else Search(index, items.now().state)  # type: ignore[arg-type]
        facts = {"model": "mine", "model_version": "epoch_1"}
        scoring = ScoringAt(recommending, search)
        self.answering.loaded = Loaded(scoring, ItemVectorsAt(recommending), facts, Catalogue(recommending), items)

    def item(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = b"" if body is None else body
        status, _, text = asyncio.run(self.ask(method, f"/items/{path}", sent, headers))
        return status, json.loads(text)

    def put(self, path: Any, **body: Any) -> Any:
        status, answer = self.item("PUT", str(path), body)
        assert status == 200, answer
        return answer

    def best(self, **body: Any) -> list[tuple[Any, float]]:
        ((status, answer),) = self.post("/recommend", body)
        assert status == 200, answer
        return [(each["item_id"], each["score"]) for each in answer["recommendations"]]


@pytest.fixture
def changing(saved_log: PackedLog, tmp_path: Path) -> Iterator[Changing]:
    found = Changing(saved_log, tmp_path / "state")
    yield found
    found.batcher.close()


@pytest.fixture
def made() -> Iterator[Callable[..., Changing]]:
    all_of_them: list[Changing] = []

    def make(*given: Any, **named: Any) -> Changing:
        all_of_them.append(Changing(*given, **named))
        return all_of_them[-1]

    yield make
    for each in all_of_them:
        each.batcher.close()


def table_of(changing: Changing) -> torch.Tensor:
    return Tied(changing.answering.loaded.scoring.recommending.log).items.weight.detach()


def vector(seed: int = 0, scale: float = 3.0) -> list[float]:
    return (scale * np.random.default_rng(seed).standard_normal(D)).tolist()


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


def test_other_processes_and_later_ones_have_the_same_items(
    changing: Changing, saved_log: PackedLog, tmp_path: Path, made: Callable[..., Changing]
) -> None:
    other = made(saved_log, tmp_path / "state")
    body = {"user_history": [105, 106], "top_k": 100, "repeats": True}
    for step in range(12):
        one, two = (changing, other) if step % 2 else (other, changing)
        if step % 4 == 3:
            assert one.item("DELETE", str(100 + step))[0] == 200
        else:
            one.put(f"new {step % 5}/x" if step % 3 else 100 + step, vector=vector(step), title="seen by all")
        assert two.best(**body) == one.best(**body)
    later = made(saved_log, tmp_path / "state")
    assert later.best(**body) == changing.best(**body)
    health = json.loads(later.get("/health")[1])
    assert {name: health[name] for name in health if name.startswith("items_")} == {
        "items_added": len(
            {"new 1/x", "new 2/x", "new 3/x", "new 4/x", "new 0/x"} & {i for i, _ in later.best(**body)}
        ),
        "items_changed": 3,
        "items_removed": 3,
        "items_unusable": 0,
    }


def test_a_newer_model_has_the_same_items_by_what_was_told(
    changing: Changing, saved_log: PackedLog, tmp_path: Path
) -> None:
    changing.put("liked", like=[100, 101])
    changing.put("told", vector=vector())
    changing.item("DELETE", "104")
    newer = Tied(saved_log)
    with torch.no_grad():
        newer.items.weight.mul_(2)
    changing.load(Recommending(newer, saved_log, name="mine", max_length=WINDOW, precision=CPU), tmp_path / "state")
    table = newer.items.weight
    mean, length = table[[1, 2]].mean(0), table[[1, 2]].norm(dim=1).mean()
    liked = changing.item("GET", "liked")[1]["vector"]
    assert liked == pytest.approx((mean / mean.norm() * length).tolist(), rel=1e-5)
    assert changing.item("GET", "told")[1]["vector"] == pytest.approx(vector(), rel=1e-6)
    assert changing.item("GET", "104")[0] == 404
    # Wider vectors: those that were told fit no more, and are not recommended.
    wide = Tied(saved_log)
    wide.items, wide.users = torch.nn.Embedding(26, D + 1), torch.nn.Embedding(31, D + 1)
    changing.load(Recommending(wide, saved_log, name="mine", max_length=WINDOW, precision=CPU), tmp_path / "state")
    assert {"liked"} == {i for i, _ in changing.best(user=3, top_k=100, repeats=True)} & {"liked", "told", 104}
    assert json.loads(changing.get("/health")[1])["items_unusable"] == 1


REFUSED = [
    ({}, "give one of vector, attributes, text_vector, like, trained (0 are given)"),
    ({"vector": [1.0] * D, "like": [100]}, "(2 are given)"),
    ({"vector": [1.0]}, "vector: 1 numbers, the model's items have 6"),
    ({"vector": ["a"] * D}, "vector.0: "),
    (b'{"vector": [NaN]}', "invalid JSON"),
    ({"vector": [1e39] * D}, "vector: too large for 32 bits"),
    ({"vector": [1.0] * D, "bias": 1.0}, "bias: the model's items have none"),
    ({"like": [100], "bias": 1.0}, "bias: goes with vector alone"),
    ({"like": []}, "like: List should have at least 1 item"),
    ({"like": [100, "no"]}, "like: there is no item no"),
    ({"like": [100] * 21}, "like: 21 are given, at most 20"),
    ({"attributes": {"genre": "x"}}, "attributes: the data have no item attributes"),
    ({"text_vector": [1.0]}, "text_vector: no text vectors"),
    ({"trained": True}, "item=new: was not trained"),
    ({"trained": False}, "(0 are given)"),
    ({"vectr": []}, "vectr: no such field; did you mean 'vector'"),
    ({"title": "x" * 501, "vector": [1.0] * D}, "title: "),
    (b"[]", "give a JSON object"),
]


def test_what_cannot_be_is_refused_and_changes_nothing(changing: Changing, tmp_path: Path) -> None:
    before = (tmp_path / "state" / "items.jsonl").read_bytes()
    for body, says in REFUSED:
        status, said = changing.item("PUT", "new", body)
        assert (status, says in said["detail"]) == (422, True), (body, said)
    for path in ("x" * 257, "%20", "a%00"):
        status, said = changing.item("PUT", path.replace("%20", " ").replace("%00", "\0"), {"like": [100]})
        assert (status, "printable" in said["detail"]) == (422, True), said
    assert (tmp_path / "state" / "items.jsonl").read_bytes() == before
    for nth in range(20):
        changing.put(f"n{nth}", like=[100])
    status, said = changing.item("PUT", "one more", {"like": [100]})
    assert (status, "20 items are added already (most_added)" in said["detail"]) == (422, True)
    changing.put("n3", like=[101])
    changing.item("DELETE", "n3")
    changing.put("one more", like=[100])


def test_token_limits_and_counters_are_those_of_the_other_routes(
    saved_log: PackedLog, tmp_path: Path, made: Callable[..., Changing]
) -> None:
    changing = made(saved_log, tmp_path / "state", token="secret")
    changing.gate._routes.add("/items/{item:path}")
    for method in ("PUT", "DELETE", "GET"):
        assert changing.item(method, "100", {"like": [101]})[0] == 401
    known = {"authorization": "Bearer secret"}
    assert changing.item("PUT", "new", {"like": [101]}, **known)[0] == 200
    assert changing.item("PUT", "new", {"title": "x" * 200_000}, **known)[0] == 413
    page = changing.get("/metrics", **known)[1]
    assert 'seqrec_requests_total{route="/items/{item:path}",status="401"} 3.0' in page


def test_without_a_state_nothing_changes(saved_log: PackedLog) -> None:
    served = Served(Recommending(Tied(saved_log), saved_log, name="mine", max_length=WINDOW, precision=CPU))
    for method in ("PUT", "DELETE", "GET"):
        status, _, text = asyncio.run(served.ask(method, "/items/100", {"like": [101]}, {}))
        assert (status, b"start it with state=FOLDER" in text) == (422, True)
    served.batcher.close()
    clock = Recommending(Clock(saved_log.catalog), saved_log, name="clock", max_length=WINDOW, precision=CPU)
    with pytest.raises(SeqrecError, match="state: model=clock scores by no inner product"):
        open_items(clock, "x", dataset="toy", item_vectors=None, most=1)


def test_answers_hold_a_change_or_do_not(changing: Changing) -> None:
    """Items move between two places while others ask; each answer is that of one of the two."""
    changing.put("a", vector=vector(0, 9.0))
    body = {"user_history": [105, 106], "top_k": 100, "repeats": True}
    stop, allowed = threading.Event(), []
    for seed in (1, 2):
        changing.put("a", vector=vector(seed, 9.0))
        allowed.append(changing.best(**body))
    answers: list[Any] = []

    async def both() -> None:
        async def change() -> None:
            step = 0
            while len(answers) < 60:
                step += 1
                status, _, text = await changing.ask("PUT", "/items/a", {"vector": vector(1 + step % 2, 9.0)}, {})
                assert status == 200, text
            stop.set()

        async def ask() -> None:
            while not stop.is_set():
                _, _, text = await changing.ask("POST", "/recommend", body, {})
                answers.append([(e["item_id"], e["score"]) for e in json.loads(text)["recommendations"]])

        await asyncio.gather(change(), *(ask() for _ in range(5)))

    asyncio.run(both())
    which = [[_same(answer, one) for one in allowed] for answer in answers]
    assert all(sum(each) == 1 for each in which)
    assert {each.index(True) for each in which} == {0, 1}


def _same(found: list[Any], expected: list[Any]) -> bool:
    return [i for i, _ in found] == [i for i, _ in expected] and [s for _, s in found] == pytest.approx(
        [s for _, s in expected], rel=1e-4
    )


def test_estimates_from_attributes_come_near_what_is_planted(tmp_path: Path, made: Callable[..., Changing]) -> None:
    log = planted(tmp_path / "log")
    changing = made(log, tmp_path / "state", _Planted)
    answer = changing.put("new", attributes={"genre": "crime"})
    assert answer["by"] == "attributes"
    assert answer["quality"]["items"] == 60
    assert answer["quality"]["r2"] > 0.8
    assert 0 <= answer["quality"]["recall10"] <= 1
    table = _Planted(log).items.weight.detach()
    crime = torch.nn.functional.normalize(table[1:][torch.arange(60) % 3 == 1].mean(0), dim=0)
    told = torch.tensor(changing.item("GET", "new")[1]["vector"])
    assert float(torch.nn.functional.normalize(told, dim=0) @ crime) > 0.98
    assert float(told.norm()) == pytest.approx(float(table[1:].norm(dim=1).mean()), rel=0.1)
    status, said = changing.item("PUT", "newer", {"attributes": {"genre": "crme"}})
    assert (status, "did you mean 'crime'" in said["detail"]) == (422, True)
    assert changing.item("PUT", "newer", {"attributes": {}})[0] == 422


class _Planted(Tied):
    """Vectors of a genre lie around one place."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log)
        with torch.no_grad():
            centres = torch.nn.functional.normalize(
                torch.randn(3, D, generator=torch.Generator().manual_seed(1)), dim=1
            )
            self.items.weight[1:] = 3 * centres[torch.arange(60) % 3] + 0.2 * self.items.weight[1:]

    def encode(self, batch: Batch) -> torch.Tensor:
        return self.items(batch.items_BL)


def test_an_added_item_that_is_not_read_tells_taste_by_its_attributes(
    tmp_path: Path, made: Callable[..., Changing]
) -> None:
    changing = made(planted(tmp_path / "log"), tmp_path / "state", Biased)
    changing.put("new", attributes={"genre": "crime"}, title="A new one")
    ((_, answer),) = changing.post("/recommend", {"user_history": ["new"], "top_k": 5})
    ((_, told),) = changing.post(
        "/recommend", {"user_history": ["x"], "item_attributes": {"x": {"genre": "crime"}}, "top_k": 5}
    )
    assert (answer["answered_by"], answer["unknown_items"]) == ("category", ["new"])
    assert answer["recommendations"] == told["recommendations"]
    ((_, everything),) = changing.post("/recommend", {"user_history": [], "top_k": 100})
    assert everything["recommendations"][-1] == {"item_id": "new", "score": 0.0}
