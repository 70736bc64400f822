"""Completion and descriptions while items change: what was added is found, what was removed is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from seqrec_cli.data.interactions import PackedLog

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.serving import catalogue
from tests.serving.changing import Changing, Tied, vector
from tests.serving.titled import titled


@pytest.fixture
def served(made: Callable[..., Changing], saved_log: PackedLog, tmp_path: Path) -> Changing:
    (tmp_path / "log").mkdir()
    return made(titled(saved_log, tmp_path / "log"), tmp_path / "state", Tied, most=5000)


def found(served: Changing, typed: str, limit: int = 10) -> list[Any]:
    status, text = served.get(f"/items?q={quote(typed)}&limit={limit}")
    assert status == 200
    return [each["item_id"] for each in json.loads(text)["items"]]


def described(served: Changing, item: Any) -> Any:
    (one,) = json.loads(served.get(f"/items?id={item}")[1])["items"]
    return one


def test_what_was_added_is_found_by_title_and_id_and_what_was_removed_is_not(served: Changing) -> None:
    assert set(found(served, "hea")) == {101, 102, 104}
    served.put("new1", vector=vector(), title="Heathers")
    assert found(served, "heath") == ["new1"]
    assert found(served, "new1") == ["new1"]
    assert set(found(served, "hea")) == {101, 102, 104, "new1"}
    assert found(served, "hea").index("new1") < found(served, "hea").index(104)  # begins so, as others do
    assert described(served, "new1") == {"item_id": "new1", "title": "Heathers", "attributes": {}}
    served.put(101, vector=vector(1), title="The Cold")
    assert found(served, "the cold") == [101]
    assert described(served, 101)["title"] == "The Cold"
    assert described(served, 101)["attributes"] == {"genre": ["drama"]} | described(served, 101)["attributes"]
    served.put("new1", vector=vector(), title="Another")
    assert found(served, "heath") == []
    assert found(served, "another") == ["new1"]
    for item in ("new1", "102"):
        assert served.item("DELETE", item)[0] == 200
    assert found(served, "another") == []
    assert set(found(served, "hea")) == {101, 104}
    assert json.loads(served.get("/items?id=new1")[1])["items"] == []


def test_removed_items_leave_no_gap_in_a_short_list(served: Changing) -> None:
    best = found(served, "", limit=8)
    for item in best[:3]:
        served.item("DELETE", str(item))
    assert found(served, "", limit=5) == best[3:8]
    numbered = found(served, "no.", limit=8)
    for item in numbered[:6]:
        served.item("DELETE", str(item))
    assert found(served, "no.", limit=2) == numbered[6:8]


def test_many_changes_are_searched_in_orders_of_their_own(served: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MOST_BESIDE", 5)
    made = []
    search_of = catalogue._search_of
    monkeypatch.setattr(catalogue, "_search_of", lambda rows: made.append(len(rows)) or search_of(rows))
    for nth in range(24):
        served.put(f"n{nth % 12}", vector=vector(nth), title=f"Brand new {nth}")
        assert found(served, f"brand new {nth}", limit=1) == [f"n{nth % 12}"]
    assert max(made) <= 6
    assert set(found(served, "brand new", limit=50)) == {f"n{nth}" for nth in range(12)}
    assert found(served, "brand new 3") == []  # its title since is another


def test_a_user_s_history_has_the_titles_of_now(served: Changing) -> None:
    before = json.loads(served.get("/history?user=3")[1])["history"]
    changed, removed = before[-1]["item_id"], before[0]["item_id"]
    served.put(changed, vector=vector(), title="Renamed")
    if removed != changed:
        served.item("DELETE", str(removed))
    after = json.loads(served.get("/history?user=3")[1])["history"]
    assert [each["item_id"] for each in after] == [each["item_id"] for each in before]
    assert after[-1]["title"] == "Renamed"


def test_what_search_needs_is_made_when_somebody_searches(served: Changing) -> None:
    known = served.answering.loaded.catalogue
    assert not known.prepared
    assert described(served, 101)["title"] == "Heat"
    assert not known.prepared  # nor is it needed for that
    assert found(served, "heat")[0] == 101
    assert known.prepared
