"""The notebooks run from top to bottom on generated data; the one for Colab is composed and validated, cell by cell."""

import os
import re
import shlex
from pathlib import Path

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "docs" / "notebooks"
COLAB = NOTEBOOKS / "bert4rec_ml1m_colab.ipynb"
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")


@pytest.mark.parametrize("path", sorted(set(NOTEBOOKS.glob("*.ipynb")) - {COLAB}), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert (tmp_path / "outputs").is_dir()


def test_the_colab_notebook_is_well_formed() -> None:
    notebook = nbformat.read(COLAB, as_version=4)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    commands = [line[1:] for text in code for line in text.splitlines() if line.startswith("!")]
    verbs = []
    for line in commands:
        program, verb, *overrides = shlex.split(line)
        assert program == "seqrec"
        assert validate(verb, compose(verb, overrides)) is not None
        verbs.append(verb)
    assert verbs == ["download", "train", "evaluate"]
    for text in code:
        if not re.match(r"[!%]", text):
            compile(text, str(COLAB), "exec")
