"""The picture of several runs' convergence: what it draws, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import draw_convergence


def run_of(folder: Path, values: list[float]) -> Path:
    folder.mkdir()
    rows: list[dict[str, Any]] = [
        {"epoch": n, "step": 10 * n, "split": "val", "seconds": 60.0 * n, "ndcg@10": value}
        for n, value in enumerate(values, 1)
    ]
    last = {"epoch": len(values), "step": 10 * len(values)}
    rows.append({**last, "split": "val_swa", "seconds": 999.0, "ndcg@10": 0.9})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_curve_is_the_metric_by_minutes_of_every_validation(tmp_path: Path) -> None:
    found = draw_convergence.curve(run_of(tmp_path / "a", [0.1, 0.3, 0.2]), "ndcg@10")
    assert found == [(1.0, 0.1), (2.0, 0.3), (3.0, 0.2)]


def test_steady_time_counts_epochs_of_the_median_length(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "a", [0.1, 0.3, 0.2, 0.4])
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows[2:4]:
        row["seconds"] += 600.0  # held up before the third validation, once
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert draw_convergence.curve(folder, "ndcg@10")[3] == (14.0, 0.4)
    assert draw_convergence.curve(folder, "ndcg@10", steady=True) == [(1.0, 0.1), (2.0, 0.3), (3.0, 0.2), (4.0, 0.4)]


def test_a_picture_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(run_of(tmp_path / "a", [0.1, 0.3])), f"{run_of(tmp_path / 'b', [0.2])}=second"]
    out = tmp_path / "both.png"
    assert draw_convergence.main([*runs, "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(out)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "no metrics.jsonl"),
        (["a", "--metric", "auc"], "no validation has --metric auc (have: ndcg@10, seconds)"),
        (["a", "--out", "none/x.png"], "no such folder"),
        (["a"] * 8, "8 runs are more"),
    ],
)
def test_bad_input_gets_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    run_of(tmp_path / "a", [0.1])
    monkeypatch.chdir(tmp_path)
    assert draw_convergence.main(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
