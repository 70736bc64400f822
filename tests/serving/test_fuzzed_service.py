"""Bodies and queries of the service's own schema, and odd ones beside them: no answer is a fault of the service."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings

from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.models.contract import Recommender
from seqrec_cli.serving.recommending import Recommending

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.models.two_stage import Stage, TwoStage
from tests.serving.changing import Changing, D, Tied
from tests.serving.served import Served
from tests.serving.test_cold_start import planted
from tests.serving.test_recommending import CPU, WINDOW


class Near(Recommender):
    """A ranker: an item's score is how near its number is to the first event's."""

    def score(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
        return -(items_BC - batch.items_BL[:, :1]).abs().float()


EXAMPLES = 160  # a kind of service
KNOWN = st.integers(1, 50)
STRANGE = st.sampled_from(["new", "other/x", "", "\x00", "0", "-1", "crime", "007"]) | st.integers(-2, 70)
IDS = st.integers(0, 9).flatmap(lambda draw: KNOWN | KNOWN.map(str) if draw else STRANGE)
OF_IDS = ("user_history", "candidates", "allow", "deny", "like")
ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | IDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["genre", "age", "item.genre", "no such"])
WORDS = {"user": IDS, "item": IDS, "run": st.sampled_from(["A", "A", "A", "B", "C"]), "trained": st.booleans()}


def of_schema(schema: dict[str, Any], whole: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Values that a JSON schema allows, ids and names being those that the data have now and then."""
    if "$ref" in schema:
        return of_schema(whole["$defs"][schema["$ref"].rsplit("/", 1)[1]], whole, name)
    if name in WORDS:
        return WORDS[name]
    if "anyOf" in schema:
        return st.one_of([of_schema(each, whole, name) for each in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "array":
        least, most = schema.get("minItems", 0), min(schema.get("maxItems", 6), 8)
        wide = st.just(D) if name == "vector" else st.integers(least, most)
        inside = IDS if name in OF_IDS else of_schema(schema["items"], whole)
        return wide.flatmap(lambda n: st.lists(inside, min_size=n, max_size=n))
    if kind == "object" and "properties" in schema:
        fields = {key: of_schema(value, whole, key) for key, value in schema["properties"].items()}
        # Without a history nothing is asked of most routes.
        needed = {key: fields.pop(key) for key in sorted({*schema.get("required", ()), "user_history"} & fields.keys())}
        some = st.lists(st.sampled_from(sorted(fields)), max_size=2, unique=True)
        return some.flatmap(lambda names: st.fixed_dictionaries({**needed, **{key: fields[key] for key in names}}))
    if kind == "object":
        values = schema.get("additionalProperties", {})
        inner = of_schema(values, whole) | st.sampled_from(["crime", "drama", "25"])
        return st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=3)
    plain: dict[str | None, st.SearchStrategy[Any]] = {
        "integer": st.integers(schema.get("minimum", -(2**40)), schema.get("maximum", 2**40)),
        "number": st.floats(-1e30, 1e30),
        "boolean": st.booleans(),
        "null": st.none(),
        "string": IDS.map(str) | st.text(max_size=6),
    }
    return plain.get(kind, ODD)


def questions(openapi: dict[str, Any]) -> st.SearchStrategy[tuple[str, str, bytes]]:
    """(method, path, body) of every route that the schema names."""
    asked = []
    for path, methods in openapi["paths"].items():
        for method, about in methods.items():
            body = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            bodies = st.just(b"")
            if body is not None:
                good = of_schema(body, body)
                # Some fields as they should be and some that are odd; or something else altogether.
                mixed = st.builds(lambda one, odd: {**one, **odd}, good, st.dictionaries(_names(body), ODD, max_size=2))
                bodies = _often(
                    _often(good, mixed | ODD).map(lambda value: json.dumps(value).encode()), st.binary(max_size=40)
                )
            places = st.just(path)
            if "{item}" in path:
                places = IDS.map(lambda item: "/items/" + quote(str(item)))
            parameters = [each["name"] for each in about.get("parameters", ()) if each["in"] == "query"]
            if parameters:
                query = st.dictionaries(st.sampled_from([*parameters, "x"]), IDS | st.text(max_size=6), max_size=3)
                places = st.tuples(places, query).map(lambda pair: f"{pair[0]}?{urlencode(pair[1])}")
            asked += [st.tuples(st.just(method.upper()), places, bodies)] * (1 if body is None else 3)
    return st.one_of(asked)


def _often(usual: st.SearchStrategy[Any], seldom: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 3).flatmap(lambda draw: usual if draw else seldom)


def _names(body: dict[str, Any]) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(body["properties"])) | st.text(max_size=3)


def changing_encoder(log: PackedLog, folder: Path, made: Callable[..., Changing]) -> Served:
    return made(log, folder / "state", Tied)


def ranker(log: PackedLog, folder: Path, made: Callable[..., Changing]) -> Served:
    model = Recommending(Near(log.catalog), log, name="near", max_length=WINDOW, precision=CPU)
    return Served(model, beside=Recommending(Tied(log), log, name="b", max_length=WINDOW, precision=CPU))


def two_stages(log: PackedLog, folder: Path, made: Callable[..., Changing]) -> Served:
    stages = Stage(Tied(log), WINDOW), Stage(Near(log.catalog), WINDOW)
    model = TwoStage(*stages, retrieved=20)
    return Served(Recommending(model, log, name="two_stage", max_length=WINDOW, precision=CPU))


@pytest.fixture(params=[changing_encoder, ranker, two_stages])
def served(request: Any, tmp_path: Path, made: Callable[..., Changing]) -> Iterator[Served]:
    found = request.param(planted(tmp_path / "log"), tmp_path, made)
    found.gate._routes |= {"/explain", "/items", "/history", "/runs", "/items/{item:path}"}
    yield found
    found.batcher.close()


def plain_question(path: str, **body: Any) -> tuple[str, str, bytes]:
    """Of a history that is known."""
    return "POST", path, json.dumps({"user_history": [1, 2], **body}).encode()


def test_nothing_that_is_asked_is_a_fault_of_the_service(served: Served) -> None:
    asked = list[tuple[str, str, bytes]]()
    answered: dict[int, list[str]] = {200: [], 404: [], 422: []}

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @example(plain_question("/recommend"))  # what is drawn depends on all modules that are loaded
    @example(plain_question("/score", candidates=[3, 4]))
    @example(plain_question("/explain", candidates=[3]))
    @given(questions(served.schema))
    def ask(question: tuple[str, str, bytes]) -> None:
        method, path, body = question
        asked.append(question)
        status, _, text = asyncio.run(served.ask(method, path, body, {}))
        assert status in answered, (question, text)
        answered[status].append(path.partition("?")[0])
        if path != "/metrics":
            json.loads(text)

    ask()
    assert len(asked) >= EXAMPLES
    assert len(answered[422]) > EXAMPLES / 4
    assert {"/recommend", "/score", "/explain", "/items", "/health"} <= set(answered[200])  # some of it is understood
    assert {path.partition("?")[0] for _, path, _ in asked} >= set(served.schema["paths"]) - {"/items/{item}"}
    assert not [line for line in served.journal.lines if line["event"] == "error"]
