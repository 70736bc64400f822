"""A model's picture: its modules, what they hand to which, and what is said where it cannot be drawn.

That every model has one is for test_onnx_program.py, whose traces it is drawn from.
"""

import shutil
from pathlib import Path

import exporting
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.export import picture
from seqrec_cli.export.module_graph import ModuleGraph, _between, _home, module_graph
from seqrec_cli.export.picture import as_digraph, draw_modules, lacking
from seqrec_cli.export.shapes import LONGEST, named_shape

graphviz = pytest.importorskip("graphviz")
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's program dot is not here")


@pytest.fixture(scope="module")
def drawn_of(saved_log):  # type: ignore[no-untyped-def]
    found: dict[tuple[str, int], ModuleGraph] = {}

    def of(name: str, depth: int = 2) -> ModuleGraph:
        if (name, depth) not in found:
            found[name, depth] = module_graph(exporting.learnt(name, saved_log), saved_log, 12, depth=depth)
        return found[name, depth]

    return of


def test_what_is_shown_of_sasrec(drawn_of) -> None:  # type: ignore[no-untyped-def]
    graph = drawn_of("sasrec")
    paths = [step.path for step in graph.steps]
    for path in (("items",), ("blocks.0", "attention"), ("blocks.0", "feed_forward"), ("norm",)):
        assert path in paths
    attention = graph.steps[paths.index(("blocks.0", "attention"))]
    assert attention.kind == "MultiHeadAttention"
    assert "scaled_dot_product_attention" in attention.operators
    norm, at = paths.index(("blocks.0", "norm_attention")), paths.index(("blocks.0", "attention"))
    assert "B × L × 16" in graph.edges[norm, at]
    last = graph.steps[-1]
    assert last.tensors == {"items.weight": "26 × 16"}
    assert (last.path, last.operators[-1]) == ((), "matmul")
    assert graph.edges[len(paths) - 1, "output"] == ["B × 26"]
    assert graph.edges["items_BL", paths.index(("items",))] == []  # ids are no floating numbers
    source = as_digraph(graph).source
    assert "MultiHeadAttention" in source
    assert 'label="B × L × 16"' in source
    assert "blocks.0" in source


def test_a_depth_of_one_draws_whole_blocks(drawn_of) -> None:  # type: ignore[no-untyped-def]
    shallow, deep = drawn_of("sasrec", 1), drawn_of("sasrec")
    assert len(shallow.steps) < len(deep.steps)
    assert ("blocks.0",) in [step.path for step in shallow.steps]
    assert all(len(step.path) <= 1 for step in shallow.steps)


def test_a_ranker_s_candidates_stand_beside_its_history(drawn_of) -> None:  # type: ignore[no-untyped-def]
    graph = drawn_of("bst")
    assert {"items_BL", "candidates_BC"} <= set(graph.inputs)
    assert graph.inputs["candidates_BC"] == "B × C"
    assert {"blocks.0", "mlp", "logit"} <= {step.path[0] for step in graph.steps if step.path}
    assert graph.edges[len(graph.steps) - 1, "output"] == ["B × C"]


def test_operators_of_no_module_belong_to_what_their_neighbours_share() -> None:
    paths = [("a",), (), ("b", "c"), (), (), ("b", "d"), ("b",), ("b", "d"), ()]
    assert _between(paths) == [(), (), (), ("b",), ("b",), (), ("b", "d"), (), ()]
    shared = ("b", "d")
    assert _home(("b",), shared, whence={("b", "d", "e"), ("a",)}, owners={shared}) == shared
    assert _home(("b",), shared, whence={("b", "c"), ("a",)}, owners=set()) == ("b",)  # it goes on with something else
    assert _home((), shared, whence={shared, ("norm",)}, owners={("items",)}) == ()
    assert _home((), (), whence={("b", "c")}, owners=set()) == ("b", "c")  # and with nothing else
    assert _home((), (), whence=set(), owners={("items",)}) == ("items",)
    assert _home(("c",), shared, whence={shared}, owners=set()) == ("c",)


def test_sizes_have_their_letters() -> None:
    letters = {"s27": "B", "s9": "L"}
    shape = type("Shaped", (), {"shape": ("s27", "s9 + Max(0, 1 - s9)", 16)})
    assert named_shape(shape, letters) == "B × L × 16"  # type: ignore[arg-type]
    long = type("Shaped", (), {"shape": ("s27", "Min(12, s9 + 1) * s27 * 48")})
    assert named_shape(long, letters) == "B × …"  # type: ignore[arg-type]
    assert len("Min(12, L + 1)") == LONGEST


@needs_dot
def test_the_picture_is_an_svg_of_the_boxes(saved_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    svg = tmp_path / "model.svg"
    graph = draw_modules(exporting.learnt("gru4rec", saved_log), saved_log, 12, depth=2, svg=svg)
    text = svg.read_text()
    assert text.startswith("<?xml")
    assert text.count('class="node"') == len(graph.steps) + len(graph.inputs) + 1
    assert "B × L × 16" in text


def test_a_name_is_shown_as_it_is_written() -> None:
    graph = ModuleGraph({"items_BL": "B"}, [], {("items_BL", "output"): []}, "a\\nb<b>&")
    source = as_digraph(graph).source
    assert 'label="a\\\\nb<b>&"' in source  # two letters, no new line


def test_without_dot_one_line_says_how_to_get_it(saved_log, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PATH", str(tmp_path))
    said = lacking()
    assert said is not None
    assert "Graphviz's program dot, which is not on the PATH: apt-get install graphviz" in said
    with pytest.raises(SeqrecError, match="program dot"):
        draw_modules(torch.nn.Module(), saved_log, 12, depth=2, svg=tmp_path / "x.svg")  # type: ignore[arg-type]
    monkeypatch.setattr(picture.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'seqrec[picture]'" in str(lacking())


@needs_dot
def test_a_dot_that_fails_is_told_of(saved_log, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\necho no >&2\nexit 3\n")
    broken.chmod(0o755)
    model = exporting.learnt("markov", saved_log)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(SeqrecError, match="Graphviz's program dot failed"):
        draw_modules(model, saved_log, 12, depth=2, svg=tmp_path / "x.svg")
    assert not (tmp_path / "x.svg").exists()
