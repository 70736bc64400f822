"""What is printed to be pasted runs: quoted for the shell and for the grammar of overrides."""

import shlex
from pathlib import Path

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.quoting import paths_as_they_are, shell_command
from tests.test_house import SOURCES


@pytest.mark.parametrize(
    "folder",
    [
        "swint/2_model=sasrec_trainer.lr=0.01",
        'a b/it\'s "mine" $HOME',
        "back\\slash\\",
        "köln",
        "~/runs",
        "null",
        "2026",
        "1e3",
        "x,y",
        "/tmp/run-1",
        "../runs/first",
        "1_first",
    ],
)
def test_a_printed_command_means_its_folder(folder: str) -> None:
    for verb, key in (("train", "resume"), ("evaluate", "ckpt")):
        program, said, override = shlex.split(shell_command(verb, key, Path(folder)))
        assert (program, said) == ("seqrec", verb)
        found = compose(verb, [override])[key]
        assert isinstance(found, str)
        assert found == folder


def test_a_plain_folder_is_printed_plainly() -> None:
    assert shell_command("train", "resume", "runs/first") == "seqrec train resume=runs/first"
    assert shell_command("evaluate", "ckpt", "s/1_model=din") == """seqrec evaluate 'ckpt="s/1_model=din"'"""


def test_no_command_is_printed_with_a_bare_folder() -> None:
    lines = {(path, line) for path in SOURCES for line in path.read_text(encoding="utf-8").splitlines()}
    assert [each for each in lines if "seqrec " in each[1] and ("resume={" in each[1] or "ckpt={" in each[1])] == []


@pytest.mark.parametrize("path", ["a b", "a=b/run", "a (1)/b", "a[1]{2}", "it's", "~/x", "a\\b=c"])
def test_a_path_is_taken_as_it_is(path: str) -> None:
    cfg = compose("train", [f"run_dir={path}", f"dataset.archive={path}", "dataset=csv"])
    assert (cfg.run_dir, cfg.dataset.archive) == (path, path)
    assert paths_as_they_are(["run_dir=null", "run_dir='a=b'", "trainer.lr=1,2", "run_dir=a,b"]) == [
        "run_dir=null",
        "run_dir='a=b'",
        "trainer.lr=1,2",
        "run_dir=a,b",
    ]
