"""What the page asks, and the page's files, by HTTP: no browser is needed."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_recommending import CPU, WINDOW, Clock

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.serving import web_page
from tests.serving.served import MOST, Served
from tests.serving.titled import HOSTILE, fading, titled


@pytest.fixture
def log(saved_log: PackedLog, tmp_path: Path) -> PackedLog:
    return titled(saved_log, tmp_path)


@pytest.fixture
def served(log: PackedLog) -> Iterator[Served]:
    found = Served(fading(log), beside=fading(log, 1))
    yield found
    found.batcher.close()


def got(served: Served, path: str, **query: Any) -> tuple[int, Any]:
    status, text = served.get(f"{path}?{urlencode(query, doseq=True)}")
    return status, json.loads(text)


def test_items_are_found_by_a_part_of_their_title_and_told_with_what_is_known(served: Served, log: PackedLog) -> None:
    counts_V = training_counts(log)
    status, answer = got(served, "/items", q="hea")
    assert status == 200
    first = sorted((101, 102), key=lambda raw: -counts_V[raw - 99])  # both begin so: the popular one first
    assert [each["item_id"] for each in answer["items"]] == [*first, 104]
    assert got(served, "/items", q="amelie")[1]["items"] == [
        {"item_id": 100, "title": "Amélie", "attributes": {"genre": ["drama"]}}
    ]
    twelves = sorted(range(120, 125), key=lambda raw: -counts_V[raw - 99])
    assert [each["item_id"] for each in got(served, "/items", q="12", limit=3)[1]["items"]] == twelves[:3]
    assert got(served, "/items", q="<img")[1]["items"][0]["title"] == HOSTILE
    popular = [each["item_id"] - 99 for each in got(served, "/items", limit=25)[1]["items"]]
    assert [counts_V[item] for item in popular] == sorted(counts_V[1:], reverse=True)
    described = got(served, "/items", id=["124", "no", "106"])[1]["items"]
    assert described == [
        {"item_id": 124, "title": "No. 124", "attributes": {}},
        {"item_id": 106, "title": "No. 106", "attributes": {"genre": ["drama"]}},
    ]


def test_numbers_of_items_are_told_where_there_are_any(log: PackedLog) -> None:
    years_V = np.array([np.nan, 2001.0, *[np.nan] * 24])
    served = Served(fading(replace(log, catalog=replace(log.catalog, item_numbers={"year": years_V}))))
    found = got(served, "/items", id=["100", "101"])[1]["items"]
    assert [each["attributes"] for each in found] == [{"genre": ["drama"], "year": ["2001"]}, {"genre": ["noir"]}]
    served.batcher.close()


def test_without_titles_ids_are_searched(saved_log: PackedLog) -> None:
    served = Served(fading(saved_log))
    assert got(served, "/items", q="104")[1]["items"] == [{"item_id": 104, "title": None, "attributes": {}}]
    served.batcher.close()


def test_a_user_s_events_are_told_the_latest_last(served: Served, log: PackedLog) -> None:
    first, last = log.offsets_U1[4:6].tolist()
    status, answer = got(served, "/history", user="4")
    assert log.times_N is not None
    assert (status, answer["num_events"]) == (200, last - first)
    assert [each["item_id"] - 99 for each in answer["history"]] == log.items_N[first:last].tolist()
    assert [each["time"] for each in answer["history"]] == log.times_N[first:last].tolist()
    assert all(each["title"] and "attributes" in each for each in answer["history"])
    busy = int(np.diff(log.offsets_U1).argmax())
    whole = got(served, "/history", user=busy)[1]["history"]
    shorter = got(served, "/history", user=busy, limit=3)[1]
    assert (shorter["history"], shorter["num_events"]) == (whole[-3:], len(whole))
    few = Served(fading(log), most=replace(MOST, events=2))
    assert got(few, "/history", user=busy)[1] == {"history": whole[-2:], "num_events": len(whole)}
    few.batcher.close()


def test_the_runs_are_told(served: Served, saved_log: PackedLog) -> None:
    status, answer = got(served, "/runs")
    one = {"model_version": "epoch_83", "max_length": WINDOW, "reads_times": False}
    assert (status, answer) == (
        200,
        {
            "runs": {"A": {"model": "fading0", **one}, "B": {"model": "fading1", **one}},
            "top": 4,
            "most_events": 50,
            "most_candidates": 20,
            "most_left_out": 5,
        },
    )
    clock = Served(Recommending(Clock(saved_log.catalog), saved_log, name="c", max_length=WINDOW, precision=CPU))
    assert got(clock, "/runs")[1]["runs"] == {"A": {"model": "c", **one, "reads_times": True}}
    clock.batcher.close()


def rounded(answer: Any) -> Any:
    """Scores of a batch differ in their last digits from those of another."""
    return json.loads(json.dumps(answer), parse_float=lambda number: f"{float(number) + 0.0:.3f}")


def test_a_request_s_run_answers_on_every_route(served: Served, log: PackedLog) -> None:
    alone = Served(fading(log, 1))
    for path, body in (
        ("/recommend", {"user_history": [100, 105]}),
        ("/score", {"user_history": [100, 105], "candidates": [101, 110]}),
        ("/similar", {"item": 100}),
        ("/explain", {"user_history": [100, 105], "candidates": [101, 110]}),
    ):
        runs: tuple[dict[str, str], ...] = ({}, {"run": "A"}, {"run": "B"})
        first, a, b = (rounded(answer) for _, answer in served.post(path, *({**body, **run} for run in runs)))
        assert first == a != b, path
        assert b == rounded(alone.post(path, body)[0][1]), path
        refusal = (422, {"detail": "run=b: no such run (have: A, B)"})
        assert served.post(path, {**body, "run": "b"})[0] == refusal
        assert alone.post(path, {**body, "run": "B"})[0] == (422, {"detail": "run=B: no such run (have: A)"})
    alone.batcher.close()


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        ("/items", {"q": "a" * 201}, "q: String should have at most 200 characters"),
        ("/items", {"limit": 0}, "limit: Input should be greater than or equal to 1"),
        ("/items", {"limit": 101}, "limit: Input should be less than or equal to 100"),
        ("/items", {"limit": "x"}, "limit: Input should be a valid integer"),
        ("/items", {"titel": "x"}, "titel: Extra inputs are not permitted"),
        ("/items", {"id": ["1"] * 101}, "id: List should have at most 100 items"),
        ("/history", {}, "user: Field required"),
        ("/history", {"user": "nobody"}, "user=nobody: the data have no such user (ids such as 0, 29)"),
        ("/history", {"user": "4", "limit": 0}, "limit: Input should be greater"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_line(served: Served, path: str, query: Any, says: str) -> None:
    status, said = got(served, path, **query)
    assert status == 422
    assert says in said["detail"]
    assert "\n" not in said["detail"]


def test_strange_queries_are_no_errors_of_the_service(served: Served) -> None:
    for text in ("%00", "%ff%fe", "%ed%a0%80", "%0a%09", "a&q=b", "%F0%9F%98%80", "%e9%a8%8e", "&", "="):
        assert served.get(f"/items?q={text}")[0] == 200, text
        assert served.get(f"/history?user={text}")[0] == 422, text


def answered(served: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    status, told, body = asyncio.run(served.ask(method, path, b"", headers))
    return status, told, body.decode()


def test_the_page_s_files_are_there_and_loaded_from_nowhere_else(served: Served) -> None:
    status, headers, page = answered(served, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {"page/page.js", "page/page.css", "page/icon.svg", "docs"} == set(named)
    for path, (name, _) in web_page.FILES.items():
        status, headers, text = answered(served, path)
        assert status == 200
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name  # a name of SVG, not asked for
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
        assert not re.search(r"localStorage|sessionStorage|cookie", text)
        for module in re.findall(r'from "\./([^"]+)"', text):
            assert f"/page/{module}" in web_page.FILES
    folder = Path(web_page.__file__).parent / "page"
    assert {path.name for path in folder.iterdir()} == {name for name, _ in web_page.FILES.values()}


def test_the_page_is_there_without_the_token_and_what_it_asks_is_not(log: PackedLog) -> None:
    served = Served(fading(log), token="s3cret")
    for path in web_page.FILES:
        assert answered(served, path)[0] == 200
        assert answered(served, path, "POST")[0] == 405
    for path in ("/items?q=a", "/history?user=1", "/runs", "/page/", "/page/../runs", "//"):
        assert served.get(path)[0] == 401, path
    assert served.post("/explain", {"user": 1, "candidates": [100]})[0][0] == 401
    assert served.get("/items", authorization="Bearer s3cret")[0] == 200
    served.batcher.close()


def test_new_routes_are_in_the_schema_and_counted_by_name(served: Served) -> None:
    assert {"/items", "/history", "/runs", "/explain"} <= served.schema["paths"].keys()
    assert not {"/", "/page/page.js"} & served.schema["paths"].keys()
    names = [each["name"] for each in served.schema["paths"]["/items"]["get"]["parameters"]]
    assert names == ["q", "limit", "id"]
