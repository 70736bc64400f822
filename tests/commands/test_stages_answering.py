"""Two stages answer: as a service, for a later file, and a file of requests."""

# ruff: noqa: F811 (fixtures of another file)

import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

import seqrec_cli
from seqrec_cli.commands import stages
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import Restored
from seqrec_cli.commands.stages import TwoRuns
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.serving.answer_files import AnswerFile
from tests.commands.test_stages import ITEMS, RETRIEVED, base, both, of_user, runs, system  # noqa: F401


def test_the_service_answers_many_at_once_with_the_composite(system: TwoRuns) -> None:
    pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
    from tests.serving.served import Served

    recommending, users = recommending_of(system), [3, 11, 40, 41, 42]
    served = Served(recommending)
    try:
        answers = served.post("/recommend", *({"user": user, "top_k": 9} for user in users))
        batches = list(served.batches)
        ((_, scored),) = served.post("/score", {"user": 3, "candidates": [5, 9]})
    finally:
        served.batcher.close()
    assert max(batches) > 1
    for user, (status, answer) in zip(users, answers, strict=True):
        assert status == 200
        expected = [recommending.items[item - 1] for item in of_user(system, user)[:9]]
        assert [each["item_id"] for each in answer["recommendations"]] == expected
    alone = recommending_of(system.ranker)
    by_ranker = alone.score(alone.logged([3]), alone.indices([5, 9]), rows_at_once=1)[0]
    assert [each["score"] for each in scored["scores"]] == pytest.approx(by_ranker.tolist())


def test_serve_loads_both_and_says_so(runs: tuple[str, str]) -> None:
    pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
    from seqrec_cli.commands.serve_models import load
    from seqrec_cli.saying import silent

    cfg: Any = validate("serve", compose("serve", both(runs, "retrieved=9", "history=4")))
    assert cfg.parts == runs
    loaded = load(cfg, silent)
    assert {name: loaded.facts[name] for name in ("model", "retriever", "ranker", "retrieved", "model_version")} == {
        "model": "two_stage",
        "retriever": "sasrec",
        "ranker": "bst",
        "retrieved": 9,
        "model_version": "epoch_1+epoch_1",
    }
    assert loaded.scoring.recommending.max_length == 4
    assert loaded.scoring.model.shortlist == 9


def test_rows_that_are_answered_together_are_cut_by_what_the_ranker_has_to_score(system: TwoRuns) -> None:
    pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
    from seqrec_cli.serving.scoring import PAIRS, Question, Scoring

    recommending = recommending_of(system)
    question = Question(recommending.logged([3]).own(), top=5)
    assert Scoring(recommending).rows_of(question) == PAIRS // RETRIEVED
    assert Scoring(recommending_of(system.ranker)).rows_of(question) == PAIRS // (ITEMS + 1)


def test_serve_looks_at_both_checkpoints(
    runs: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
    from seqrec_cli.commands.serve import answer
    from seqrec_cli.serving import reloading

    class WatchedError(Exception):
        pass

    def watching(ckpt: str, *_: Any, stages: list[str], **__: Any) -> None:
        raise WatchedError(ckpt, *stages)

    cfg: Any = validate("serve", compose("serve", both(runs)))
    before = signal.getsignal(signal.SIGHUP)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(reloading, "Reloading", watching)
            with pytest.raises(WatchedError) as watched, socket.create_server(("127.0.0.1", 0)) as door:
                answer(cfg, door, lambda: None)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert watched.value.args == runs
    files = [tmp_path / "one.pt", tmp_path / "two.pt"]
    for file in files:
        file.write_bytes(b"x")
    nothing: Any = None
    watch = reloading.Reloading(
        str(files[0]), nothing, nothing, journal=nothing, meters=nothing, stages=[str(files[1])]
    )
    first = watch._signature()
    files[1].write_bytes(b"xyz")
    assert watch._signature() != first


def test_a_later_file_is_read_for_both(system: TwoRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[tuple[Restored, str]]()

    def later(run: Restored, archive: str) -> tuple[Restored, np.ndarray]:
        given.append((run, archive))
        return replace(run, epoch=run.epoch + 40), np.array([5])

    monkeypatch.setattr(stages, "on_later_log", later)
    found, new = stages.on_newer(system, "later.csv")
    assert given == [(system.retriever, "later.csv"), (system.ranker, "later.csv")]
    assert (found.version, new.tolist()) == ("epoch_41+epoch_41", [5])
    assert found.model.shortlist == RETRIEVED
    assert stages.on_newer(system.ranker, "x")[0].version == "epoch_41"


def test_a_file_of_requests_is_answered_by_both(runs: tuple[str, str], tmp_path: Path) -> None:
    output = tmp_path / "lists.csv"
    words = ["input=users", f"output={output}", "top=3"]
    seqrec_cli.run("recommend", both(runs, "retrieved=9", *words))
    lists = pd.read_csv(output)
    for user in (3, 8):
        alone = seqrec_cli.run("recommend", both(runs, "retrieved=9", f"user={user}", "top=3"))
        assert lists[lists["user"] == user]["item"].tolist() == alone["items"]
    with (
        mock.patch.object(AnswerFile, "join", side_effect=OSError(28, "full")),
        pytest.raises(SeqrecError, match="No space left"),
    ):
        seqrec_cli.run("recommend", both(runs, "retrieved=9", *words, "replace=true"))
    with pytest.raises(SeqrecError, match=r"the parts of another command \(other: retrieved\)"):
        seqrec_cli.run("recommend", both(runs, "retrieved=8", *words, "replace=true"))
    by_ranker = seqrec_cli.run("recommend", [f"ckpt={runs[1]}", "user=3", "top=3"])["scores"]
    assert lists[lists["user"] == 3]["score"].tolist() != pytest.approx(by_ranker)
