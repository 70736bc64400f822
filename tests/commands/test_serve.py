"""`seqrec serve` on a trained run: settings, refusals, signals, newer checkpoints, several processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import seqrec_cli
from seqrec_cli.commands import serve
from seqrec_cli.config.errors import SeqrecError
from tests.commands.test_recommend import TINY
from tests.serving.live import ask, listening

for package in serve.PACKAGES:
    pytest.importorskip(package, reason="the development extras bring it")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    base: Path = tmp_path_factory.mktemp("serve")
    seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / 'run'}"])
    return str(base / "run")


def test_the_service_answers_as_the_verb_does(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqrec_cli.serving.server import Server

    answered: dict[str, Any] = {}

    def serving(server: Any, sockets: list[socket.socket]) -> None:
        answered["port"] = sockets[0].getsockname()[1]
        monkeypatch.undo()
        with listening(server.config.app) as address:
            _, answered["health"] = ask(f"{address}/health")
            _, answered["found"] = ask(f"{address}/recommend", {"user_history": [3, 7, 9], "top_k": 3})

    monkeypatch.setattr(Server, "run", serving)
    served = seqrec_cli.run("serve", [f"ckpt={run}", "port=0", "history=2"])
    assert served == {"address": f"http://127.0.0.1:{answered['port']}", "interrupted": False}
    health = answered["health"]
    assert (health["model"], health["model_version"], health["dataset"]) == ("sasrec", "epoch_1", "synthetic")
    assert answered["found"]["num_input_items"] == 2  # history=2
    expected = seqrec_cli.run("recommend", [f"ckpt={run}", "history=[7,9]", "top=4"])
    scores = dict(zip(expected["items"], expected["scores"], strict=True))
    for each in answered["found"]["recommendations"]:
        assert each["item_id"] != 3  # what was seen before those two does not come back either
        assert each["score"] == pytest.approx(scores[each["item_id"]], rel=1e-4)


def test_refusals_are_one_line(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SeqrecError, match=f"port={port}: cannot listen there .*choose another"):
            seqrec_cli.run("serve", [f"ckpt={run}", f"port={port}"])
    with pytest.raises(SeqrecError, match="history=9: the model was trained on 8 events; give at most 8"):
        seqrec_cli.run("serve", [f"ckpt={run}", "port=0", "history=9"])
    monkeypatch.setenv(serve.TOKEN, "")
    with pytest.raises(SeqrecError, match="SEQREC_TOKEN is no bearer token"):
        seqrec_cli.run("serve", [f"ckpt={run}", "port=0"])
    monkeypatch.setattr(serve, "PACKAGES", ("json", "notthere"))
    with pytest.raises(SeqrecError, match=r"\(notthere\): pip install 'seqrec\[serve\]'$"):
        seqrec_cli.run("serve", [f"ckpt={run}"])


@contextmanager
def started(python: list[str], log: Path, *overrides: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The verb in a process of its own, and where it listens."""
    with log.open("wb") as said:
        command = [*python, "-m", "seqrec_cli", "serve", "port=0", *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            until = time.monotonic() + 300
            while not (found := re.search(r"(http://\S+)/recommend", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process, found[1]
        finally:
            process.terminate()  # a stand-in for Python hands this on, and could not hand on a kill
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Asking:
    """A client that asks without pause, on connections of its own, until it is told to stop."""

    def __init__(self, address: str) -> None:
        self.statuses: list[int] = []
        self.versions: list[str] = []
        self.faults: list[Exception] = []
        self._address, self._stop = address, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                status, answer = ask(f"{self._address}/recommend", {"user_history": [3, 7], "top_k": 3})
                self.statuses.append(status)
                self.versions.append(answer["model_version"])
            except Exception as fault:
                self.faults.append(fault)

    def until(self, done: Any) -> None:
        limit = time.monotonic() + 200
        while not done():
            assert time.monotonic() < limit
            time.sleep(0.05)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def test_newer_checkpoints_are_taken_without_a_failed_request_and_what_is_under_way_is_finished(
    run: str, python: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "best.pt"
    payload = torch.load(Path(run) / "best.pt", weights_only=True)

    def write(epoch: int) -> None:
        torch.save(payload | {"epoch": epoch}, tmp_path / "new.pt")
        (tmp_path / "new.pt").replace(copy)

    write(1)
    with started(python, tmp_path / "log", f"ckpt={copy}", "watch_s=0.2") as (process, address):
        asking = Asking(address)
        asking.until(lambda: "epoch_1" in asking.versions)
        write(2)  # found by watching
        asking.until(lambda: "epoch_2" in asking.versions)
        copy.write_bytes(b"torn")
        process.send_signal(signal.SIGHUP)
        asking.until(lambda: "not reloaded" in (tmp_path / "log").read_text())
        write(3)
        process.send_signal(signal.SIGHUP)
        asking.until(lambda: "epoch_3" in asking.versions)
        asking.stop()
        assert asking.faults == []
        assert set(asking.statuses) == {200}
        # A request whose body is still on its way when the service is told to end.
        where = address.removeprefix("http://").split(":")
        with socket.create_connection((where[0], int(where[1])), timeout=20) as late:
            late.sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n")
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            late.sendall(b'{"user": 3}')
            assert late.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert process.wait(timeout=100) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert {line["event"] for line in lines} == {"request", "reloaded", "not reloaded"}
    assert lines[-1]["status"] == 200


def test_several_processes_answer_at_one_address_and_one_that_dies_is_replaced(run: str, tmp_path: Path) -> None:
    with started([sys.executable], tmp_path / "log", f"ckpt={run}", "workers=2") as (process, address):
        for _ in range(4):
            assert ask(f"{address}/recommend", {"user": 3})[0] == 200
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        until = time.monotonic() + 200
        while "another takes its place" not in (tmp_path / "log").read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        assert ask(f"{address}/recommend", {"user": 3})[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=100) == 0
        for worker in workers:
            assert not Path(f"/proc/{worker}").exists()


def asked(address: str, method: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """A client of /items/{id}; each call a connection of its own, that any process may answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answered:
            return answered.status, json.load(answered)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_items_change_for_all_processes_and_for_the_next_service(
    run: str, python: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    body = {"user_history": [3, 7], "top_k": 100, "repeats": True}

    def best(address: str) -> list[Any]:
        return [each["item_id"] for each in ask(f"{address}/recommend", body)[1]["recommendations"]]

    with started([sys.executable], tmp_path / "log", f"ckpt={run}", "workers=2", f"state={state}") as (_, address):
        assert sorted(best(address)) == list(range(1, 41))
        for nth in range(8):
            # One by attributes: several of which these tell nothing would be equal, and in any order.
            told = {"like": [nth + 9, nth + 17]} if nth else {"attributes": {"category": "category-03"}}
            status, answer = asked(f"{address}/items/new{nth}", "PUT", told)
            assert (status, answer["status"], answer["by"]) == (200, "added", "like" if nth else "attributes")
            assert nth or answer["quality"]["items"] > 20
            assert asked(f"{address}/items/{nth + 1}", "DELETE")[0] == 200
            expected = {*range(nth + 2, 41), *(f"new{each}" for each in range(nth + 1))}
            for _ in range(4):  # whichever process answers
                assert set(best(address)) == expected
        order = best(address)
        assert asked(f"{address}/items/new1", "GET")[0] == 200
        assert asked(f"{address}/items/1", "GET")[0] == 404
    with started(python, tmp_path / "again", f"ckpt={run}", f"state={state}", "index=flat") as (process, address):
        assert best(address) == order
        health = ask(f"{address}/health")[1]
        assert (health["items_added"], health["items_removed"]) == (8, 8)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=100) == 0


def test_every_setting_of_the_items_reaches_the_service(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="the development extras bring it")
    from seqrec_cli.serving.server import Server

    vectors = tmp_path / "text.csv"
    vectors.write_text("id,a,b\n" + "".join(f"{item},{item % 7},{item % 3}\n" for item in range(1, 41)))

    def serving(overrides: list[str], ask_it: Any) -> None:
        def running(server: Any, sockets: list[socket.socket]) -> None:
            monkeypatch.undo()
            with listening(server.config.app) as address:
                ask_it(address)

        monkeypatch.setattr(Server, "run", running)
        seqrec_cli.run("serve", [f"ckpt={run}", "port=0", *overrides])

    def changing(address: str) -> None:
        status, answer = asked(f"{address}/items/a", "PUT", {"text_vector": [1.0, 2.0]})
        assert (status, answer["by"], answer["quality"]["items"]) == (200, "text_vector", answer["quality"]["items"])
        assert asked(f"{address}/items/b", "PUT", {"text_vector": [1.0]})[0] == 422
        status, said = asked(f"{address}/items/b", "PUT", {"like": [1]})
        assert (status, "1 items are added already" in said["detail"]) == (422, True)

    serving([f"state={tmp_path / 'state'}", f"item_vectors={vectors}", "most_added=1"], changing)
    assert "text_vector" in (tmp_path / "state" / "items.jsonl").read_text()

    def without(address: str) -> None:
        assert asked(f"{address}/items/a", "PUT", {"like": [1]})[0] == 422

    searched: list[str] = []
    from seqrec_cli.serving import item_search

    made = item_search.Search.__init__

    def counted(self: Any, kind: Any, state: Any) -> None:
        searched.append(kind)
        made(self, kind, state)

    for kind in ("flat", "ivf"):
        monkeypatch.setattr(item_search.Search, "__init__", counted)
        serving([f"index={kind}"], without)
    assert searched == ["flat", "ivf"]
    serving([], without)
    for overrides, says in (
        (["index=hnsw"], "its graph removes nothing.*take flat or ivf"),
        ([f"item_vectors={vectors}"], "which need state=FOLDER"),
        ([f"state={tmp_path}/s", "item_vectors=nothing.csv"], "item_vectors=nothing.csv: no such file"),
    ):
        with pytest.raises(SeqrecError, match=says):
            seqrec_cli.run("serve", [f"ckpt={run}", "port=0", *overrides])
