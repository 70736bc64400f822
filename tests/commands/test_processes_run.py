"""`seqrec train hardware.processes=2`: the run of one process, by two; one of them is killed; and what is refused."""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from seqrec_cli.commands import beginning_anew, launch, ranks
from seqrec_cli.commands.beginning_anew import going_on
from seqrec_cli.commands.dispatch import run_verb
from seqrec_cli.commands.launch import processes_to_start
from seqrec_cli.commands.training_share import assist
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig, TrainConfig
from seqrec_cli.config.validate import dump, validate

TINY = ["dataset=synthetic", "dataset.users=60", "dataset.items=40", "dataset.max_events=12", "model.dropout=0"]
TINY += ["model.embed_dim=16", "trainer.max_epochs=3", "trainer.batch_size=10", "trainer.patience=null"]
TINY += ["evaluation.baselines=false", "hardware.precision=fp32", "hardware.threads=1"]
ROOT = Path(__file__).resolve().parents[2]
LATE = 8  # steps: in the second epoch of six steps
# The second process ends itself as the system would, where memory runs out, the first time it comes to that step.
KILLED = f"""
import os, signal
from seqrec_cli.training import loop
before = loop.Loop.run_step
def run_step(self, batch):
    first_time = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if self.progress.step == {LATE} and os.environ["RANK"] == "1" and first_time:
        os.kill(os.getpid(), signal.SIGKILL)
    before(self, batch)
loop.Loop.run_step = run_step
"""


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "split")} for row in found]


def test_one_of_two_processes_is_killed_and_the_run_ends_as_that_of_one(
    tmp_path: Path, python: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "PYTHON", python)
    monkeypatch.setattr(launch, "START", launch.START.replace("sys.exit(", f"exec({KILLED!r}); sys.exit("))
    given = [*TINY, f"data_dir={tmp_path / 'data'}"]
    alone = run_verb("train", [*given, f"run_dir={tmp_path / 'one'}"])
    found = run_verb("train", [*given, f"run_dir={tmp_path / 'two'}", "hardware.processes=2"])
    told = capfd.readouterr()
    assert f"the processes begin anew, from the last checkpoint of {tmp_path / 'two'}" in told.out
    assert "has lost another one" in told.err
    assert "Traceback" not in told.err
    assert [row["step"] for row in rows(tmp_path / "two")] == [6, 12, 18]
    for row, expected in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert found["test"] == pytest.approx(alone["test"], rel=1e-4, abs=1e-4)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["processes"]["count"] == 2
    assert manifest["processes"]["restarts"] == 1
    assert (tmp_path / "two" / "DONE").is_file()

    monkeypatch.undo()
    monkeypatch.setattr(launch, "PYTHON", python)
    with pytest.raises(SeqrecError, match="two holds a finished run; name another run_dir"):  # the first one's words
        run_verb("train", [*given, f"run_dir={tmp_path / 'two'}", "hardware.processes=2"])
    assert "Traceback" not in capfd.readouterr().err
    assert "RANK" not in os.environ


def test_torchrun_starts_two_that_learn_what_one_does(tmp_path: Path, python: list[str]) -> None:
    given = [*TINY, "trainer.max_epochs=2", f"data_dir={tmp_path / 'data'}"]
    run_verb("train", [*given, f"run_dir={tmp_path / 'one'}"])
    started = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python", *python]
    command = [*python, *started, "-m", "seqrec_cli", "train", *given, f"run_dir={tmp_path / 'two'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test metrics") == 1  # the first one speaks for both
    assert [row["step"] for row in rows(tmp_path / "two")] == [6, 12]
    for row, expected in zip(rows(tmp_path / "two"), rows(tmp_path / "one"), strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-4)
    manifest = json.loads((tmp_path / "two" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["processes"]["count"], manifest["processes"]["restarts"]) == (2, 0)


def config(*overrides: str) -> TrainConfig:
    record = validate("train", compose("train", [*TINY, *overrides]))
    assert isinstance(record, TrainConfig)
    return record


@pytest.mark.parametrize(
    ("verb", "overrides", "why"),
    [
        ("train", ["model=popular", "hardware=ddp"], "model=popular is counted in one pass by one process"),
        ("tune", ["hardware.processes=2"], "this verb works in one"),
        ("evaluate", ["ckpt=nowhere", "hardware.processes=2"], "this verb works in one"),
        ("train", ["hardware.processes=0"], "hardware.processes"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(verb: str, overrides: list[str], why: str) -> None:
    with pytest.raises(SeqrecError, match=why):
        run_verb(verb, overrides)


def hardware(**changes: Any) -> HardwareConfig:
    return config().hardware.model_copy(update={"device": "auto", **changes})


def test_how_many_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "visible_gpus", lambda: 0)
    assert processes_to_start(hardware()) == 1
    assert processes_to_start(hardware(processes=3)) == 3
    assert processes_to_start(hardware(processes="auto")) == launch.ON_A_CPU
    monkeypatch.setattr(launch, "visible_gpus", lambda: 4)
    assert processes_to_start(hardware(processes="auto")) == 4
    assert processes_to_start(hardware(processes="auto", device="cpu")) == launch.ON_A_CPU
    with pytest.raises(SeqrecError, match=r"hardware\.processes=5: a process takes a GPU, and there are 4"):
        processes_to_start(hardware(processes=5))
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert processes_to_start(hardware()) == 1  # it is one of those
    assert processes_to_start(hardware(processes=2)) == 1
    with pytest.raises(SeqrecError, match=r"hardware\.processes=3: 2 were started on this machine"):
        processes_to_start(hardware(processes=3))


def test_restarts_and_threads_reach_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed.launcher.api as api

    seen: list[Any] = []
    quiet = "ERROR"
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL", raising=False)

    def elastic_launch(asked: Any, program: str) -> Any:
        def run(*words: str) -> None:
            assert os.environ["TORCH_CPP_LOG_LEVEL"] == quiet  # no stack frames of C++ where a connection ends
            seen.extend([asked, os.environ["OMP_NUM_THREADS"], json.loads(Path(words[-1]).read_text(encoding="utf-8"))])
            Path(os.environ[launch.LAUNCHED]).write_text('{"val": {}, "run_dir": "there"}')

        return run

    monkeypatch.setattr(api, "elastic_launch", elastic_launch)
    monkeypatch.chdir(tmp_path)
    cfg = config("hardware.processes=3", "hardware.restarts=7", "hardware.threads=5")
    assert launch.launch(cfg, 3) == {"val": {}, "run_dir": "there"}
    asked, threads, record = seen
    assert (asked.nproc_per_node, asked.max_restarts, threads) == (3, 7, "5")
    assert record["run_dir"].startswith("outputs/")  # so that all attempts know it
    assert not Path(record["run_dir"]).exists()  # nothing was written into it
    assert launch.LAUNCHED not in os.environ
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "INFO")
    quiet = "INFO"  # what was asked for is left as it is
    assert launch.launch(cfg, 3) == {"val": {}, "run_dir": "there"}


def test_the_timeout_reaches_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Met:
        def announce(self, task: str) -> None:
            told.append(json.loads(task))

        def group(self, seconds: float) -> Any:
            told.append(seconds)
            return contextlib.nullcontext()

    monkeypatch.setattr(ranks, "_meeting", Met())
    cfg = config("hardware.timeout_minutes=0.5")
    with ranks.sharing(cfg):
        pass
    assert told == [dump(cfg), 30]


def test_the_timeout_reaches_the_group_of_who_assists(tmp_path: Path) -> None:
    told: list[float] = []

    class MetError(Exception):
        """The group would begin."""

    def group(seconds: float) -> Any:
        told.append(seconds)
        raise MetError

    for setting, seconds in (("hardware.timeout_minutes=0.5", 30), ("hardware.timeout_minutes=2", 120)):
        with pytest.raises(MetError):
            assist(config(setting, f"data_dir={tmp_path}"), group)
        assert told.pop() == seconds


def test_ddp_is_an_option_of_hardware() -> None:
    assert config("hardware=ddp").hardware.processes == "auto"


@pytest.fixture
def of_two(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "mine"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_an_attempt_goes_on_with_what_an_earlier_one_of_its_name_began(
    tmp_path: Path, of_two: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    cfg = config(f"run_dir={folder}")
    assert going_on(cfg) is cfg  # nothing is there
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"processes": {"run": "another's"}}))
    (folder / "last.pt").write_bytes(b"")
    assert going_on(cfg) is cfg  # and will be refused
    (folder / "manifest.json").write_text(json.dumps({"processes": beginning_anew.who_trains({})}))
    again = going_on(cfg)
    assert again.resume == str(folder)
    assert again.run_dir is None
    of_two.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun's word for no name
    (folder / "manifest.json").write_text(json.dumps({"processes": beginning_anew.who_trains({})}))
    assert going_on(cfg) is cfg
    of_two.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert going_on(cfg).resume == str(folder)
    (folder / "last.pt").unlink()
    assert going_on(cfg) is cfg  # from the start
    assert not folder.exists()


def test_an_attempt_of_one_process_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torchrun --nnodes 1:4` begins with the machine that is there, and anew when another one comes."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert beginning_anew.who_trains({}) == {"count": 1}  # of no launcher
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    alone = beginning_anew.who_trains({})
    assert alone == {"count": 1, "machines": 1, "of_this_machine": 1, "run": "mine", "restarts": 0}
    counted = validate("train", compose("train", ["model=popular", f"run_dir={tmp_path / 'counted'}"]))
    assert isinstance(counted, TrainConfig)
    assert going_on(counted) is counted  # one process can, which torchrun has started
    (folder / "manifest.json").write_text(json.dumps({"processes": alone}))
    (folder / "last.pt").write_bytes(b"")
    assert going_on(config(f"run_dir={folder}")).resume == str(folder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert going_on(config(f"run_dir={folder}")).resume == str(folder)
    assert beginning_anew.who_trains({"processes": alone})["restarts"] == 1
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")  # of attempts that left nothing
    assert beginning_anew.who_trains({})["restarts"] == 2


def test_restarts_need_a_folder_to_meet_in(of_two: pytest.MonkeyPatch) -> None:
    of_two.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(SeqrecError, match="give it a name: run_dir=FOLDER"):
        going_on(config())


def test_what_torchrun_cannot_share_is_refused(of_two: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from seqrec_cli import cli

    with pytest.raises(SeqrecError, match="model=markov is counted in one pass by one process"):
        going_on(cast(TrainConfig, validate("train", compose("train", ["dataset=synthetic", "model=markov"]))))
    with pytest.raises(SeqrecError, match=r"hardware\.compile=true: .*activation"):
        going_on(config("model=din", "hardware.compile=true"))
    for words in (["evaluate", "ckpt=x"], ["train", "-m", "trainer.lr=1,2"]):
        assert cli.main(words) == 2
        assert "only one run of train is shared by several" in capsys.readouterr().err
