"""The page of `seqrec serve`: its settings reach the service, a second run beside the first, and what is refused."""

import json
import socket
import urllib.error
import urllib.request
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
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


def trained(base: Path, name: str, *overrides: str) -> str:
    folder = base / name
    seqrec_cli.run("train", [*TINY, f"data_dir={base / 'data'}", f"run_dir={folder}", *overrides])
    return str(folder)


@pytest.fixture(scope="module")
def first(base: Path) -> str:
    return trained(base, "first")


@pytest.fixture(scope="module")
def second(base: Path) -> str:
    return trained(base, "second", "model=gru4rec", "trainer.seed=3")


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=30) as answered:
            return int(answered.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def served(monkeypatch: pytest.MonkeyPatch, asking: Any, *overrides: str) -> Any:
    """What `asking(address, server)` makes of the service that these settings start."""
    from seqrec_cli.serving.server import Server

    found: list[Any] = []

    def serving(server: Any, sockets: list[socket.socket]) -> None:
        monkeypatch.undo()
        with listening(server.config.app) as address:
            found.append(asking(address, server))

    monkeypatch.setattr(Server, "run", serving)
    seqrec_cli.run("serve", ["port=0", *overrides])
    return found[0]


def test_a_second_run_answers_who_asks_for_it(first: str, second: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asking(address: str, server: Any) -> tuple[Any, ...]:
        body = {"user_history": [3, 7, 9], "top_k": 3}
        answers = [ask(f"{address}/recommend", {**body, "run": run})[1]["recommendations"] for run in ("A", "B")]
        return ask(f"{address}/runs")[1], *answers, status_of(f"{address}/"), status_of(f"{address}/page/page.js")

    runs, a, b, *statuses = served(
        monkeypatch, asking, f"ckpt={first}", f"beside={second}", "most_left_out=7", "history=4", "top=6"
    )
    assert {run: (facts["model"], facts["max_length"]) for run, facts in runs["runs"].items()} == {
        "A": ("sasrec", 4),
        "B": ("gru4rec", 4),
    }
    assert (runs["most_left_out"], runs["top"], runs["most_events"], runs["most_candidates"]) == (7, 6, 10_000, 1000)
    assert statuses == [200, 200]
    for run, answer in ((first, a), (second, b)):
        expected = seqrec_cli.run("recommend", [f"ckpt={run}", "history=[3,7,9]", "top=3"])
        assert [each["item_id"] for each in answer] == expected["items"]
        assert [each["score"] for each in answer] == pytest.approx(expected["scores"], rel=1e-4)


def test_without_the_page_its_files_are_not_there_and_its_routes_are(
    first: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asking(address: str, server: Any) -> tuple[Any, ...]:
        explained = ask(f"{address}/explain", {"user": 3, "candidates": [3]})
        return status_of(f"{address}/"), status_of(f"{address}/page/page.js"), ask(f"{address}/runs")[1], explained

    page, script, runs, explained = served(monkeypatch, asking, f"ckpt={first}", "page=false", "most_left_out=0")
    assert (page, script) == (404, 404)
    assert list(runs["runs"]) == ["A"]
    assert explained == (422, {"detail": "this service explains nothing (most_left_out=0)"})
    assert "(the page)" not in capsys.readouterr().out
    monkeypatch.setenv(serve.TOKEN, "s3cret")
    statuses = served(monkeypatch, lambda address, _: status_of(f"{address}/"), f"ckpt={first}", "page=false")
    assert statuses == 401


def test_the_page_is_named_at_the_start_and_open_beside_a_token(
    first: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asking(address: str, server: Any) -> list[int]:
        return [status_of(f"{address}{path}") for path in ("/", "/page/page.css", "/runs", "/items")]

    monkeypatch.setattr(serve, "_token", lambda: "s3cret")
    assert served(monkeypatch, asking, f"ckpt={first}") == [200, 200, 401, 401]
    assert "/ (the page)" in capsys.readouterr().out


def test_both_runs_are_read_anew(
    first: str, second: str, base: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    copies = {name: base / f"{name}.pt" for name in ("one", "other")}
    payloads = {
        name: torch.load(Path(run) / "best.pt", weights_only=True) for name, run in (("one", first), ("other", second))
    }
    for name, path in copies.items():
        torch.save(payloads[name], path)

    def asking(address: str, server: Any) -> dict[str, str]:
        for name, path in copies.items():
            torch.save({**payloads[name], "epoch": 7}, path)
        server._reload()  # as SIGHUP does
        for _ in range(600):
            runs = ask(f"{address}/runs")[1]["runs"]
            if all(facts["model_version"] == "epoch_7" for facts in runs.values()):
                break
        return {run: facts["model_version"] for run, facts in runs.items()}

    found = served(monkeypatch, asking, f"ckpt={copies['one']}", f"beside={copies['other']}", "watch_s=null")
    assert found == {"A": "epoch_7", "B": "epoch_7"}


def test_refusals_are_one_line(first: str, base: Path) -> None:
    with pytest.raises(SeqrecError, match="nowhere"):
        seqrec_cli.run("serve", [f"ckpt={first}", f"beside={base / 'nowhere'}", "port=0"])
    log = base / "letters.csv"
    rows = [f"u{user},item-{(user + k) % 9},{1_600_000_000 + 60 * k}" for user in range(30) for k in range(6)]
    log.write_text("\n".join(["user,item,time", *rows]) + "\n")
    tiny = [setting for setting in TINY if not setting.startswith("dataset")]
    letters = str(base / "letters")
    own = ["dataset=csv", f"dataset.archive={log}", f"data_dir={base / 'data'}", f"run_dir={letters}"]
    seqrec_cli.run("train", [*tiny, *own])
    with pytest.raises(SeqrecError, match=r"beside=.*letters: none of its items is among those of ckpt=.*item-8\)"):
        seqrec_cli.run("serve", [f"ckpt={first}", f"beside={letters}", "port=0"])
    with pytest.raises(SeqrecError, match="most_left_out"):
        seqrec_cli.run("serve", [f"ckpt={first}", "most_left_out=-1"])


def test_answers_of_the_page_s_routes_are_json(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asking(address: str, server: Any) -> tuple[Any, Any]:
        with urllib.request.urlopen(f"{address}/items?q=1&limit=3", timeout=30) as answered:
            items = json.load(answered)["items"]
        return items, ask(f"{address}/history?user=3")[1]

    items, history = served(monkeypatch, asking, f"ckpt={first}")
    assert items[0]["item_id"] == 1  # the id that is typed
    assert all(str(item["item_id"]).startswith("1") and item["title"] is None for item in items)
    assert all(item["attributes"]["category"][0].startswith("category-") for item in items)
    assert history["num_events"] == len(history["history"]) >= 10
