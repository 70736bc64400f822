"""The seal: a sweep, seeds and an ensemble choose by validation; test is read for the chosen one, and counted."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import seqrec_cli
from seqrec_cli import cli
from seqrec_cli.commands.seal import open_test
from seqrec_cli.commands.sweep import Sweep, end_sweep
from seqrec_cli.config.migrations import migrated
from seqrec_cli.evaluation import evaluate as evaluate_module
from seqrec_cli.reporting.openings import LEDGER, count_opening, new_opening
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.sweep_folder import Launch, SweepFolder

TINY = [
    "dataset=synthetic",
    "dataset.users=60",
    "dataset.items=40",
    "dataset.max_events=12",
    "model=sasrec",
    "model.max_length=10",
    "model.embed_dim=8",
    "model.blocks=1",
    "model.heads=1",
    "model.ffn_dim=8",
    "trainer.max_epochs=1",
    "trainer.batch_size=32",
    "evaluation.baselines=false",
]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each split is ranked, by whichever model."""
    counts: Counter[str] = Counter()
    rank = evaluate_module.rank_held_out

    def spy(model, log, split, *args, **kwargs):
        counts[split] += 1
        return rank(model, log, split, *args, **kwargs)

    monkeypatch.setattr(evaluate_module, "rank_held_out", spy)
    return counts


def options(base: Path, *more: str) -> list[str]:
    return [*TINY, f"data_dir={base / 'data'}", *more]


def sweep(base: Path, *more: str) -> tuple[int, list[Path]]:
    """Its exit code, and the folders of its jobs."""
    code = cli.main(
        [
            "train",
            "-m",
            "hydra/launcher=inline",
            *options(base, f"run_dir={base / 'sweep'}", "trainer.lr=1e-4,1e-2,1e-3", *more),
        ]
    )
    rows = [json.loads(line) for line in (base / "sweep" / "jobs.jsonl").read_text().splitlines()]
    return code, [Path(row["run_dir"]) for row in rows]


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def ledger(base: Path) -> list[dict]:
    path = base / "data" / LEDGER
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_sweep_reads_the_test_of_its_best_job_alone(tmp_path: Path, read: Counter[str], capsys) -> None:
    code, folders = sweep(tmp_path)
    assert (code, read["test"]) == (0, 1)
    out = capsys.readouterr().out
    table = out[out.index("┏") :]
    assert "val ndcg@10" in table
    assert "test " not in table[: table.index("└")]
    assert "test opened 1 time under this protocol on this machine's" in " ".join(table.split())
    values = [metrics(folder)["val"]["ndcg@10"] for folder in folders]
    best = values.index(max(values))
    assert ["test" in metrics(folder) for folder in folders] == [nth == best for nth in range(3)]
    assert [(folder / "ranks_test.parquet").exists() for folder in folders] == [nth == best for nth in range(3)]
    assert metrics(folders[0])["protocol"] == metrics(folders[1])["protocol"]  # so that compare split=val takes all
    rows = [json.loads(line) for line in (tmp_path / "sweep" / "jobs.jsonl").read_text().splitlines()]
    assert [list(row["metrics"]) for row in rows] == [["val"]] * 3
    # The same as of a run of its own, with the same files.
    lr = ["1e-4", "1e-2", "1e-3"][best]
    alone = seqrec_cli.run("train", options(tmp_path, f"trainer.lr={lr}", f"run_dir={tmp_path / 'alone'}"))
    assert {**metrics(folders[best]), "test_opened": None} == {**metrics(tmp_path / "alone"), "test_opened": None}
    assert alone["test_opened"] == 2
    assert {path.name for path in folders[best].iterdir()} == {path.name for path in (tmp_path / "alone").iterdir()}
    manifest = RunFolder(folders[best]).read_manifest()
    assert [opening["by"] for opening in manifest["test_openings"]] == ["train"]


@pytest.mark.parametrize(("setting", "times"), [("none", 0), ("all", 2)])
def test_the_setting_says_what_a_sweep_reads(
    tmp_path: Path, read: Counter[str], capsys, monkeypatch, setting: str, times: int
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, folders = sweep(tmp_path, f"evaluation.test={setting}", "trainer.lr=1e-3,1e-2")
    assert (code, read["test"], len(ledger(tmp_path))) == (0, times, times)
    assert ("test ndcg@10" in capsys.readouterr().out) == (setting == "all")
    assert sum("test" in metrics(folder) for folder in folders) == times


def test_each_test_set_of_a_sweep_has_its_best_job(tmp_path: Path, read: Counter[str]) -> None:
    arguments = options(tmp_path, "dataset.seed=0,1", f"run_dir={tmp_path / 'sweep'}")
    assert cli.main(["train", "-m", "hydra/launcher=inline", *arguments]) == 0
    assert read["test"] == 2
    assert len({line["fingerprint"] for line in ledger(tmp_path)}) == 2


def test_the_best_by_a_loss_has_the_lowest(tmp_path: Path) -> None:
    code, folders = sweep(tmp_path, "trainer.monitor=logloss")
    values = [metrics(folder)["val"]["logloss"] for folder in folders]
    assert code == 0
    assert ["test" in metrics(folder) for folder in folders] == [value == min(values) for value in values]


def test_jobs_chosen_by_several_metrics_have_no_best(tmp_path: Path, read: Counter[str], capsys) -> None:
    code, folders = sweep(tmp_path, "trainer.lr=1e-3", "trainer.monitor=mrr,auc")
    assert (code, read["test"], len(folders)) == (0, 0, 2)
    assert "test stays sealed: no job is the best, for they were chosen by several metrics" in capsys.readouterr().out


def test_a_job_of_another_process_is_opened_from_its_checkpoint(tmp_path: Path, read: Counter[str], capsys) -> None:
    """Only `jobs.jsonl` and the folders are there, as after hydra/launcher=... on other machines."""
    words = ["evaluation.test=best", f"run_dir={tmp_path / 'sweep' / '0'}"]
    result = seqrec_cli.run("train", options(tmp_path, *words))
    assert "test" not in result
    fact = {"fingerprint": result["protocol"]["fingerprint"], "seal": "best", "metrics": {}, "spread": {}}
    row = {"job": 0, "overrides": [], "monitor": "ndcg@10", "val": 0.1, "run_dir": result["run_dir"], "error": None}
    lost = {**row, "job": 1, "val": 0.2, "run_dir": str(tmp_path / "lost")}
    jobs = tmp_path / "sweep" / "jobs.jsonl"
    lock = FileLock(jobs.with_name(".sweep.lock"), timeout=0)
    jobs.write_text(json.dumps(row | fact) + "\n")
    assert end_sweep(Sweep(SweepFolder(jobs.parent), lock, Launch(None)), "train", completed=True)
    assert metrics(Path(result["run_dir"]))["test"] == seqrec_cli.run("evaluate", [f"ckpt={result['run_dir']}"])["test"]
    assert read["test"] == 2
    jobs.write_text(json.dumps(lost | fact) + "\n")
    capsys.readouterr()
    assert not end_sweep(Sweep(SweepFolder(jobs.parent), lock, Launch(None)), "train", completed=True)
    assert "test of job 1 stays sealed: " in capsys.readouterr().out


def test_all_seeds_are_one_opening(tmp_path: Path, read: Counter[str]) -> None:
    """Read at the run's end, after a sweep, or when more seeds are added; another configuration is another one."""
    folder = tmp_path / "seeds"
    result = seqrec_cli.run("train", options(tmp_path, "trainer.seeds=2", f"run_dir={folder}"))
    assert (result["test_opened"], read["test"]) == (1, 2)
    more = seqrec_cli.run("train", [f"resume={folder}", "trainer.seeds=3"])
    assert (more["test_opened"], read["test"]) == (1, 3)
    words = ["trainer.lr=1e-2", "trainer.seeds=2", f"run_dir={tmp_path / 'sweep'}"]
    assert cli.main(["train", "-m", "hydra/launcher=inline", *options(tmp_path, *words)]) == 0
    assert read["test"] == 5
    [job] = [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]
    assert "test" in json.loads((job / "seeds.json").read_text())
    assert [metrics(job / f"seed_{seed}")["test_opened"] for seed in (0, 1)] == [2, 2]
    assert len({line["opening"] for line in ledger(tmp_path)}) == 2


def test_sealed_seeds_are_opened_by_resuming_them(tmp_path: Path, read: Counter[str]) -> None:
    words = ["trainer.seeds=2", "evaluation.test=none", f"run_dir={tmp_path / 'seeds'}"]
    sealed = seqrec_cli.run("train", options(tmp_path, *words))
    assert "test" not in sealed
    assert sealed["spread"]["ndcg@10"] >= 0
    opened = seqrec_cli.run("train", [f"resume={tmp_path / 'seeds'}", "evaluation.test=once"])
    assert (read["test"], opened["val"]) == (2, sealed["val"])
    assert opened["test_opened"] == 1
    assert open_test(str(tmp_path / "seeds"), "train")["test"] == opened["test"]


def test_an_ensemble_reads_test_for_itself_alone(tmp_path: Path, read: Counter[str]) -> None:
    runs = []
    for seed in (0, 1):
        run_dir = tmp_path / f"run{seed}"
        words = [f"trainer.seed={seed}", "evaluation.test=none", f"run_dir={run_dir}"]
        runs.append(seqrec_cli.run("train", options(tmp_path, *words))["run_dir"])
    for test, times in (("none", 0), ("once", 1)):
        words = [f"ckpts=[{','.join(runs)}]", f"test={test}", f"run_dir={tmp_path / test}"]
        found = seqrec_cli.run("ensemble", words)
        assert (read["test"], "test" in found) == (times, times == 1)
    assert found["test_opened"] == 1


def test_every_reading_is_counted_and_shown(tmp_path: Path, capsys) -> None:
    run = seqrec_cli.run("train", options(tmp_path, f"run_dir={tmp_path / 'run'}"))
    folder = RunFolder(tmp_path / "run")
    assert metrics(folder.path)["test_opened"] == run["test_opened"] == 1
    capsys.readouterr()
    again = seqrec_cli.run("evaluate", [f"ckpt={folder.path}"])
    assert again["test_opened"] == 2
    assert "test opened 2 times under this protocol on this machine's data folder" in " ".join(
        capsys.readouterr().out.split()
    )
    assert "test_opened" not in seqrec_cli.run("evaluate", [f"ckpt={folder.path}", "split=val"])
    trained = seqrec_cli.load(folder.path)
    trained.evaluate("val")
    assert len(ledger(tmp_path)) == 2
    assert trained.evaluate("test") == run["test"]
    trained.ranks("test")  # the same object asks: the same opening
    lines = ledger(tmp_path)
    assert [line["by"] for line in lines] == ["train", "evaluate", "Trained", "Trained"]
    assert len({line["opening"] for line in lines}) == 3
    assert [opening["by"] for opening in folder.read_manifest()["test_openings"]] == [line["by"] for line in lines]
    other = seqrec_cli.run("train", options(tmp_path, "dataset.seed=3", f"run_dir={tmp_path / 'other'}"))
    assert other["test_opened"] == 1


@pytest.mark.parametrize(("test", "split"), [("none", "val"), ("once", "test")])
def test_baselines_are_of_the_split_they_stand_beside(
    test: str, split: str, tmp_path: Path, read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def beside(log, split, **_):
        asked.append(split)
        return {"popular": {"mrr": 0.5}}

    monkeypatch.setattr("seqrec_cli.commands.measure.baselines", beside)
    words = [word for word in TINY if "baselines" not in word] + [f"data_dir={tmp_path / 'data'}"]
    found = seqrec_cli.run("train", [*words, f"evaluation.test={test}", f"run_dir={tmp_path / 'run'}"])
    assert asked == [split]
    assert found["baselines_val" if test == "none" else "baselines"] == {"popular": {"mrr": 0.5}}
    assert read["test"] == (split == "test")


def test_cold_parts_are_of_their_own_split(tmp_path: Path) -> None:
    words = ["protocol=global_time", "protocol.seen=keep", "dataset.items=200", f"run_dir={tmp_path / 'run'}"]
    found = seqrec_cli.run("train", options(tmp_path, *words))
    counts = found["protocol"]["counts"]
    assert found["parts"]["test"]["cold targets"]["targets"] == counts["cold_targets"]
    assert found["parts"]["val"] != found["parts"]["test"]
    val = seqrec_cli.run("evaluate", [f"ckpt={tmp_path / 'run'}", "split=val"])
    assert val["parts"]["val"] == found["parts"]["val"]
    assert val["protocol"]["split"] == "val"


def test_openings_at_once_are_all_counted(saved_log, tmp_path: Path) -> None:
    def count(_: int) -> int | None:
        return count_opening(saved_log, "train", opening=new_opening(), run=None)

    path = saved_log.folder.parent / LEDGER
    try:
        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(count, range(24))) == list(range(1, 25))
        path.unlink()
        path.mkdir()  # nobody can write there
        assert count(0) is None
    finally:
        path.rmdir()


def test_a_run_from_before_the_seal_is_read_as_it_was(tmp_path: Path) -> None:
    run = seqrec_cli.run("train", options(tmp_path, f"run_dir={tmp_path / 'run'}"))
    payload = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    del payload["config"]["evaluation"]["test"]
    assert migrated(payload["config"])["evaluation"]["test"] == "once"
    torch.save(payload, tmp_path / "run" / "best.pt")
    assert seqrec_cli.run("evaluate", [f"ckpt={tmp_path / 'run'}"])["test"] == run["test"]


def test_finished_jobs_are_opened_where_a_later_start_asks_for_it(tmp_path: Path, read: Counter[str]) -> None:
    sweep(tmp_path, "evaluation.test=none", "trainer.lr=1e-3,1e-2")
    validations = read["val"]
    code, _ = sweep(tmp_path, "trainer.lr=1e-3,1e-2")
    assert (code, read["val"], read["test"]) == (0, validations, 1)
