"""Two commands on one study's folder, with paths of their own as on two machines; one is killed while it trains."""

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from seqrec_cli.reporting.run_folder import RunFolder, read_rows
from seqrec_cli.tuning.folder import StudyFolder

pytest.importorskip("optuna")
ROOT = Path(__file__).resolve().parents[2]
# Both wait in the middle of their first run until the other one trains too; then the one that is told to dies.
TERMINAL = """
import os, sys, time
from pathlib import Path
from seqrec_cli.cli import main
from seqrec_cli.tuning.study import Claim

dies, *words = sys.argv[1:]
tell, met = Claim.watch, []

def watch(self, value, progress):
    if progress >= 0.5 and not met:
        met.append(self.number)
        while len([path for path in self.folder.parent.glob("*") if path.is_dir()]) < 2:
            time.sleep(0.02)
        if dies == "dies":
            os.kill(os.getpid(), 9)
    return tell(self, value, progress)

Claim.watch = watch
sys.exit(main(words))
"""
SPACE = "trainer.lr: {type: float, low: 1.0e-3, high: 1.0e-2, log: true}\n"
TINY = ["dataset.users=40", "dataset.items=40", "model.embed_dim=8", "model.blocks=1", "trainer.max_epochs=4"]
TINY += ["trainer.patience=null", "space=mine", "pruner=none", "trials=3", "test=best"]


def test_the_one_that_is_left_runs_the_dead_one_s_trial_from_its_checkpoint(tmp_path: Path, python: list[str]) -> None:
    study, running = tmp_path / "shared" / "study", []
    for name, fate, own in (("a", "dies", ["data_dir=data"]), ("b", "lives", ["data_dir=other", "hardware.threads=1"])):
        here = tmp_path / name
        (here / "conf" / "space").mkdir(parents=True)
        (here / "conf" / "space" / "mine.yaml").write_text(SPACE)
        words = ["tune", *TINY, *own, "--config-dir", "conf", f"run_dir={study}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (here / "said.txt").open("w") as said:
            command = [*python, "-c", TERMINAL, fate, *words]
            running.append(subprocess.Popen(command, cwd=here, env=environment, stdout=said, stderr=said))
    codes = [each.wait(timeout=240) for each in running]
    said = (tmp_path / "b" / "said.txt").read_text()
    assert codes == [-signal.SIGKILL, 0], said

    table = pd.read_csv(study / "trials.csv")
    assert table["state"].tolist() == ["complete"] * 3  # none lost, none more
    assert max(Counter(table["trainer.lr"]).values()) == 1
    assert table["epochs"].tolist() == [4] * 3
    assert (tmp_path / "a" / "data").is_dir()
    assert not (tmp_path / "b" / "data").exists()  # the dead one's run went on with the data that lie here
    # The trial's first epochs are the dead one's: its folder was taken over.
    runs = {path.name for path in study.glob("trials/000?")}
    assert len(runs) == 3
    assert runs == {f"{number:04d}" for number in table["trial"]}
    again = next(path for path in study.glob("trials/000?") if "resumed" in str(RunFolder(path).read_manifest()))
    assert [row["epoch"] for row in read_rows(again / "metrics.jsonl")] == [1, 2, 3, 4]
    assert said.count("trial ") >= 3
    assert "go on with" not in said
    # The test set was read once, where the data are.
    assert len((tmp_path / "b" / "other" / "test_openings.jsonl").read_text().splitlines()) == 1
    # Each terminal says its own command.
    assert "data_dir=other" in said
    assert "data_dir=data" not in said


def test_a_terminal_s_commands_are_its_own(tmp_path: Path) -> None:
    here = StudyFolder(tmp_path, ("model=sasrec", "data_dir=here", "run_dir=elsewhere"), None)
    (tmp_path / "study.json").write_text('{"given": ["model=sasrec", "data_dir=there"], "config_dir": null}')
    assert here.command() == f"seqrec tune model=sasrec data_dir=here run_dir={tmp_path}"
    assert here.experiment_command("best") == f"seqrec train --config-dir {tmp_path} experiment=best data_dir=here"
