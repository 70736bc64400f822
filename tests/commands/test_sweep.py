"""Names of a sweep's folders, and reading only one's own reports."""

from pathlib import Path

from seqrec_cli.commands.sweep import Sweep, job_folder


def test_folder_names_are_safe_and_short() -> None:
    assert job_folder(0, ["model=bst", "run_dir=x/y"]) == "0_model=bst"
    assert job_folder(3, ["dataset.archive='/data/ml 1m.zip'", "+sweep=lr"]) == "3_dataset.archive=ml1m.zip_sweep=lr"
    assert job_folder(4, []) == "4"
    name = job_folder(12, [f"trainer.key{i}=[1,2,{i}]" for i in range(50)])
    assert name.startswith("12_trainer.key0=1,2,0_")
    assert len(name) <= 120


def test_reports_of_an_earlier_sweep_are_left_out(tmp_path: Path) -> None:
    report = tmp_path / "jobs.jsonl"
    assert Sweep(tmp_path, 0).rows() == []
    report.write_text('{"job": 0, "old": 1}\n')
    later = Sweep(tmp_path, report.stat().st_size)
    with report.open("a") as file:
        file.write('{"job": 1}\n{"job": 0}\n')
    assert later.rows() == [{"job": 0}, {"job": 1}]
