"""A sweep's folder, its lines while it runs, its leaderboard, pictures and page."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.reporting.sweep_board import write_boards
from seqrec_cli.reporting.sweep_folder import Launch, Row, SweepFolder, empty_row
from seqrec_cli.reporting.sweep_live import Watch, progress
from seqrec_cli.reporting.sweep_page import write_page
from seqrec_cli.reporting.sweep_pictures import curve_of
from seqrec_cli.reporting.sweep_rank import best_of, monitors_of, ranked, repeat_command, varying


def row(job: int, lr: str, heads: int, **facts: Any) -> Row:
    found = empty_row(job, ["model=bst", f"trainer.lr={lr}", f"model.heads={heads}", f"run_dir=x/{job}"])
    found |= {"monitor": "ndcg@10", "seconds": 10.0, "state": "done", "metrics": {"val": {"hr@10": 0.5}}}
    return found | facts


ROWS = [
    row(0, "1e-3", 2, val=0.1, fingerprint="aaa"),
    row(1, "1e-3", 4, val=0.3, fingerprint="aaa"),
    row(2, "1e-2", 2, val=0.2, fingerprint="aaa"),
    row(3, "1e-2", 4, val=None, monitor=None, metrics={}, state="killed", error="killed by signal 9"),
]


def test_the_last_row_of_a_job_counts_and_a_cut_one_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = SweepFolder(tmp_path)
    assert folder.rows() == []
    folder.append(ROWS[3])
    with folder.jobs_jsonl.open("ab") as file:
        file.write(b'{"job": 9, "va')  # its writer was killed
    folder.append(ROWS[0])
    folder.append(ROWS[3] | {"state": "done", "error": None})
    assert [(found["job"], found["state"]) for found in folder.rows()] == [(0, "done"), (3, "done")]
    assert "a line is cut" in capsys.readouterr().err
    folder.jobs_jsonl.write_text('{"job": 5, "overrides": ["a=1"], "error": null}\n')  # of an older version
    assert folder.rows() == [empty_row(5, ["a=1"])]


def test_the_best_come_first_and_failed_ones_last() -> None:
    assert [found["job"] for found in ranked(ROWS, ["ndcg@10"])] == [1, 2, 0, 3]
    assert [found["job"] for found in ranked(ROWS, ["loss"])] == [0, 2, 1, 3]
    assert best_of(ROWS, monitors_of(ROWS)) is ROWS[1]
    assert best_of(ROWS, ["ndcg@10", "auc"]) is None
    assert varying(ROWS) == ["trainer.lr", "model.heads"]


def test_the_command_of_a_run_can_be_pasted() -> None:
    found = row(0, "1e-3", 2) | {"overrides": ["dataset.archive='/a b.zip'", "run_dir=x", "trainer.lr=1"]}
    command = repeat_command("train", found)
    assert shlex.split(command) == ["seqrec", "train", "dataset.archive='/a b.zip'", "trainer.lr=1"]


def test_lines_tell_how_far_the_sweep_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SweepFolder(tmp_path)
    folder.append(ROWS[0])
    numbers = folder.plan([found["overrides"] for found in ROWS])
    launch = Launch(numbers, at_once=2, threads=1, gpus=("0", "1"))
    watch = Watch(folder, launch)
    begins = watch.beginning()
    assert begins.startswith("4 jobs, 2 at once, 1 thread each, GPUs 0, 1 in turn, 1 done before")
    monkeypatch.setattr("seqrec_cli.reporting.sweep_live.time.time", lambda: watch.began + 30)
    folder.append(ROWS[1])
    folder.append(ROWS[3])
    folder.begin(2, {"row": ROWS[2], "began": watch.began + 20})
    summary = "3 of 4 ended, 1 failed, 1 running, best job 1 (0.3000), ~15 s left"
    assert watch.summary(folder.rows()) == summary
    killed = folder.rows()[2]
    told = f"job 3 killed: lr=1e-2 heads=4, killed by signal 9, 10 s; {summary}"
    assert watch.line(killed, folder.rows(), watch.keys) == told
    table = watch.table()
    assert [column.header for column in table.columns] == ["job", "settings", "state", "epoch", "validation", "seconds"]
    assert list(table.columns[0].cells) == ["1", "3", "2"]  # what ended since the start, then what runs
    assert list(table.columns[5].cells)[-1] == "10"


def validations(run: Path, *values: float) -> str:
    run.mkdir(parents=True)
    rows = [{"epoch": n, "step": n, "split": "val", "ndcg@10": value} for n, value in enumerate(values, 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return str(run)


def test_curves_are_those_of_the_runs_and_of_seeds_the_mean(tmp_path: Path) -> None:
    one = row(0, "1", 1, run_dir=validations(tmp_path / "one", 0.1, 0.2))
    assert curve_of(one, "ndcg@10") == [(1, 0.1), (2, 0.2)]
    assert progress(one) == ("2", "0.2000")
    validations(tmp_path / "several" / "seed_0", 0.1, 0.2)
    validations(tmp_path / "several" / "seed_1", 0.3)
    assert curve_of(row(1, "1", 1, run_dir=str(tmp_path / "several")), "ndcg@10") == [(1, 0.2)]
    assert curve_of(row(2, "1", 1, run_dir=None), "ndcg@10") == []


def test_the_folder_has_a_board_pictures_and_a_page_in_one_file(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep")
    folder.path.mkdir()
    rows = [found | {"run_dir": validations(tmp_path / str(found["job"]), 0.05, found["val"] or 0.1)} for found in ROWS]
    rows[2] |= {"fingerprint": "bbb"}
    write_boards(folder, rows, [rows[1]])
    with folder.board_csv.open(newline="") as file:
        board = list(csv.DictReader(file))
    assert [line["job"] for line in board] == ["1", "2", "0", "3"]
    assert board[0]["val ndcg@10"] == "0.3000"
    assert [line["data, protocol"] for line in board] == ["aaa", "bbb", "aaa", ""]
    assert board[3]["error"] == "killed by signal 9"
    assert "- job 3 killed: killed by signal 9" in folder.board_md.read_text()
    write_page(folder, rows, [rows[1]], verb="train")
    page = folder.page_html.read_text()
    assert page.count('src="data:image/png;base64,') == 2
    assert "http" not in page  # nothing is fetched
    assert "seqrec train model=bst trainer.lr=1e-3 model.heads=4" in page
    assert "killed by signal 9" in page
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder.coordinates_png, folder.curves_png))


def test_a_page_without_numbers_has_no_pictures(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    write_page(folder, [ROWS[3]], [], verb="train")
    assert "base64" not in folder.page_html.read_text()
    assert not folder.curves_png.exists()
