"""The notebooks run from top to bottom on generated data, one by default and all by night; the one for Colab is
composed and validated, cell by cell.
"""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from tests.covering import covering

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
COLAB = NOTEBOOKS / "bert4rec_ml1m_colab.ipynb"  # it needs a download and a GPU
ALL = sorted(NOTEBOOKS.glob("*.ipynb"))
LINES_OF_IPYTHON = re.compile(r"^[%!].*$", re.M)
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")


def named(path: Path) -> str:
    return path.stem


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", ALL, ids=named)
def test_a_notebook_is_valid_and_holds_no_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.outputs for cell in code(notebook)), "clear the outputs before committing"
    for cell in code(notebook):
        compile(LINES_OF_IPYTHON.sub("", cell.source), str(path), "exec")


@pytest.mark.parametrize(
    "path", covering([path for path in ALL if path != COLAB], lambda path: ["notebook"]), ids=named
)
def test_a_notebook_runs(path: Path, python: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, as a reader would; a cell that raises fails the test with its traceback."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    start = [*python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    inline = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # the kernel's own choice
    told = {"argv": start, "env": inline, "display_name": "Python", "language": "python"}
    kernel.write_text(json.dumps(told), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", f"{NOTEBOOKS.parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert any(output.output_type == "display_data" for cell in code(notebook) for output in cell.outputs)  # a picture
    assert (tmp_path / "outputs").is_dir()


def test_the_commands_of_the_colab_notebook_are_well_formed() -> None:
    lines = [line for cell in code(nbformat.read(COLAB, as_version=4)) for line in cell.source.splitlines()]
    verbs = []
    for line in lines:
        if line.startswith("!seqrec "):
            verb, *overrides = shlex.split(line)[1:]
            assert validate(verb, compose(verb, overrides)) is not None
            verbs.append(verb)
    assert verbs == ["download", "train", "export"]
