"""What a service does with items that nobody means, and what it tells of its items before it is asked for any."""

import json
from pathlib import Path

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.changing import Changing
from tests.serving.test_diversity import attributed  # noqa: F401 - a fixture


def test_a_vector_whose_length_is_no_number_is_refused(changing: Changing) -> None:
    width = changing.answering.loaded.scoring.recommending.model.item_table().shape[1]  # type: ignore[operator]
    status, said = changing.item("PUT", "long", {"vector": [1e30] * width})
    assert (status, said["detail"]) == (422, "vector: too large for 32 bits")
    assert changing.item("GET", "long")[0] == 404


def test_an_id_that_is_no_utf_8_is_refused(changing: Changing) -> None:
    status, said = changing.item("PUT", "\N{REPLACEMENT CHARACTER}", {"like": [100]})
    assert status == 422
    assert "as UTF-8" in said["detail"]


def health(service: Changing) -> dict[str, int]:
    status, text = service.get("/health")
    assert status == 200
    told: dict[str, int] = json.loads(text)
    return {name: told[name] for name in ("items_added", "items_changed", "items_removed")}


def test_health_counts_what_the_journal_holds_before_anything_is_asked(saved_log: PackedLog, tmp_path: Path) -> None:
    first = Changing(saved_log, tmp_path / "state")
    first.put("new", like=[100])
    first.put("gone", like=[100])
    first.put("103", like=[100])
    for item in ("gone", "105", "106"):
        assert first.item("DELETE", item)[0] == 200
    expected = {"items_added": 1, "items_changed": 1, "items_removed": 2}  # an addition that went is none of the data's
    assert health(first) == expected
    again = Changing(saved_log, tmp_path / "state")
    assert health(again) == expected
    for each in (first, again):
        each.batcher.close()


def test_behind_a_damaged_line_no_change_is_taken_and_the_answers_stay(saved_log: PackedLog, tmp_path: Path) -> None:
    service = Changing(saved_log, tmp_path / "state")
    service.put("new", like=[100])
    with (tmp_path / "state" / "items.jsonl").open("a") as file:
        file.write('{"op": "zap"}\n')
    assert service.best(user_history=[105], top_k=3, allow=["new", 101])
    for method, path, body in (("PUT", "other", {"like": [100]}), ("DELETE", "new", None)):
        status, said = service.item(method, path, body)
        assert status == 422
        assert "takes no changes of its items: " in said["detail"]
        assert "line 3 is damaged" in said["detail"]
    told = json.loads(service.get("/health")[1])
    assert (told["items_added"], "line 3 is damaged" in told["items_damaged"]) == (1, True)
    service.batcher.close()
    with pytest.raises(SeqrecError, match=r"^state=.*line 3 is damaged; mend or delete it$"):
        Changing(saved_log, tmp_path / "state")


@pytest.mark.parametrize("index", ["none", "flat"])
def test_filters_hold_for_items_that_change(attributed: PackedLog, tmp_path: Path, index: str) -> None:  # noqa: F811
    if index == "flat":
        pytest.importorskip("faiss", reason="the development extras bring it")
    service = Changing(attributed, tmp_path / "state", index=index)
    service.put("new", attributes={"a": "a1"})
    service.put("100", like=[104])  # keeps the a1 of the data
    service.put("101", attributes={"a": "a2"})  # had a1
    asked = {"user_history": [110], "top_k": 20, "repeats": True}
    for filters, passing in (
        ({"where": {"a": ["a1"]}}, {"new", 100}),
        ({"where": {"a": ["a2"]}}, {101, 104}),
        ({"where": {"a": ["a1", "a2"]}, "deny": ["new", 104]}, {100, 101}),
        ({"allow": ["new", 101, 102]}, {"new", 101, 102}),
        ({"allow": ["new", 101, 102], "where": {"a": ["a1"]}}, {"new"}),
    ):
        assert {item for item, _ in service.best(**asked, **filters)} == passing, filters
    first, second, *_ = (item for item, _ in service.best(**asked))
    assert service.best(**asked, deny=[first])[0][0] == second
    service.batcher.close()
