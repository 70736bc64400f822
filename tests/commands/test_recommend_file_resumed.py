"""`seqrec recommend input= output=`, killed, interrupted or damaged: the same command ends in the same bytes."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import seqrec_cli
from seqrec_cli.commands import recommend_file
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.answer_files import AnswerFile
from tests.commands.to_a_file import HISTORIES, USERS, answered, frame_of, trained


def test_a_killed_command_goes_on_and_ends_in_the_same_bytes(
    run: str, requests: Path, tmp_path: Path, python: list[str]
) -> None:
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    answered(run, "users", whole, "chunk=1", "top=3")
    parts = tmp_path / "killed.parquet.parts"
    words = [*python, "-m", "seqrec_cli", "recommend", f"ckpt={run}", "input=users", f"output={killed}", "chunk=1"]
    running = subprocess.Popen([*words, "top=3"], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    until = time.monotonic() + 120
    while len(list(parts.glob("part-*.json"))) < 5 and running.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    if not killed.exists():  # on a quick machine it was through
        done = sum(not each.name.endswith(".json") for each in parts.glob("part-*"))
        assert done >= 4
        with mock.patch.object(AnswerFile, "write_part", autospec=True, side_effect=AnswerFile.write_part) as writing:
            answered(run, "users", killed, "chunk=1", "top=3")
        assert writing.call_count == USERS - done
    assert killed.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.parquet", "whole.parquet"]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl.gz"])
def test_an_interrupted_command_answers_only_what_is_left(
    run: str, requests: Path, tmp_path: Path, name: str, capsys: Any
) -> None:
    whole, torn = tmp_path / f"whole.{name}", tmp_path / f"torn.{name}"
    counts = answered(run, requests, whole, "chunk=2")
    original, written = AnswerFile.write_part, list[Path]()

    def until_two(self: AnswerFile, table: Any, path: Path) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        original(self, table, path)

    with (
        mock.patch.object(AnswerFile, "write_part", until_two),
        pytest.raises(KeyboardInterrupt, match=r"the same command goes on with .*torn"),
    ):
        answered(run, requests, torn, "chunk=2")
    assert not torn.exists()
    with mock.patch.object(AnswerFile, "write_part", autospec=True, side_effect=original) as writing:
        again = answered(run, requests, torn, "chunk=2")
    assert writing.call_count == 2
    assert torn.read_bytes() == whole.read_bytes()
    assert {**again, "seconds": 0, "output": ""} == {**counts, "seconds": 0, "output": ""}  # of all rows
    assert f"going on with {torn}.parts" in capsys.readouterr().out
    assert not Path(f"{torn}.parts").exists()


def test_another_command_is_refused_on_what_is_half_done(run: str, base: Path, requests: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.csv"
    (tmp_path / "other.jsonl").write_text('{"history": [3]}\n', encoding="utf-8")
    (tmp_path / "deny.txt").write_text("3\n", encoding="utf-8")
    with (
        mock.patch.object(AnswerFile, "join", side_effect=OSError(28, "full")),
        pytest.raises(SeqrecError, match="No space left"),
    ):
        answered(run, requests, torn, "chunk=2", f"deny={tmp_path / 'deny.txt'}")
    (tmp_path / "deny.txt").write_text("4\n", encoding="utf-8")  # the same words, other ids
    deny = f"deny={tmp_path / 'deny.txt'}"
    for settings, differ in (
        ([], "deny"),
        (["top=3"], "top, deny"),
        (["length=3"], "deny, length"),
        (["where={category: [category-00]}", "repeats=true", "batch=3"], "repeats, where, deny, batch"),
        (["mmr=0.5"], "mmr, deny, mmr_pool"),
        (
            [f"hardware.precision={'bf16' if seqrec_cli.load(run)._run.precision.name == 'fp32' else 'fp32'}"],
            "deny, hardware",
        ),
        (["chunk=3"], "chunk, deny"),
    ):
        with pytest.raises(SeqrecError, match=rf"torn.csv.parts has the parts of another command \(other: {differ}\)"):
            answered(run, requests, torn, "chunk=2", deny, *settings)
    with pytest.raises(SeqrecError, match=r"\(other: input, deny\)"):
        answered(run, tmp_path / "other.jsonl", torn, "chunk=2", deny)
    with pytest.raises(SeqrecError, match=r"\(other: ckpt, deny\)"):
        answered(trained(base, "gru4rec"), requests, torn, "chunk=2", deny)
    (tmp_path / "deny.txt").write_text("3\n", encoding="utf-8")
    answered(run, requests, torn, "chunk=2", deny)
    assert len(frame_of(torn)) == 10 * len(HISTORIES)


def test_two_processes_do_not_write_one_file(run: str, requests: Path, tmp_path: Path) -> None:
    def meanwhile(self: AnswerFile, table: Any, path: Path) -> None:
        with pytest.raises(SeqrecError, match="another process is writing it"):
            answered(run, requests, tmp_path / "a.csv")
        original(self, table, path)

    original = AnswerFile.write_part
    with mock.patch.object(AnswerFile, "write_part", meanwhile):
        answered(run, requests, tmp_path / "a.csv")
    assert len(frame_of(tmp_path / "a.csv")) == 10 * len(HISTORIES)


@pytest.mark.parametrize("damaged", ["part-000001", "part-000001.json", "part-000000.json"])
def test_a_damaged_part_is_answered_again(run: str, tmp_path: Path, monkeypatch: Any, damaged: str) -> None:
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    answered(run, "users", whole, "chunk=7", "top=2")
    of, done = recommend_file.AnsweredRows.of, list[int]()

    def three(self: Any, *given: Any, **named: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return of(self, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(recommend_file.AnsweredRows, "of", three)
        with pytest.raises(KeyboardInterrupt):
            answered(run, "users", broken, "chunk=7", "top=2")
    path = tmp_path / "broken.csv.parts" / damaged
    path.write_bytes(path.read_bytes()[:20])
    answered(run, "users", broken, "chunk=7", "top=2")
    assert broken.read_bytes() == whole.read_bytes()
