"""Several models behind one service: who is dealt where, what the answers say of it, what is logged."""

import asyncio
import errno
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.serving.recommending import Recommending
from tests.serving.test_recommending import CPU, WINDOW, Encoder, request

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.serving.arms import Arms
from seqrec_cli.serving.assignment import Assignment, arm_names
from seqrec_cli.serving.exposure_writer import ExposureWriter
from seqrec_cli.serving.gate import Gate
from seqrec_cli.serving.service import build_service
from tests.serving.served import LIMITS, MOST, Served, loaded

HALVES = Assignment(["old", "new"], [0.5, 0.5], "autumn")


def test_who_is_dealt_where_follows_from_salt_and_id_as_the_pages_say() -> None:
    for salt in ("autumn", "spring"):
        assignment = Assignment(["a", "b", "c"], [0.5, 0.3, 0.2], salt)
        for user in [*range(300), "ann", "ü", ""]:
            number = int(hashlib.blake2b(f"{salt}\0{user}".encode(), digest_size=8).hexdigest(), 16)
            fraction = (number >> 11) / 2**53
            assert assignment.arm_of(user) == (0 if fraction < 0.5 else 1 if fraction < 0.8 else 2), user
            assert assignment.arm_of(str(user)) == assignment.arm_of(user)
    # Written down once: a service of a later version deals the same users to the same arms.
    assert [HALVES.arm_of(user) for user in range(12)] == KNOWN


KNOWN = [1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1]


def test_shares_are_kept_and_another_salt_deals_anew() -> None:
    shares = [0.5, 0.3, 0.2]
    one, other = (Assignment("abc", shares, salt) for salt in ("one", "other"))
    dealt = [(one.arm_of(user), other.arm_of(user)) for user in range(20_000)]
    for nth, share in enumerate(shares):
        assert sum(first == nth for first, _ in dealt) == pytest.approx(20_000 * share, abs=4 * 71)
    both = Counter(dealt)
    for first in range(3):  # which arm of the one says nothing of that of the other
        for second in range(3):
            assert both[first, second] == pytest.approx(20_000 * shares[first] * shares[second], abs=4 * 71)
    thirds = Assignment("abc", [1 / 3] * 3, "s")
    assert {thirds.arm_of(user) for user in range(100)} == {0, 1, 2}
    assert one.plan != other.plan
    assert one.plan == Assignment("abc", shares, "one").plan


def test_arms_are_named_by_no_more_of_a_path_than_tells_them_apart(tmp_path: Path) -> None:
    assert arm_names(["runs/a", "runs/b"]) == ["a", "b"]
    assert arm_names([str(tmp_path / "x" / "best.pt"), str(tmp_path / "y" / "best.pt")]) == ["x/best.pt", "y/best.pt"]
    assert arm_names(["runs/a", "runs/a", "runs/b"]) == ["a", "a (2)", "b"]  # an A/A experiment


class Experiment(Served):
    """Two models, one service, a log."""

    def __init__(self, models: list[Recommending], log: Path | None, assignment: Assignment, **more: Any) -> None:
        super().__init__(models[0], **more)
        self.told: list[str] = []
        self.log = None if log is None else ExposureWriter(str(log))
        versions = [loaded(model, f"epoch_{nth}") for nth, model in enumerate(models)]
        self.answering: Arms = Arms(
            versions,
            self.batcher,
            top=4,
            most=MOST,
            meters=self.meters,
            assignment=assignment,
            log=self.log,
            tell=self.told.append,
        )
        service = build_service(self.answering, self.meters, None if log is None else self.answering.feedback)
        self.schema = service.openapi()
        routes = {"/recommend", "/score", "/similar", "/feedback", "/health", "/metrics"}
        self.gate = Gate(
            service,
            more.get("limits", LIMITS),
            token=more.get("token"),
            journal=self.journal,  # type: ignore[arg-type]
            meters=self.meters,
            routes=routes,
        )

    def lines(self, kind: str) -> list[dict[str, Any]]:
        assert self.log is not None
        found = [json.loads(line) for line in self.log.path.read_text().splitlines()]
        return [line for line in found if line["kind"] == kind]


@pytest.fixture
def models(saved_log: PackedLog) -> list[Recommending]:
    found = []
    for seed in (0, 1):
        encoder = Encoder(saved_log)
        with torch.no_grad():
            for nth, weight in enumerate(encoder.parameters()):
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(10 * seed + nth)))
        found.append(Recommending(encoder, saved_log, name=f"m{seed}", max_length=WINDOW, precision=CPU))
    return found


@pytest.fixture
def experiment(models: list[Recommending], tmp_path: Path) -> Iterator[Experiment]:
    found = Experiment(models, tmp_path / "log.jsonl", HALVES)
    yield found
    found.batcher.close()


def test_each_user_is_answered_by_the_model_of_their_arm(experiment: Experiment, models: list[Recommending]) -> None:
    users = [*range(24), "nobody", "else"]
    bodies = [{"user": user, "user_history": [100 + nth % 20, 103], "top_k": 3} for nth, user in enumerate(users)]
    for body, (status, answer) in zip(bodies, experiment.post("/recommend", *bodies), strict=True):
        number = HALVES.arm_of(body["user"])
        asked = request(history=body["user_history"], user=body["user"], top=3, repeats=None)
        assert status == 200
        assert (answer["arm"], answer["model_version"]) == (["old", "new"][number], f"epoch_{number}")
        assert [each["item_id"] for each in answer["recommendations"]] == models[number].answer(asked).items
    for user, (_, answer) in zip(
        users,
        experiment.post(
            "/score",
            *({**b, "candidates": [101, 102]} for b in [{"user": user, "user_history": [105]} for user in users]),
        ),
        strict=True,
    ):
        assert answer["arm"] == HALVES.arms[HALVES.arm_of(user)]
        assert "exposure_id" not in answer  # nothing was shown
    bodies = [{"user": user, "user_history": [105, 103], "candidates": [101]} for user in users]
    scored, explained = experiment.post("/score", *bodies), experiment.post("/explain", *bodies)
    for (_, score), (_, answer) in zip(scored, explained, strict=True):
        assert (answer["arm"], answer["model_version"]) == (score["arm"], score["model_version"])
        assert answer["explained"][0]["score"] == pytest.approx(score["scores"][0]["score"], rel=1e-4)
    assert {HALVES.arm_of(user) for user in users} == {0, 1}
    health = json.loads(experiment.get("/health")[1])
    assert (health["status"], health["model"], health["salt"]) == ("ok", "m0", "autumn")
    assert [(arm["arm"], arm["share"], arm["model"], arm["model_version"]) for arm in health["arms"]] == [
        ("old", 0.5, "m0", "epoch_0"),
        ("new", 0.5, "m1", "epoch_1"),
    ]


def test_what_was_shown_is_in_the_log_before_it_is_answered(experiment: Experiment) -> None:
    answers = experiment.post("/recommend", {"user": 3, "top_k": 2}, {"user": "nobody"}, {"user_history": [100]})
    (plan,), exposures = experiment.lines("plan"), experiment.lines("exposure")
    assert (plan["arms"], plan["shares"], plan["salt"]) == (["old", "new"], [0.5, 0.5], "autumn")
    by_id = {line["id"]: line for line in exposures}
    assert len(by_id) == len(exposures) == 3
    for (_, answer), user in zip(answers, ("3", "nobody", None), strict=True):
        line = by_id[answer["exposure_id"]]
        assert line["user"] == user
        assert line["plan"] == plan["plan"] == HALVES.plan
        assert line["items"] == [each["item_id"] for each in answer["recommendations"]]
        for name in ("arm", "model_version", "answered_by"):
            assert line[name] == answer[name]
    assert answers[2][1]["arm"] == "old"  # of nobody: the first run, and no user's exposure
    assert 'seqrec_log_lines_total{arm="old",kind="exposure",outcome="done"}' in experiment.get("/metrics")[1]
    for body in ({"user": 3, "top_k": 0}, {"user": True}, {"user": [3]}, [3], b"{", {"usr": 3}, {}):
        ((status, said),) = experiment.post("/recommend", body)
        assert (status, "\n" in said["detail"]) == (422, False), body
    assert len(experiment.lines("exposure")) == 3


def test_feedback_is_kept(experiment: Experiment) -> None:
    ((_, answer),) = experiment.post("/recommend", {"user": 3})
    asked = [
        {"exposure_id": answer["exposure_id"], "item": 101, "event": "click"},
        {"user": 3, "item": "102", "event": "purchase", "value": 9.5},
        {"user": "x", "exposure_id": "e", "item": 1, "event": "my:event-1.2", "value": 2},
    ]
    assert experiment.post("/feedback", *asked) == [(200, {"recorded": True})] * 3
    keys = ("exposure", "user", "item", "event", "value")
    assert sorted(([line[key] for key in keys] for line in experiment.lines("feedback")), key=str) == sorted(
        [
            [answer["exposure_id"], None, "101", "click", None],
            [None, "3", "102", "purchase", 9.5],
            ["e", "x", "1", "my:event-1.2", 2.0],
        ],
        key=str,
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"item": 1, "event": "click"}, "exposure_id: give that of the answer, or the user"),
        ({"user": 1, "event": "click"}, "item: Field required"),
        ({"user": 1, "item": 1}, "event: Field required"),
        ({"user": 1, "item": 1, "event": "two words"}, "event: String should match"),
        ({"user": 1, "item": 1, "event": "x" * 65}, "event: String should match"),
        ({"user": 1, "item": 1, "event": "click\n"}, "event: String should match"),
        ({"user": 1, "item": [1], "event": "click"}, "item: "),
        ({"exposure_id": "e" * 65, "item": 1, "event": "click"}, "exposure_id: String should have at most 64"),
        ({"user": 1, "item": 1, "event": "click", "valeu": 1}, "valeu: no such field; did you mean 'value'?"),
        (b'{"user": 1, "item": 1, "event": "click", "value": NaN}', "invalid JSON"),
        ({"user": 1, "item": 1, "event": "click", "value": "3"}, "value: Input should be a valid number"),
        ({"user": 1, "item": 1, "event": "click", "value": 10**400}, "value: "),
    ],
)
def test_feedback_that_is_not_understood_is_refused(experiment: Experiment, body: Any, says: str) -> None:
    ((status, said),) = experiment.post("/feedback", body)
    assert status == 422, said
    assert says in said["detail"]
    assert "\n" not in said["detail"]
    assert experiment.lines("feedback") == []


def test_the_gate_stands_before_feedback_too(models: list[Recommending], tmp_path: Path) -> None:
    guarded = Experiment(models, tmp_path / "log.jsonl", HALVES, token="secret")
    body = {"user": 1, "item": 1, "event": "click"}
    assert guarded.post("/feedback", body)[0][0] == 401
    assert guarded.post("/feedback", body, authorization="Bearer secret")[0][0] == 200
    big = {**body, "user": "x" * 20_000}
    assert guarded.post("/feedback", big, authorization="Bearer secret")[0][0] == 413
    assert len(guarded.lines("feedback")) == 1
    assert {"200", "401", "413", "422", "503"} <= guarded.schema["paths"]["/feedback"]["post"]["responses"].keys()
    guarded.batcher.close()
    unlogged = Experiment(models, None, HALVES)
    assert unlogged.post("/feedback", body)[0][0] == 404
    ((status, answer),) = unlogged.post("/recommend", {"user": 3})
    assert (status, answer["arm"]) == (200, HALVES.arms[HALVES.arm_of(3)])
    assert len(answer["exposure_id"]) == 24  # for a log of the client's own
    unlogged.batcher.close()


def test_a_full_disk_stops_feedback_and_no_recommendation(
    experiment: Experiment, models: list[Recommending], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: Any, **facts: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ExposureWriter, "write", full)
        with pytest.raises(SeqrecError, match="No space left on device; give another"):
            Experiment(models, tmp_path / "other.jsonl", HALVES)
    monkeypatch.setattr(experiment.log, "write", full)
    ((status, answer),) = experiment.post("/recommend", {"user": 3})
    assert (status, answer["exposure_id"], len(answer["recommendations"])) == (200, None, 4)
    asked = experiment.ask("POST", "/feedback", {"user": 3, "item": 1, "event": "click"}, {})
    status, headers, text = asyncio.run(asked)
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(text) == {"detail": "the log cannot be written; try again later"}
    assert len(experiment.told) == 2
    assert experiment.told[0].endswith("log.jsonl: No space left on device")
    assert 'kind="feedback",outcome="failed"} 1.0' in experiment.get("/metrics")[1]
