"""Names of a sweep's folders, and reading only one's own reports."""

from pathlib import Path

from seqrec_cli.commands.sweep import Sweep, job_folder, varying_keys


def test_folder_names_are_safe_and_short() -> None:
    said = ["model=bst", "dataset.archive='/data/ml 1m=(2).zip'", "run_dir=x/y", "model.mlp=[64,32]"]
    assert job_folder(0, said, ["model"]) == "0_model-bst"
    assert job_folder(3, said, ["model.mlp", "dataset.archive"]) == "3_archive-ml-1m-2.zip_mlp-64-32"
    assert job_folder(4, said, []) == "4"
    keys = [f"trainer.key{i}" for i in range(50)]
    name = job_folder(12, [f"{key}=1" for key in keys], keys)
    assert name.startswith("12_key0-1_key1-1_")
    assert len(name) <= 120


def test_reports_of_an_earlier_sweep_are_left_out(tmp_path: Path) -> None:
    report = tmp_path / "jobs.jsonl"
    assert Sweep(tmp_path, 0).rows() == []
    report.write_text('{"job": 0, "old": 1}\n')
    later = Sweep(tmp_path, report.stat().st_size)
    with report.open("a") as file:
        file.write('{"job": 1}\n{"job": 0}\n')
    assert later.rows() == [{"job": 0}, {"job": 1}]


def test_what_varies_is_told_by_the_command_line() -> None:
    assert varying_keys(["model=bst,din", "trainer.lr=1e-3", "trainer.seed=range(3)"]) == ["model", "trainer.seed"]
