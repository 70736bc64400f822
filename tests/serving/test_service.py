"""The service's answers: those of the model, in the present form, or one line that says why there is none."""

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_diversity import attributed  # noqa: F401 - a fixture
from tests.serving.test_recommending import CPU, WINDOW, Clock, Encoder, request

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from tests.serving.served import MOST, Served


@pytest.fixture
def recommending(saved_log: PackedLog) -> Recommending:
    return Recommending(Encoder(saved_log), saved_log, name="mine", max_length=WINDOW, precision=CPU)


@pytest.fixture
def served(recommending: Recommending) -> Iterator[Served]:
    found = Served(recommending)
    yield found
    found.batcher.close()


def ids(answer: Any, what: str = "recommendations") -> list[Any]:
    return [each["item_id"] for each in answer[what]]


def test_an_answer_has_the_form_it_always_had(served: Served, recommending: Recommending) -> None:
    ((status, answer),) = served.post("/recommend", {"user_history": [109, "104", 999], "top_k": 2, "user": 400})
    expected = recommending.answer(request(history=[109, "104"], top=2, repeats=None))
    items = [{"item_id": i, "score": pytest.approx(s)} for i, s in zip(expected.items, expected.scores, strict=True)]
    assert status == 200
    assert answer == {
        "recommendations": items,
        "model_version": "epoch_83",
        "num_input_items": 2,
        "unknown_items": [999],
        "known_user": False,
        "answered_by": "model",
    }
    assert json.loads(served.get("/health")[1]) == {"status": "ok", "model": "mine", "model_version": "epoch_83"}


def test_what_is_asked_at_once_is_scored_together_and_answered_alone(
    served: Served, recommending: Recommending
) -> None:
    draw, bodies = random.Random(0), list[dict[str, Any]]()
    for row in range(24):
        known: dict[str, Any] = {"user": draw.randrange(30)} if row % 3 == 0 else {}
        if row % 3:
            known = {"user_history": [draw.randint(95, 130) for _ in range(draw.randint(2, 12))] + [100]}
        bodies.append({**known, "top_k": draw.randint(1, 30), "repeats": draw.choice([None, True, False])})
    answers = served.post("/recommend", *bodies)
    for body, (status, answer) in zip(bodies, answers, strict=True):
        asked = {"user": body.get("user"), "history": body.get("user_history")}
        alone = recommending.answer(request(**asked, top=body["top_k"], repeats=body["repeats"]))
        assert status == 200
        assert ids(answer) == alone.items
        assert [each["score"] for each in answer["recommendations"]] == pytest.approx(alone.scores, rel=1e-4, abs=1e-5)
        assert answer["num_input_items"] == alone.events_read
    assert sum(served.batches) == 24
    assert 1 < max(served.batches) <= 8  # the most rows
    assert len(ids(served.post("/recommend", {"user": 3})[0][1])) == 4  # the service's own top


@pytest.mark.parametrize("body", [{"user_history": []}, {"user_history": [1, "x"]}, {"user": "nobody"}])
def test_of_whom_nothing_is_known_gets_what_is_popular(served: Served, saved_log: PackedLog, body: Any) -> None:
    counts_V = training_counts(saved_log)
    best = np.argsort(-counts_V[1:], kind="stable")[:3] + 1
    ((status, answer),) = served.post("/recommend", {**body, "top_k": 3})
    assert (status, answer["answered_by"], answer["num_input_items"]) == (200, "popularity", 0)
    assert ids(answer) == [99 + item for item in best]
    assert answer["recommendations"][0]["score"] == pytest.approx(np.log1p(counts_V.max()))
    assert answer["unknown_items"] == body.get("user_history", [])
    ((_, scored),) = served.post("/score", {**body, "candidates": [101, "no", 100]})
    assert [each["score"] for each in scored["scores"]] == pytest.approx(np.log1p(counts_V[[2, 1]]).tolist())
    assert (scored["answered_by"], scored["unknown_candidates"]) == ("popularity", ["no"])
    assert served.batches == []


def test_candidates_are_scored_in_their_order(served: Served, recommending: Recommending, saved_log: PackedLog) -> None:
    bodies = [
        {"user_history": [100 + n, 105], "candidates": [(107 + 5 * n + k) % 25 + 100 for k in range(3 + n)]}
        for n in range(5)
    ]
    for body, (status, answer) in zip(bodies, served.post("/score", *bodies), strict=True):
        asked, _ = recommending.given(request(history=body["user_history"]))
        expected = recommending.score(asked, np.array(body["candidates"]) - 99, 1)[0]
        assert status == 200
        assert ids(answer, "scores") == body["candidates"]
        assert [each["score"] for each in answer["scores"]] == pytest.approx(expected.tolist(), rel=1e-5)
    assert sum(served.batches) == 5
    ((_, empty),) = served.post("/score", {"user": 3, "candidates": ["no"]})
    assert (empty["scores"], empty["unknown_candidates"], empty["known_user"]) == ([], ["no"], True)


def test_a_ranker_scores_candidates_and_has_no_vectors(saved_log: PackedLog) -> None:
    clock = Recommending(Clock(saved_log.catalog), saved_log, name="clock", max_length=WINDOW, precision=CPU)
    served = Served(clock)
    body = {"user_history": [100, 101], "times": [0, 1], "asked_at": 1}
    ((status, answer),) = served.post("/score", {**body, "candidates": [124, 103]})
    asked, _ = clock.given(request(history=[100, 101], times=[0, 1], asked_at=1))
    assert status == 200
    assert [each["score"] for each in answer["scores"]] == clock.score(asked, np.array([25, 4]), 1)[0].tolist()
    assert (
        ids(served.post("/recommend", {**body, "top_k": 1, "repeats": True})[0][1])
        == clock.answer(request(history=[100, 101], times=[0, 1], asked_at=1, top=1, repeats=True)).items
    )
    refused = served.post("/similar", {"item": 100}, {"item": 100})[0]
    assert refused == (422, {"detail": "model=clock makes no item vectors; take an encoder (sasrec)"})
    ((status, said),) = served.post("/recommend", {"user_history": [100]})
    assert (status, "give times" in said["detail"]) == (422, True)
    served.batcher.close()


def test_similar_items_have_the_highest_cosine(served: Served, recommending: Recommending) -> None:
    table = torch.nn.functional.normalize(recommending.model.item_table().detach(), dim=1)  # type: ignore[operator]
    for item, (status, answer) in zip((1, 25), served.post("/similar", {"item": 100}, {"item": "124"}), strict=True):
        cosines = (table @ table[item]).tolist()
        best = sorted((i for i in range(1, 26) if i != item), key=lambda i: -cosines[i])[:4]
        assert status == 200
        assert ids(answer, "similar") == [99 + i for i in best]
        assert [each["score"] for each in answer["similar"]] == pytest.approx([cosines[i] for i in best], abs=1e-6)
    assert served.post("/similar", {"item": 9})[0] == (
        422,
        {"detail": "item=9: the data have no such item (ids such as 100, 124)"},
    )


MALFORMED = [
    (b"", "invalid JSON"),
    (b"null", "give a JSON object"),
    (b'{"top_k": NaN}', "invalid JSON"),
    (b'{"context": {"a": Infinity}}', "invalid JSON"),
    (b'{"user_history": [100], "context": {"a": 1e999}}', "context.a: "),
    (b'{"user": "\\ud800"}', "invalid JSON"),
    (b'{"user": "\xff"}', "invalid JSON"),
    (b"[" * 19_000, "recursion limit"),
    (b'{"context":' * 1_500, "recursion limit"),
    (b'{"user": ' + b"9" * 6_000 + b"}", "number out of range"),
    (b'{"user_histroy": [1]}', "user_histroy: no such field; did you mean 'user_history'?"),
    ({"top_k": 0}, "top_k: Input should be greater than or equal to 1"),
    ({"top_k": 101}, "top_k: Input should be less than or equal to 100"),
    ({"top_k": "3"}, "top_k: Input should be a valid integer"),
    ({"user_history": 5}, "user_history: Input should be a valid list"),
    ({"user_history": [100, 1.5]}, "user_history.1: "),
    ({"user_history": [True]}, "user_history.0: "),
    ({"user_history": [100] * (MOST.events + 1)}, "user_history: 51 are given, at most 50 are read"),
    ({"context": {str(n): 1 for n in range(101)}}, "context: 101 are given, at most 100"),
    ({"user_history": [100], "context": {"device": "tv"}}, "context.device: the data have no such context"),
    ({"user_history": [100], "times": [2**70]}, "times: not a time"),
    ({"user_history": [100, 101], "times": [1]}, "times: 1 for 2 events"),
    ({}, "neither a user nor a history"),
]


def test_what_is_not_understood_is_refused_in_a_line(served: Served) -> None:
    answers = served.post("/recommend", *(body for body, _ in MALFORMED))
    for (body, says), (status, said) in zip(MALFORMED, answers, strict=True):
        assert status == 422, (body, said)
        assert says in said["detail"], body
        assert "\n" not in said["detail"]
        assert len(said["detail"]) < 500
    assert served.batches == []
    for body in ({"user": 3}, {"user": 3, "candidates": []}, {"user": 3, "candidates": [100] * (MOST.candidates + 1)}):
        assert served.post("/score", body)[0][0] == 422


def test_no_body_whatever_is_an_error_of_the_service(served: Served) -> None:
    draw = random.Random(1)
    pieces = [b"{", b"}", b"[", b"]", b'"user_history"', b'"user"', b":", b",", b"100", b"-1e99", b"null", b"\x00"]
    pieces += [
        b'"times"',
        b'"candidates"',
        b'"item"',
        b"1e400",
        b'"\\u0000"',
        b"true",
        b"9" * 400,
        b"\xed\xa0\x80",
        b" ",
    ]
    bodies = [b"".join(draw.choices(pieces, k=draw.randint(1, 14))) for _ in range(500)]
    values: list[Any] = [
        None,
        True,
        -1,
        10**30,
        "",
        "\x00",
        [],
        [100],
        [["a"]],
        {},
        {"a": 1},
        0.5,
        "100",
        [100, "x", -5],
    ]
    fields = ["user_history", "user", "times", "asked_at", "context", "top_k", "repeats", "candidates", "item"]
    for _ in range(1000):
        some = {name: draw.choice(values) for name in draw.sample(fields, draw.randint(0, 4))}
        bodies.append(json.dumps(some).encode())
    for path in ("/recommend", "/score", "/similar"):
        assert {status for status, _ in served.post(path, *bodies[:90], *bodies[500:590])} <= {200, 422, 503}
        for first in range(0, len(bodies), 90):
            statuses = {status for status, _ in served.post(path, *bodies[first : first + 90])}
            assert statuses <= {200, 422}, (path, first)


def test_scores_that_are_no_numbers_are_told_to_all_who_asked(served: Served, recommending: Recommending) -> None:
    with torch.no_grad():
        recommending.model.users.weight[:] = torch.nan  # type: ignore[union-attr]
    for status, said in served.post("/recommend", {"user": 1}, {"user_history": [100]}):
        assert (status, "diverged" in said["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"user_history": [100], "user_history": [101]}', "user_history: given twice in one object; give it once"),
        (b'{"top_k": 1, "user_history": [100], "top\\u005fk": 2}', "top_k: given twice"),
        (b'{"user_history": [100], "context": {"a": "b", "a": "b"}}', "a: given twice"),
        (b'{"user_history": ["x"], "item_attributes": {"x": {"g": "1", "g": "2"}}}', "g: given twice"),
    ],
)
def test_a_name_that_is_given_twice_is_refused(served: Served, body: bytes, says: str) -> None:
    ((status, answer),) = served.post("/recommend", body)
    assert (status, says in answer["detail"]) == (422, True), answer
    ((status, answer),) = served.post("/recommend", b'{"user_history": [100, "a:b"], "user": ":\\":"}')
    assert (status, answer["unknown_items"]) == (200, ["a:b"])


def test_the_schema_names_fields_and_refusals(served: Served) -> None:
    route = served.schema["paths"]["/recommend"]["post"]
    fields = route["requestBody"]["content"]["application/json"]["schema"]["properties"]
    of_whom = {"user_history", "user", "times", "asked_at", "context", "attributes", "item_attributes"}
    assert of_whom | {"top_k", "repeats", "run", "allow", "deny", "where"} == fields.keys()
    assert {"200", "401", "408", "413", "422", "503"} == route["responses"].keys()


def test_a_request_says_which_items_it_wants(attributed: PackedLog) -> None:  # noqa: F811
    recommending = Recommending(Encoder(attributed), attributed, name="mine", max_length=WINDOW, precision=CPU)
    served = Served(recommending)
    known = [{"user_history": [110]}, {"user_history": []}, {"user": 3}]
    filters: list[dict[str, Any]] = [
        {"allow": [100, "103", 104, "x"]},
        {"deny": [100, 103, 104, 99]},
        {"where": {"a": "a1", "b": ["b1", "b2"]}},
        {"allow": [100, 101, 104], "deny": [101], "where": {"a": ["a1", "a2"]}},
        {},
    ]
    asked = [{**whom, **each, "top_k": 25, "repeats": True} for whom in known for each in filters]
    passing = [{100, 103, 104}, set(range(100, 125)) - {100, 103, 104}, {100}, {100, 104}, set(range(100, 125))]
    unknown = [["x"], [99], None, [], None]
    answers = served.post("/recommend", *asked)  # at once: those of one batch have filters of their own
    for nth, (status, answer) in enumerate(answers):
        whom, place = known[nth // len(filters)], nth % len(filters)
        alone = recommending.answer(
            request(user=whom.get("user"), history=whom.get("user_history"), top=25, repeats=True)
        )
        assert status == 200
        assert ids(answer) == [item for item in alone.items if item in passing[place]], asked[nth]
        assert answer.get("unknown_listed") == unknown[place]
    assert max(served.batches) > 1
    served.batcher.close()


def test_filters_that_cannot_be_meant_are_refused_in_a_line(attributed: PackedLog) -> None:  # noqa: F811
    served = Served(Recommending(Encoder(attributed), attributed, name="mine", max_length=WINDOW, precision=CPU))
    for given, says in (
        ({"where": {"genre": ["x"]}}, "where.genre: items have no such attribute (have: a, b)"),
        ({"where": {"a": ["a9"]}}, "where.a=a9: no item has it; did you mean 'a2'? (have: a1, a2)"),
        ({"where": {"a": []}}, "where.a: give one value or more"),
        ({"where": ["a"]}, "where: Input should be"),
        ({"where": {"a": {"b": 1}}}, "where.a"),
        ({"allow": ["x"]}, "allow: none of its 1 items is in the data"),
        ({"allow": [1.5]}, "allow.0"),
        ({"allow": list(range(MOST.events + 1))}, "allow: 51 are given, at most 50 are read"),
        ({"deny": list(range(MOST.events + 1))}, "deny: 51 are given, at most 50 are read"),
        ({"where": {str(n): "x" for n in range(101)}}, "where: 101 are given, at most 100 are read"),
        ({"where": {"a": ["a1"] * 30, "b": ["b1"] * 21}}, "where: 51 values are given, at most 50 are read"),
    ):
        for body in ({"user_history": [110]}, {"user": 3}):
            ((status, answer),) = served.post("/recommend", {**body, **given})
            assert status == 422
            assert answer["detail"].startswith(says), answer
    ((status, _),) = served.post("/score", {"user": 3, "candidates": [100], "deny": [100]})
    assert status == 422  # /score takes no filters
    served.batcher.close()
