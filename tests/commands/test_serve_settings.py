"""Every setting of `seqrec serve` reaches the part that it is of."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

import seqrec_cli
from seqrec_cli.commands import serve, serve_models, stages
from seqrec_cli.config.compose import compose
from seqrec_cli.config.records import ServeConfig
from seqrec_cli.config.validate import validate
from tests.commands.test_recommend import TINY
from tests.serving.live import ask, listening
from tests.serving.served import Kept

for package in serve.PACKAGES:
    pytest.importorskip(package, reason="the development extras bring it")
GIVEN = {
    "top": 2,
    "workers": 2,
    "batch": 5,
    "wait_ms": 7.0,
    "waiting": 9,
    "timeout_s": 3.5,
    "most_bytes": 2048,
    "most_events": 3,
    "most_candidates": 4,
    "most_left_out": 6,
    "watch_s": 0.25,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    base: Path = tmp_path_factory.mktemp("serve_settings")
    seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / 'run'}"])
    return str(base / "run")


def settings(run: str, *overrides: str) -> ServeConfig:
    record = validate("serve", compose("serve", [f"ckpt={run}", *overrides]))
    assert isinstance(record, ServeConfig)
    return record


def test_limits_batches_and_watching_are_as_they_were_set(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqrec_cli.serving import batching, gate
    from seqrec_cli.serving.reloading import Reloading
    from seqrec_cli.serving.server import Server

    found: dict[str, Any] = {}
    batcher, limits = batching.Batcher, gate.Limits

    def batched(**given: Any) -> Any:
        found.update(batch=given["rows"], wait_ms=1000 * given["wait_s"], coming=given["coming"])
        return batcher(**given)

    def limited(most_bytes: int, waiting: int, timeout_s: float) -> Any:
        found.update(most_bytes=most_bytes, waiting=waiting, timeout_s=timeout_s)
        return limits(most_bytes, waiting, timeout_s)

    def serving(server: Any, sockets: list[socket.socket]) -> None:
        found["grace_s"] = server.grace_s if hasattr(server, "grace_s") else server.config.timeout_graceful_shutdown
        monkeypatch.undo()  # `listening` runs a server as well
        server.config.app.inside += 7
        found["inside"] = found["coming"]()  # as many as the gate has let in are waited for
        server.config.app.inside -= 7
        with listening(server.config.app) as address:
            _, answer = ask(f"{address}/recommend", {"user_history": [3, 7]})
            found["top"] = len(answer["recommendations"])
            for name, body in (
                ("most_events", {"user_history": [3, 7, 9, 4]}),
                ("most_candidates", {"user_history": [3], "candidates": [1, 2, 3, 4, 5]}),
            ):
                route = "score" if name == "most_candidates" else "recommend"
                status, refused = ask(f"{address}/{route}", body)
                found[name] = (status, json.dumps(refused))

    monkeypatch.setattr(batching, "Batcher", batched)
    monkeypatch.setattr(gate, "Limits", limited)
    monkeypatch.setattr(Server, "run", serving)
    monkeypatch.setattr(Reloading, "start", lambda self, watch_s: found.update(watch_s=watch_s))
    given = [f"{name}={value}" for name, value in GIVEN.items()]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve.answer(settings(run, *given), listener, started=lambda: None)
    for name in ("top", "batch", "wait_ms", "timeout_s", "most_bytes", "watch_s"):
        assert found[name] == pytest.approx(GIVEN[name]), name
    assert found["inside"] == 7
    assert found["waiting"] == 5  # nine, of two processes
    assert found["grace_s"] == pytest.approx(3.5, abs=1)
    for name in ("most_events", "most_candidates"):
        assert found[name][0] == 422
        assert str(GIVEN[name]) in found[name][1]


def test_the_log_the_threads_and_the_device_are_those_that_were_named(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}
    restore, recommending_of = stages.restore, serve_models.recommending_of

    def restored(*args: Any, hardware: Any, tell: Any, **settings: Any) -> Any:
        found.update(args=args, threads=hardware.threads, device=hardware.device, tell=tell)
        return restore(*args, hardware=hardware, tell=tell, **settings)

    def recommending(given: Any, newer: Any = None, history: Any = None) -> Any:
        found.update(newer=newer, history=history)
        return recommending_of(given, None, history)

    monkeypatch.setattr(stages, "restore", restored)
    monkeypatch.setattr(serve_models, "restore", restored)
    monkeypatch.setattr(serve_models, "recommending_of", recommending)
    named = ["hardware.threads=1", "hardware.device=cpu", "archive=own.zip", "data_dir=d"]
    for beside in (None, run):
        with pytest.raises(seqrec_cli.SeqrecError):  # there is no such archive
            serve_models.load(settings(run, *named), lambda line: None, run=beside)
        assert (found.pop("args"), found["threads"], found["device"]) == ((run, "own.zip", "d"), 1, "cpu")
    told = list[str]()
    serve_models.load(settings(run, "newer=later.csv", "history=3"), told.append)
    assert (found["newer"], found["history"]) == ("later.csv", 3)
    assert found["tell"] == told.append
    monkeypatch.setattr(serve_models, "cores", lambda: 16)
    for workers, threads in ((1, 15), (4, 3), (16, 1)):  # one of each process's is for the rest of it
        serve_models.load(settings(run, f"workers={workers}"), lambda line: None)
        assert found["threads"] == threads
    serve_models.load(settings(run, "hardware.threads=5", "workers=4"), lambda line: None)
    assert found["threads"] == 5


def test_what_the_room_and_its_libraries_log_are_lines_of_the_service() -> None:
    import logging

    names = ("uvicorn", "asyncio", serve.OWN)
    loggers = [logging.getLogger(name) for name in names]
    before = [(each.handlers, each.propagate, each.level) for each in loggers]
    journal = Kept()
    try:
        serve._log_into(journal)  # type: ignore[arg-type]
        for name in ("uvicorn.error", "asyncio", "seqrec_cli.serving"):
            logging.getLogger(name).warning("%s was deleted", name)
        logging.getLogger(serve.OWN).info("compacted")
        logging.getLogger("uvicorn").info("not this")
    finally:
        for each, (each.handlers, each.propagate, level) in zip(loggers, before, strict=True):
            each.setLevel(level)
    assert [line["message"] for line in journal.lines] == [
        "uvicorn.error was deleted",
        "asyncio was deleted",
        "seqrec_cli.serving was deleted",
        "compacted",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runs=[a,b]", "beside=c"], "beside is of a service with one run; leave it out, or runs"),
        (["runs=[a,b]", "state=folder"], "state is of a service with one run"),
        (["runs=[a,b]", "index=flat"], "index is of a service with one run"),
        (["ckpt=a", "log=folder", "beside=c"], "beside is of the page, which an experiment's log leaves out"),
        (["runs=[a,b]", "retriever=c", "ranker=d"], "ranker and runs exclude each other"),
    ],
)
def test_an_experiment_is_of_plain_runs(words: list[str], says: str) -> None:
    with pytest.raises(seqrec_cli.SeqrecError, match=says):
        validate("serve", compose("serve", words))


def test_the_page_is_no_part_of_an_experiment() -> None:
    for words, page in (
        (["ckpt=a"], True),
        (["ckpt=a", "page=false"], False),
        (["retriever=a", "ranker=b"], True),
        (["runs=[a,b]"], False),
        (["ckpt=a", "log=folder"], False),
    ):
        record = validate("serve", compose("serve", words))
        assert isinstance(record, ServeConfig)
        assert record.has_page is page


def test_the_search_is_made_at_the_start_where_the_page_asks_for_it(run: str) -> None:
    def prepared(*words: str, beside: str | None = None) -> bool:
        return serve_models.load(settings(run, *words), lambda line: None, run=beside).catalogue.prepared

    assert prepared()
    assert not prepared("page=false")
    assert not prepared(f"log={run}/log")  # an experiment has no page
    assert not prepared(beside=run)  # whose items nobody searches


def test_the_items_that_change_get_their_settings(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqrec_cli.serving import item_start

    found: dict[str, Any] = {}
    opened = item_start.open_items

    def open_items(recommending: Any, state: Any, **given: Any) -> Any:
        found.update(given, state=state)
        return opened(recommending, state, **given)

    monkeypatch.setattr(item_start, "open_items", open_items)
    made = serve_models.load(
        settings(run, f"state={tmp_path / 's'}", "most_added=7", "compact_at=9"), lambda line: None
    )
    expected = {"state": str(tmp_path / "s"), "dataset": "synthetic", "item_vectors": None, "most": 7, "compact_at": 9}
    assert found == expected
    assert made.items is not None
    assert made.catalogue.prepared
    assert made.items._journal is not None
    assert made.items._journal._compact_at == 9


def test_services_of_one_log_are_told_of_each_other(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqrec_cli.serving.assignment import Assignment, arm_names
    from seqrec_cli.serving.exposure_writer import ExposureWriter
    from seqrec_cli.serving.log_writers import written_by_us
    from seqrec_cli.serving.server import Server

    monkeypatch.setattr(Server, "run", lambda server, sockets: said.append("served"))
    log, said, closed = tmp_path / "log", list[str](), list[ExposureWriter]()
    monkeypatch.setattr(serve, "say", said.append)
    monkeypatch.setattr(ExposureWriter, "close", lambda writer: closed.append(writer))
    words = [f"runs=[{run},{run}]", "split=0.3", "salt=one", f"log={log}", "port=0"]
    plan = Assignment(arm_names([run, run]), [0.3, 0.7], "one").plan
    with written_by_us(str(log), plan, said.append):
        seqrec_cli.run("serve", words)
        assert "by the same plan: compare counts both as one experiment" in said[0]
        assert said[-1] == "served"
        assert len(closed) == 1  # and so on the disk
        for other in ("salt=two", "split=0.4"):
            with pytest.raises(seqrec_cli.SeqrecError, match="writes there too, with other runs, shares or salt"):
                seqrec_cli.run("serve", [*words, other])
    said.clear()
    seqrec_cli.run("serve", [*words, "salt=two"])
    assert not [line for line in said if "plan" in line]
