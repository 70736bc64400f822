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
