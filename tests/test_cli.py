"""The command line: flags, exit codes, one line for each refusal, and nothing heavy before it is needed."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

import seqrec_cli
from seqrec_cli import cli
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.verbs import VERBS

REPO = Path(__file__).resolve().parents[1]
Seen = list[Any]


@pytest.fixture
def fake_train(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """A `train` that keeps the records it gets. Its 'metric' is the learning rate; it refuses seed 13."""
    seen: Seen = []

    def command(cfg: TrainConfig) -> dict[str, Any]:
        seen.append(cfg)
        if cfg.trainer.seed == 13:
            raise SeqrecError("no luck with 13\nat all")
        if cfg.trainer.seed == 99:
            return {"interrupted": True}
        if cfg.trainer.seed == 404:
            raise KeyError("a bug")
        numbers = {"ndcg@10": cfg.trainer.lr, "hr@10": 2 * cfg.trainer.lr, "auc": 0.5, "logloss": 0.7}
        return {"val": numbers, "run_dir": cfg.run_dir}

    def opened(run_dir: str, by: str) -> None:
        print(f"{by} opens the test of {run_dir}")

    monkeypatch.setitem(sys.modules, "seqrec_cli.commands.train", SimpleNamespace(main=command))
    monkeypatch.setitem(sys.modules, "seqrec_cli.commands.seal", SimpleNamespace(open_test=opened))
    return seen


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


WATCHED = """
import sys
from seqrec_cli.cli import main
code = main(sys.argv[1:])
print(code, [name for name in ("hydra", "pydantic", "torch", "numpy", "rich") if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("triton", [False, True])
def test_what_ends_is_not_searched_for_cycles(triton: bool) -> None:
    """Torch has so many objects that the search took a second of every command; triton lists what was not searched."""
    code = (
        "import atexit, gc, sys; from seqrec_cli.cli import main\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))  # after what main registers\n"
        f"sys.modules.update({{'triton': gc}} if {triton} else {{}})\n"
        "main(['--version'])"
    )
    assert python(code).stdout.splitlines()[-1] == str(not triton)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["trian"]])
def test_overview_needs_only_the_standard_library(arguments: list[str]) -> None:
    done = python(WATCHED, *arguments)
    assert done.stderr.splitlines()[-1] == f"{2 if arguments == ['trian'] else 0} []"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "trainer.lr=-1"], 2, "seqrec train: trainer.lr=-1: expected number > 0"),
        (
            ["train", "model=bst", "dataset=csv", "model.embed_dim=64", "model.heads=5"],
            2,
            "model.embed_dim=64 is not divisible by",
        ),
        (["train", "model=ensemble", "model.members.lrurec.ring=[1,2]"], 2, "model.ring=[1.0, 2.0]: two decays"),
        (["train", "model=din", "--help"], 0, "model.unit=[36]"),
        (["--complete", "train", "model=hstu", "model.time_bias="], 0, "model.time_bias=target"),
    ],
    ids=lambda given: given[-1] if isinstance(given, list) else "",
)
def test_refusals_help_and_completion_need_no_torch(arguments: list[str], code: int, says: str) -> None:
    done = python(WATCHED, *arguments)
    *said, modules = done.stderr.splitlines()
    assert says in (said[0] if code else done.stdout)
    assert modules.startswith(f"{code} ")
    assert "pydantic" in modules
    assert "torch" not in modules


def test_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)
    assert "completion bash|zsh|fish" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"seqrec {seqrec_cli.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evalute"], "seqrec: no verb 'evalute'; did you mean 'evaluate'?"),
        (["model=bst"], "the verb comes first: seqrec VERB model=bst"),
        (["train", "--multirnu"], "unrecognized arguments: --multirnu; did you mean '--multirun'?"),
        (["train", "--cfg", "jbo"], "invalid choice: 'jbo'"),
        (["train", "model=sasrek"], "seqrec train: model=sasrek: no such option; did you mean 'sasrec'?"),
        (["train", "--cfg", "job", "trainer.lrr=1"], "did you mean 'trainer.lr'?"),
        (["train", "-m", "model=sasrec,sasrek"], "model=sasrek: no such option; did you mean 'sasrec'?"),
        (["train", "sweep=samplers"], "seqrec train: sweep=samplers: its values are of several runs; add -m"),
        (["train", "--help", "modle=bst"], "did you mean 'model'?"),
        (["train", "--config-dir", "/no/such/folder"], "/no/such/folder"),
        (["train", "ml.csv"], "'ml.csv' names no setting: a log of your own is given as dataset=csv dataset.archive="),
        (["train", "dataset=my.csv"], "a log of your own is given as dataset=csv dataset.archive=my.csv"),
        (["evaluate", "runs/best.pt"], "'runs/best.pt' names no setting: a run is given as ckpt=runs/best.pt"),
        (["preprocess", "dataset.name='my log'"], "dataset.name=my log: a name is made of letters, digits and . _ + -, "
         "as in dataset.name=my-log"),
        (["preprocess", "dataset=csv", "dataset.time_unit=msec"], "order or text such as %d/%m/%Y, strptime's codes"),
        (["metrics", "ndcg", "mrr"], "seqrec metrics: ndcg mrr: give one word, it is the name"),
        (["leaderboard", "runs", "others"], "runs others: give one word"),
        (["completion", "tcsh"], "name one of bash, zsh, fish"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)  # fmt: skip
def test_refusals_are_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def test_cfg_of_a_verb_whose_mandatory_key_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "--cfg", "job"]) == 0
    assert "ckpt: ???" in capsys.readouterr().out


def test_cfg_of_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--cfg", "job", "-p", "trainer", "trainer.lr=0.5"]) == 0
    text = capsys.readouterr().out
    assert "lr: 0.5" in text
    assert "embed_dim" not in text


def test_help_of_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "model=bst", "--help"]) == 0
    text = capsys.readouterr().out
    assert "*bst" in text
    assert "trainer.lr=auto" in text


def test_run_seals_and_leaves_the_process_as_it_was(fake_train: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    argv = list(sys.argv)
    assert cli.main(["train", "trainer.lr=0.5", "run_dir=null"]) == 0
    assert isinstance(fake_train[0], TrainConfig)
    assert fake_train[0].trainer.lr == 0.5
    assert fake_train[0].run_dir is None
    assert sys.argv == argv
    assert "HYDRA_FULL_ERROR" not in os.environ
    assert not GlobalHydra.instance().is_initialized()


def test_command_may_refuse(fake_train: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "trainer.seed=13"]) == 2
    assert capsys.readouterr().err == "seqrec train: no luck with 13 at all\n"


def test_interrupted(fake_train: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "trainer.seed=99"]) == 130
    assert capsys.readouterr().err == "seqrec: interrupted\n"


def test_bug_keeps_its_traceback(fake_train: Seen) -> None:
    with pytest.raises(KeyError, match="a bug"):
        cli.main(["train", "trainer.seed=404"])


def test_options_of_an_extra_folder(fake_train: Seen, tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "slow.yaml").write_text("defaults:\n  - auto\n  - _self_\nthreads: 1\n")
    assert cli.main(["train", "hardware=slow", "--config-dir", str(tmp_path)]) == 0
    assert fake_train[0].hardware.threads == 1


def test_python_entrance_runs_the_same(fake_train: Seen) -> None:
    result = seqrec_cli.run("train", ["trainer.lr=0.5", "model=bst"])
    assert result["val"]["hr@10"] == 1.0
    assert fake_train[0].model.name == "bst"
    with pytest.raises(SeqrecError, match=r"did you mean 'trainer\.lr'"):
        seqrec_cli.run("train", ["trainer.lrr=1"])


def test_sweep(
    fake_train: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["train", "model=sasrec", "-m", "trainer.lr=0.1,0.3,0.2", "trainer.seed=1,13", "run_dir=runs"]
    assert cli.main([*arguments, "hydra/launcher=inline"]) == 2  # three of the jobs refuse

    folders = [record.run_dir for record in fake_train]
    assert len(set(folders)) == 6
    assert folders[2] == "runs/2_lr-0.3_seed-1"
    printed = capsys.readouterr()
    refused = "seqrec train model=sasrec trainer.lr=0.1 trainer.seed=13 run_dir=runs: no luck with 13 at all"
    assert printed.err.splitlines()[0] == refused
    assert "best by validation ndcg@10: job 2 (0.3000), in runs/2_lr-0.3_seed-1" in printed.out
    assert "test hr@10" not in printed.out
    assert printed.out.count("opens the test") == printed.out.count("train opens the test of runs/2_") == 1
    header = next(line for line in printed.out.splitlines() if "val hr@10" in line)
    assert "trainer.lr" in header
    assert "trainer.seed" in header
    assert "model" not in header  # the same in every job
    assert printed.out.count("no luck with 13") == 3

    rows = [json.loads(line) for line in (tmp_path / "runs" / "jobs.jsonl").read_text().splitlines()]
    assert [row["job"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[2]["metrics"] == {"val": {"hr@10": 0.6, "ndcg@10": 0.3, "auc": 0.5}}


def test_sweep_without_run_dir_and_a_lower_better_metric(
    fake_train: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "-m", "hydra/launcher=inline", "trainer.lr=0.1,0.2", "trainer.monitor=logloss"]) == 0
    assert all(record.run_dir.startswith("outputs/sweeps/") for record in fake_train)
    assert "best by validation logloss: job 0 (0.7000)" in capsys.readouterr().out


def test_interrupted_job_ends_the_sweep_with_a_table(
    fake_train: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "-m", "hydra/launcher=inline", "trainer.seed=1,99,2"]) == 130
    assert [record.trainer.seed for record in fake_train] == [1, 99]
    out = capsys.readouterr().out
    assert "best by validation ndcg@10: job 0" in out
    assert "opens the test" not in out
    told = out.partition("test stays sealed: the sweep was not finished; read one with: seqrec ")[2].splitlines()[0]
    folder = fake_train[0].run_dir
    assert folder.endswith("0_seed-1")
    verb, override = shlex.split(told)
    assert compose(verb, [override]).ckpt == folder


def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def command(cfg: TrainConfig) -> dict[str, Any]:
        raise PermissionError(13, "Permission denied", cfg.data_dir)

    monkeypatch.setitem(sys.modules, "seqrec_cli.commands.train", SimpleNamespace(main=command))
    assert cli.main(["train", "data_dir=there"]) == 2
    assert capsys.readouterr().err == "seqrec train: there: Permission denied\n"


def test_a_reader_that_leaves_ends_no_run() -> None:
    code = (
        "import sys; from seqrec_cli.commands.console import say\n"
        "for number in range(3):\n    say('x' * 100_000)\n"
        "print('done', file=sys.stderr)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"done\n"
    assert process.wait() == 0
