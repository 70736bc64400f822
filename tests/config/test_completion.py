"""Completion: the callback's answers, and each shell's own script where the shell is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec_cli.config.completion import candidates, script
from seqrec_cli.config.verbs import VERBS

REPO = Path(__file__).resolve().parents[2]


def complete(*words: str) -> list[str]:
    return candidates(list(words))


def test_verbs_first() -> None:
    assert complete("") == sorted([*VERBS, "completion", "--help", "--version"])
    assert complete("ex") == ["explain", "export", "exposure"]
    assert complete("completion", "z") == ["zsh"]
    assert complete("nonsense", "") == []


def test_groups_keys_and_their_parts() -> None:
    top = complete("train", "")
    assert {"model=", "model.", "trainer.", "run_dir="} <= set(top)
    assert "trainer.lr=" not in top
    assert complete("train", "trainer.sc") == ["trainer.schedule="]
    assert complete("train", "~trainer.lr") == ["~trainer.lr="]
    assert "ckpt=" not in top
    assert complete("evaluate", "ck") == ["ckpt="]


def test_options_and_values() -> None:
    assert complete("train", "model=sa") == ["model=sasrec"]
    assert complete("train", "model=bst,sa") == ["model=bst,sasrec"]
    assert complete("train", "trainer.schedule=") == ["trainer.schedule=cosine", "trainer.schedule=constant"]
    assert complete("train", "evaluation.baselines=t") == ["evaluation.baselines=true"]


def test_keys_of_the_model_chosen_before() -> None:
    assert "model.embed_dim=" in complete("train", "model=bst", "model.")
    assert "model.embed_dim=" not in complete("train", "model=popular", "model.")
    assert "trainer.lr=" in complete("train", "trainer.lrr=wrong", "trainer.l")


def test_launchers_and_their_settings() -> None:
    assert complete("train", "-m", "hy") == ["hydra/launcher="]
    assert complete("train", "-m", "hydra/launcher=s") == [
        "hydra/launcher=submitit_local",
        "hydra/launcher=submitit_slurm",
    ]
    assert "hydra/launcher=basic" in complete("tune", "hydra/launcher=")
    assert complete("train", "-m", "hydra/launcher=joblib", "hydra.launcher.n") == ["hydra.launcher.n_jobs="]
    assert complete("train", "-m", "hydra/launcher=jobli", "hydra.launcher.n") == []
    assert "trainer.lr=" in complete("train", "-m", "hydra/launcher=joblib", "trainer.l")


def test_files(tmp_path: Path) -> None:
    (tmp_path / "run one").mkdir()
    (tmp_path / "raw.zip").touch()
    (tmp_path / ".hidden").touch()
    assert complete("evaluate", f"ckpt={tmp_path}/") == [f"ckpt={tmp_path}/raw.zip", f"ckpt={tmp_path}/run one/"]
    assert complete("train", f"dataset.archive={tmp_path}/ra") == [f"dataset.archive={tmp_path}/raw.zip"]
    assert complete("train", "--config-dir", f"{tmp_path}/r") == [f"{tmp_path}/run one/"]


def test_flags() -> None:
    assert "--multirun" in complete("train", "--m")
    assert complete("train", "--cfg", "j") == ["job"]


def test_options_of_an_extra_folder(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "mine.yaml").write_text("device: cpu\n")
    assert complete("train", "--config-dir", str(tmp_path), "hardware=mi") == ["hardware=mine"]


@pytest.fixture
def seqrec_command(tmp_path: Path) -> Path:
    """A `seqrec` as the installer writes it."""
    command = tmp_path / "seqrec"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{REPO}" exec "{sys.executable}" -m seqrec_cli "$@"\n')
    command.chmod(0o755)
    return command


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here")
    return path


BASH = r"""
source <("$SEQREC" completion bash)
tab() { COMP_LINE="seqrec $1"; COMP_POINT=${#COMP_LINE}; PATH="$FOLDER:$PATH" _seqrec; echo "${COMPREPLY[*]}"; }
complete -p seqrec
tab tr
tab 'train model=sa'
tab 'train model=bst trainer.schedule=co'
tab 'evaluate ck'
"""


def test_bash_for_real(seqrec_command: Path) -> None:
    environment = {"SEQREC": str(seqrec_command), "FOLDER": str(seqrec_command.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([shell("bash"), "-c", BASH], capture_output=True, text=True, env=environment, check=True)
    # readline has = among its word breaks: what stands before it must not come again
    expected = ["complete -F _seqrec seqrec", "train", "sasrec", "cosine constant", "ckpt="]
    assert done.stdout.splitlines() == expected, done.stderr


ZSH = r"""
compdef() { echo "compdef $*"; }
compadd() { while [[ "$1" != -- ]]; do shift; done; shift; print -l -- "$@"; }
source <("$SEQREC" completion zsh)
tab() { words=("$SEQREC" "$@"); CURRENT=$#words; PREFIX="$words[-1]"; _seqrec; }
tab tr
tab train model=sa
tab train ''  | grep trainer
"""


def test_zsh_for_real(seqrec_command: Path) -> None:
    environment = {"SEQREC": str(seqrec_command), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([shell("zsh"), "-fc", ZSH], capture_output=True, text=True, env=environment, check=True)
    expected = ["compdef _seqrec seqrec", "train", "model=sasrec", "trainer=", "trainer."]
    assert sorted(done.stdout.splitlines()) == sorted(expected), done.stderr


FISH = r"""
set -gx PATH $FOLDER $PATH
seqrec completion fish | source
complete -C 'seqrec tr'
complete -C 'seqrec train model=sa'
complete -C 'seqrec train trainer.sc'
"""


def test_fish_for_real(seqrec_command: Path, tmp_path: Path) -> None:
    environment = {"FOLDER": str(seqrec_command.parent), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([shell("fish"), "-c", FISH], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["train", "model=sasrec", "trainer.schedule="], done.stderr


def test_every_shell_asks_the_callback() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "--complete" in script(shell)
