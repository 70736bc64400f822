"""`seqrec recommend` and `seqrec serve` on a trained run."""

import socket
from pathlib import Path
from typing import Any

import pytest

import seqrec_cli
from seqrec_cli.commands import serve
from seqrec_cli.config.errors import SeqrecError
from tests.serving.live import ask, listening

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=12",
    "trainer.max_epochs=1",
    "evaluation.baselines=false",
    "model.max_length=8",
    "model.embed_dim=8",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    base: Path = tmp_path_factory.mktemp("recommend")
    seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={base / 'run'}"])
    return str(base / "run")


def test_a_user_s_table_is_printed_and_returned(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("recommend", [f"ckpt={run}", "user=3", "top=4"])
    assert len(set(found["items"])) == 4
    assert found["scores"] == sorted(found["scores"], reverse=True)
    printed = capsys.readouterr().out
    assert all(f"{score:.4f}" in printed for score in found["scores"])


def test_a_history_may_hold_what_the_data_do_not_know(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("recommend", [f"ckpt={run}", "history=[3,7,nothing]", "user=nobody"])
    assert found["events_read"] == 2
    assert not {3, 7} & set(found["items"])
    printed = capsys.readouterr().out
    assert "left out, for the data do not have them: nothing" in printed
    assert "user nobody is unknown to the data" in printed


def test_the_service_answers_as_the_verb_does(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="the development extras bring uvicorn")
    pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
    answered: dict[str, Any] = {}

    def serving(server: Any, sockets: list[socket.socket]) -> None:
        answered["port"] = sockets[0].getsockname()[1]
        monkeypatch.undo()
        with listening(server.config.app) as address:
            _, answered["health"] = ask(f"{address}/health")
            _, answered["found"] = ask(f"{address}/recommend", {"user_history": [3, 7], "top_k": 3})

    monkeypatch.setattr(uvicorn.Server, "run", serving)
    served = seqrec_cli.run("serve", [f"ckpt={run}", "port=0"])
    assert served == {"address": f"http://127.0.0.1:{answered['port']}"}
    health = answered["health"]
    assert (health["model"], health["model_version"], health["dataset"]) == ("sasrec", "epoch_1", "synthetic")
    expected = seqrec_cli.run("recommend", [f"ckpt={run}", "history=[3,7]", "top=3"])
    items = answered["found"]["recommendations"]
    assert [each["item_id"] for each in items] == expected["items"]
    assert [each["score"] for each in items] == pytest.approx(expected["scores"])


def test_a_port_in_use_and_missing_packages_are_said_in_one_line(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SeqrecError, match=f"port={port}: cannot listen there .*choose another"):
            seqrec_cli.run("serve", [f"ckpt={run}", f"port={port}"])
    monkeypatch.setattr(serve, "PACKAGES", ("json", "notthere"))
    with pytest.raises(SeqrecError, match=r"pip install notthere$"):
        seqrec_cli.run("serve", [f"ckpt={run}"])
