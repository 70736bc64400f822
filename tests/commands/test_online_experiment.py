"""`seqrec serve runs=[A,B]` and `seqrec compare log=...`: users whose likes are known, from the socket to the table.

Items stand in a circle, and whoever met an item wants the next one: last-item Markov shows it, popularity seldom does.
"""

import csv
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import torch

import seqrec_cli
from seqrec_cli.commands.recommend import recommending_of
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import EXPOSURE, FEEDBACK, PLAN, line, read_log
from tests.commands.test_serve import started
from tests.serving.live import ask, listening
from tests.serving.test_recommending import request

pytest.importorskip("fastapi", reason="the development extras bring FastAPI")
pytest.importorskip("httptools", reason="the development extras bring it")
pytest.importorskip("prometheus_client", reason="the development extras bring it")
from seqrec_cli.serving.assignment import Assignment

ITEMS, SHOWN = 30, 3
LIKED, OTHERWISE = 0.6, 0.1  # probabilities of a click on the next item of the circle, and on any other
SURE = 3.3 / 1.96  # halves of a 95 % interval that hold 999 of 1,000 draws


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    base: Path = tmp_path_factory.mktemp("online")
    draw = random.Random(0)
    rows = ["user,item,time"]
    for user in range(120):
        first = int(draw.triangular(0, ITEMS, 4))
        rows += [f"{user},{(first + step) % ITEMS},{1_600_000_000 + 60 * step}" for step in range(7)]
    (base / "log.csv").write_text("\n".join(rows) + "\n")
    of_data = ["dataset=csv", f"dataset.archive={base / 'log.csv'}", f"data_dir={base / 'data'}"]
    for model in ("popular", "markov"):
        small = ["evaluation.baselines=false", "evaluation.test=none", "protocol.click_negatives=5"]
        seqrec_cli.run("train", [f"model={model}", *of_data, *small, f"run_dir={base / model}"])
    return [str(base / "popular"), str(base / "markov")]


def clicks(user: str, visit: int, item: int, shown: list[Any]) -> list[Any]:
    draw = random.Random(f"{user} {visit}")
    return [each for each in shown if draw.random() < (LIKED if each == (item + 1) % ITEMS else OTHERWISE)]


def met(user: str, visit: int) -> int:
    return random.Random(f"{user} met {visit}").randrange(ITEMS)


def true_rate(run: str) -> float:
    """Clicks that a list of this run's may expect, over all items that a user may have met."""
    recommending = recommending_of(restore(run, None, None, hardware=AS_TRAINED, tell=lambda line: None))
    lists = [recommending.answer(request(history=[item], top=SHOWN, repeats=None)).items for item in range(ITEMS)]
    return sum(
        LIKED if each == (item + 1) % ITEMS else OTHERWISE for item, shown in enumerate(lists) for each in shown
    ) / len(lists)


class Visitors:
    """Users who come, are shown something, and click on what they like; several at once."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answered: dict[str, tuple[str, str]] = {}  # by exposure: user and arm

    def come(self, users: range, threads: int = 4) -> None:
        parts = [[f"visitor-{user}" for user in users[nth::threads]] for nth in range(threads)]
        with ThreadPoolExecutor(threads) as clients:
            list(clients.map(self._visit, parts))

    def _visit(self, users: list[str]) -> None:
        for user in users:
            for visit in range(1 + random.Random(user).randrange(4)):
                item = met(user, visit)
                answer = self._post("/recommend", {"user": user, "user_history": [item], "top_k": SHOWN})
                self.answered[answer["exposure_id"]] = (user, answer["arm"])
                shown = [each["item_id"] for each in answer["recommendations"]]
                for each in clicks(user, visit, item, shown):
                    said = {"exposure_id": answer["exposure_id"], "item": each, "event": "click"}
                    self._post("/feedback", said)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        """Again where the process that was asked has been killed."""
        until = time.monotonic() + 200
        while time.monotonic() < until:
            try:
                status, answer = ask(self.address + path, body)
            except (OSError, HTTPException):  # nobody answered, or half an answer came
                time.sleep(0.05)
                continue
            assert status == 200, answer
            return answer
        raise TimeoutError


REPLACED = ("another takes its place", "exit code -9")


def workers_of(process: Any) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_the_better_arm_is_found_though_a_process_is_killed(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    words = [f"runs=[{','.join(runs)}]", "split=0.4", "salt=circle", f"log={log}", "workers=2"]
    with started([sys.executable], tmp_path / "said", *words) as (process, address):
        visitors = Visitors(address)
        visitors.come(range(60))
        until = time.monotonic() + 200
        while (tmp_path / "said").read_text().count("nothing to do") < 4:  # two processes, two runs
            assert time.monotonic() < until
            time.sleep(0.1)
        stopped = threading.Timer(0.3, lambda: os.kill(workers_of(process)[0], signal.SIGKILL))
        stopped.start()
        visitors.come(range(60, 120))
        stopped.join()
        while not any(words in (tmp_path / "said").read_text() for words in REPLACED):  # it looks now and then
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=100) == 0
    assignment = Assignment(["popular", "markov"], [0.4, 0.6], "circle")
    for user, arm in visitors.answered.values():
        assert arm == assignment.arms[assignment.arm_of(user)]  # in every process
    counted = read_log(log)
    assert counted.left_out.torn <= 1
    assert counted.left_out.duplicates <= 4  # feedback that was kept, and sent again for want of an answer
    assert {**vars(counted.left_out), "torn": 0, "duplicates": 0} == dict.fromkeys(vars(counted.left_out), 0)
    assert len(visitors.answered) <= counted.exposures_U.sum() <= len(visitors.answered) + 8  # killed before they told
    assert {exposure.encode() for exposure in visitors.answered} <= ids(log)

    found = seqrec_cli.run("compare", [f"log={log}", f"output={tmp_path / 'out'}"])
    assert found["doubts"] == []
    assert {each["metric"]: each["higher"] for each in found["differences"]} == {
        "click per exposure": "markov",
        "click per user": "markov",
    }
    rates = found["metrics"]["click per exposure"]
    truth = [true_rate(run) for run in runs]
    assert truth[1] - truth[0] > 0.3
    # How often intervals hold the truth is for tests/evaluation/test_online.py; one draw is near it.
    for rate, true in zip(rates, truth, strict=True):
        low, high = rate["interval"]
        assert abs(rate["mean"] - true) < SURE * (high - low) / 2
    low, high = rates[1]["difference_interval"]
    assert abs(rates[1]["difference"] - (truth[1] - truth[0])) < SURE * (high - low) / 2
    assert [arm["planned"] for arm in found["arms"]] == [0.4, 0.6]
    printed = capsys.readouterr().out
    assert "click per exposure: higher with markov than with popular, by" in printed
    assert f"{rates[1]['difference']:+.4f} [{low:+.4f}, {high:+.4f}]" in printed
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["metric"], row["arm"]) for row in rows[:2]] == [
        ("click per exposure", "popular"),
        ("click per exposure", "markov"),
    ]
    assert float(rows[1]["difference_low"]) == low
    assert int(rows[1]["users"]) == found["arms"][1]["users"]
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("<svg") == 2
    assert "http" not in page
    assert f"{rates[1]['difference']:+.4f}" in page


def ids(log: Path) -> set[bytes]:
    return {text.split(b'"id":"')[1].split(b'"')[0] for text in log.read_bytes().splitlines() if b'"id":"' in text}


def served(words: list[str], monkeypatch: pytest.MonkeyPatch, use: Callable[[str, Any], None]) -> None:
    """`serve` in this process, for as long as `use` takes."""
    from seqrec_cli.serving.server import Server

    def serving(server: Any, sockets: list[socket.socket]) -> None:
        monkeypatch.undo()
        with listening(server.config.app) as address:
            use(address, server)

    monkeypatch.setattr(Server, "run", serving)
    seqrec_cli.run("serve", [*words, "port=0"])


def test_split_salt_and_log_reach_the_service(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = [*runs, runs[0]]
    names = ["popular", "markov", "popular (3)"]

    def use(address: str, server: Any) -> None:
        for user in range(12):
            _, answer = ask(f"{address}/recommend", {"user": user})
            assert answer["arm"] == names[expected.arm_of(user)]
        told.append(ask(f"{address}/feedback", {"user": 1, "item": 1, "event": "buy"})[0])
        told.append([arm["share"] for arm in ask(f"{address}/health")[1]["arms"]])

    for salt, split, shares in (("one", "[.5,.3,.2]", [0.5, 0.3, 0.2]), ("two", "null", [1 / 3] * 3)):
        told: list[Any] = []
        expected, folder = Assignment(names, shares, salt), tmp_path / salt
        words = [f"runs=[{','.join(arms)}]", f"salt={salt}", f"split={split}", f"log={folder}"]
        served(words, monkeypatch, use)
        assert told == [200, pytest.approx(shares)]
        (file,) = folder.glob("*.jsonl")
        assert file.read_bytes().count(b'{"kind":"exposure"') == 12
        assert read_log(folder).plans[expected.plan].salt == salt
    assert "exposures and feedback are not kept" not in capsys.readouterr().out
    told = []
    expected = Assignment(["popular", "markov"], [0.5, 0.5], "seqrec")
    served([f"runs=[{','.join(runs)}]"], monkeypatch, use)
    assert told[0] == 404
    assert "exposures and feedback are not kept; give log=" in capsys.readouterr().out


def test_one_run_with_a_log_has_one_arm(runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(address: str, server: Any) -> None:
        assert ask(f"{address}/recommend", {"user": 3})[1]["arm"] == "markov"

    served([f"ckpt={runs[1]}", f"log={tmp_path / 'x.jsonl'}"], monkeypatch, use)
    with pytest.raises(SeqrecError, match="the log has one arm, markov; give serve"):
        seqrec_cli.run("compare", [f"log={tmp_path / 'x.jsonl'}"])


def test_each_arm_takes_its_own_newer_checkpoint(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [tmp_path / "old.pt", tmp_path / "new.pt"]
    payload = {
        copy: torch.load(Path(run) / "best.pt", weights_only=True) for copy, run in zip(copies, runs, strict=True)
    }

    def write(copy: Path, epoch: int) -> None:
        torch.save(payload[copy] | {"epoch": epoch}, tmp_path / "written")
        (tmp_path / "written").replace(copy)

    for copy in copies:
        write(copy, 1)
    users = [next(u for u in range(99) if HALVES.arm_of(u) == arm) for arm in (0, 1)]

    def versions(address: str) -> list[str]:
        return [ask(f"{address}/recommend", {"user": user})[1]["model_version"] for user in users]

    def until(address: str, expected: list[str]) -> None:
        limit = time.monotonic() + 60
        while versions(address) != expected:
            assert time.monotonic() < limit, versions(address)
            time.sleep(0.05)

    def use(address: str, server: Any) -> None:
        assert versions(address) == ["epoch_1", "epoch_1"]
        write(copies[1], 2)  # found by watching
        until(address, ["epoch_1", "epoch_2"])
        write(copies[0], 3)
        server._reload()  # as SIGHUP does
        until(address, ["epoch_3", "epoch_2"])

    served([f"runs=[{copies[0]},{copies[1]}]", "salt=s", "watch_s=0.1"], monkeypatch, use)


HALVES = Assignment(["old.pt", "new.pt"], [0.5, 0.5], "s")


def log_of(path: Path, users: int, *, lost: int = 1, salts: tuple[str, ...] = ("s",)) -> Path:
    """Two exposures a user and a click where the arm is the second; of that arm every `lost`th user is missing."""
    lines = []
    for salt in salts:
        plan = Assignment(["old", "new"], [0.5, 0.5], salt)
        lines.append(line(PLAN, 0.0, plan=plan.plan, arms=plan.arms, shares=plan.shares, salt=salt))
        for user in range(users):
            arm = plan.arm_of(user)
            if arm and lost > 1 and user % lost == 0:
                continue
            for nth in range(2):
                facts = {"id": f"{salt}{user}-{nth}", "user": str(user), "arm": plan.arms[arm]}
                lines.append(line(EXPOSURE, 1.0, plan=plan.plan, items=[1, 2], **facts))
            if arm or user % 9 == 0:
                lines.append(
                    line(FEEDBACK, 2.0, exposure=f"{salt}{user}-0", user=None, item="1", event="click", value=3)
                )
    path.write_bytes(b"".join(lines))
    return path


def test_no_winner_is_named_in_doubt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = seqrec_cli.run("compare", [f"log={log_of(tmp_path / 'a.jsonl', 800)}"])
    assert len(found["differences"]) == 3  # of values, too
    assert found["sample_ratio_p"] > 0.001
    assert "no winner" not in capsys.readouterr().out

    found = seqrec_cli.run("compare", [f"log={log_of(tmp_path / 'b.jsonl', 800, lost=3)}", f"output={tmp_path}"])
    assert found["sample_ratio_p"] < 0.001
    assert found["differences"] == []
    says = "WARNING: no winner is named: users are not dealt as planned (sample ratio mismatch, p = "
    assert says in capsys.readouterr().out
    assert says in (tmp_path / "compare.html").read_text()

    found = seqrec_cli.run("compare", [f"log={log_of(tmp_path / 'c.jsonl', 800, salts=('s', 't'))}"])
    printed = capsys.readouterr().out
    crossed = sum(
        Assignment("ab", [0.5, 0.5], "s").arm_of(user) != Assignment("ab", [0.5, 0.5], "t").arm_of(user)
        for user in range(800)
    )
    assert found["left_out"]["crossed"] == crossed > 300
    assert f"left out: {crossed} users seen in two arms" in printed
    assert "no winner is named: the log holds 2 plans" in printed
    assert found["differences"] == []


def test_a_log_without_feedback_has_arms_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [each for each in log_of(tmp_path / "a.jsonl", 60).read_bytes().splitlines(True) if b"feedback" not in each]
    (tmp_path / "b.jsonl").write_bytes(b"".join(lines) + b'{"kind":"fee')
    found = seqrec_cli.run("compare", [f"log={tmp_path / 'b.jsonl'}", f"output={tmp_path / 'out'}"])
    assert found["metrics"] == {}
    assert sum(arm["users"] for arm in found["arms"]) == 60
    printed = capsys.readouterr().out
    assert "no feedback to the exposures of this log" in printed
    assert "left out: 1 torn lines" in printed
    assert (tmp_path / "out" / "compare.csv").read_text().count("\n") == 1
