"""`import seqrec_cli` is light, and each of its names is found when it is first used; its docstrings' examples run."""

import doctest
import inspect
import os
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import seqrec_cli
from seqrec_cli import Trained
from tests.api.conftest import TINY

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "pandas", "hydra", "pydantic", "numpy"}


def loaded(code: str, cwd: Path) -> set[str]:
    """Which heavy packages a program has imported at its end."""
    ending = f"\nimport sys\nprint('loaded:', *({HEAVY!r} & set(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code + ending]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


REFUSED = "try:\n {}\nexcept seqrec_cli.SeqrecError as error:\n print(error)\nelse:\n raise SystemExit(1)"


@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("import seqrec_cli; dir(seqrec_cli); seqrec_cli.SeqrecError", HEAVY),
        ("from seqrec_cli.cli import main; main(['--help'])", HEAVY),
        ("from seqrec_cli.cli import main; main(['train', 'model=x'])", {"torch", "pandas"}),
        ("import seqrec_cli\n" + REFUSED.format("seqrec_cli.train(['model=x'])"), {"torch", "pandas"}),
        ("import seqrec_cli\n" + REFUSED.format("seqrec_cli.load('nothing')"), {"pandas"}),
        ("import seqrec_cli; seqrec_cli.runs('.')", {"torch"}),
    ],
)
def test_nothing_is_imported_before_it_is_needed(code: str, never: set[str], tmp_path: Path) -> None:
    assert not loaded(code, tmp_path) & never


def test_the_command_line_trains_without_pandas(tmp_path: Path) -> None:
    overrides = [f"{key}={value}".lower() for key, value in TINY.items()]
    code = f"import seqrec_cli\nseqrec_cli.run('train', {[*overrides, 'run_dir=run', 'model=avgpool']})"
    assert "pandas" not in loaded(code, tmp_path)


def test_every_public_name_has_a_docstring_and_types() -> None:
    methods = [each for name, each in inspect.getmembers(Trained) if not name.startswith("_")]
    assert set(seqrec_cli.__all__) <= set(dir(seqrec_cli))
    for found in (*(getattr(seqrec_cli, name) for name in seqrec_cli.__all__), *methods):
        assert inspect.getdoc(found), found
        if inspect.isfunction(found):
            signature = inspect.signature(found)
            assert signature.return_annotation is not inspect.Signature.empty, found
            kinds = {each.kind for each in signature.parameters.values()}
            assert not {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL} & kinds, found
    page = pydoc.render_doc(seqrec_cli, renderer=pydoc.plaintext)
    assert "load(run: " in page
    assert "recommend(self, users: " in page
    with pytest.raises(AttributeError, match="module 'seqrec_cli' has no attribute 'trane'"):
        _ = seqrec_cli.trane


EXAMPLES = [
    test
    for name in ("dataset", "load", "train", "tune", "runs", "Trained")
    for test in doctest.DocTestFinder().find(getattr(seqrec_cli, name), name)
    if test.examples
]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples speak of: a run, and the folder it lies in."""
    folder = tmp_path_factory.mktemp("examples") / "run"
    settings = ["dataset.users=60", "dataset.items=40", "model.embed_dim=64", "trainer.max_epochs=1"]
    settings += [f"data_dir={folder.parent / 'data'}"]
    return {
        "seqrec_cli": seqrec_cli,
        "folder": folder,
        "run": seqrec_cli.train(settings, run_dir=folder, verbose=False),
    }


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_examples_in_docstrings_hold(
    test: doctest.DocTest, example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    test.globs = dict(example)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert (failed, tried > 0) == (0, True), "".join(said)
