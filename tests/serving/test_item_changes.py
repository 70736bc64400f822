"""Changes of items: seen by all processes and newer models, whole or not at all, refused where they cannot be."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.serving.item_start import open_items
from tests.serving.changing import Changing, D, Tied, vector
from tests.serving.served import Served
from tests.serving.test_recommending import CPU, WINDOW, Clock


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


def test_all_services_follow_a_compacted_journal(
    saved_log: PackedLog, tmp_path: Path, made: Callable[..., Changing], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "seqrec_cli.serving")
    one, two = (made(saved_log, tmp_path / "state", compact_at=4) for _ in range(2))
    body = {"user_history": [105, "a"], "top_k": 100, "repeats": True}
    for step in range(20):
        writer, reader = (one, two) if step % 3 else (two, one)
        writer.put("ab"[step % 2], vector=vector(step))
        if step % 4 == 0:
            assert reader.best(**body) == writer.best(**body)
    assert one.best(**body) == two.best(**body) == made(saved_log, tmp_path / "state").best(**body)
    assert (tmp_path / "state" / "items.jsonl").read_text().count("\n") < 7
    assert any("2 of 4 lines were without effect, and are left out" in message for message in caplog.messages)


def test_a_service_begins_with_a_long_journal_compacted(
    saved_log: PackedLog, tmp_path: Path, made: Callable[..., Changing]
) -> None:
    for step in range(6):
        made(saved_log, tmp_path / "state").put("a", vector=vector(step))
    made(saved_log, tmp_path / "state", compact_at=5)
    assert (tmp_path / "state" / "items.jsonl").read_text().count("\n") == 2


def test_a_deleted_journal_is_written_again_while_the_service_runs(
    changing: Changing, saved_log: PackedLog, tmp_path: Path, made: Callable[..., Changing]
) -> None:
    changing.put("a", vector=vector(1))
    before = changing.best(user_history=[105], top_k=100)
    (tmp_path / "state" / "items.jsonl").unlink()
    assert changing.best(user_history=[105], top_k=100) == before
    changing.put("b", vector=vector(2))
    assert made(saved_log, tmp_path / "state").best(user_history=[105], top_k=100) == changing.best(
        user_history=[105], top_k=100
    )
    assert {"a", "b"} <= {item for item, _ in changing.best(user_history=[105], top_k=100)}
    (tmp_path / "state" / "items.jsonl").write_text("")
    status, said = changing.item("PUT", "c", {"like": [100]})
    assert (status, "it was cut while the service ran" in said["detail"]) == (422, True)
    assert "it was cut" in json.loads(changing.get("/health")[1])["items_damaged"]


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
        open_items(clock, "x", dataset="toy", item_vectors=None, most=1, compact_at=2)


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
