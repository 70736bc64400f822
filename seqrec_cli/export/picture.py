"""A picture of a model's modules, drawn by Graphviz: which hand what to which, and in what shape."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.module_graph import ModuleGraph, Step, module_graph
from seqrec_cli.files import atomic_file
from seqrec_cli.models.contract import Recommender

if TYPE_CHECKING:
    from graphviz import Digraph

PROGRAM = "dot"
INK, SOFT, PAPER, FILL, OWN = "#1f2328", "#8c959f", "#ffffff", "#eaf2f8", "#fdf3e7"
MOST = 4  # operators, or tensors, named in a box; shapes on an edge


def lacking() -> str | None:
    """What is missing here to draw, and how to get it; None for nothing."""
    if importlib.util.find_spec("graphviz") is None:
        return "the picture needs the Python package graphviz: pip install 'seqrec[picture]'"
    if shutil.which(PROGRAM) is None:
        return (
            f"the picture needs Graphviz's program {PROGRAM}, which is not on the PATH: apt-get install graphviz (or "
            "brew install graphviz, conda install graphviz)"
        )
    return None


def draw_modules(model: Recommender, log: PackedLog, max_length: int, *, depth: int, svg: Path) -> ModuleGraph:
    """Trace the model and write the picture; what it shows. Raises SeqrecError where it cannot be drawn."""
    missing = lacking()
    if missing is not None:
        raise SeqrecError(missing)
    graph = module_graph(model, log, max_length, depth=depth)
    try:
        drawn = as_digraph(graph).pipe(format="svg", encoding="utf-8")
    except (OSError, subprocess.SubprocessError) as error:
        raise SeqrecError(f"Graphviz's program {PROGRAM} failed ({str(error).splitlines()[0]})") from error
    with atomic_file(svg) as temporary:
        temporary.write_text(drawn, encoding="utf-8")
    return graph


def as_digraph(graph: ModuleGraph) -> "Digraph":
    """Boxes for modules, framed together where they are parts of one; plain text for operators outside of any."""
    import graphviz

    font = {"fontname": "Helvetica", "fontcolor": INK}
    drawn = graphviz.Digraph(
        graph_attr={"rankdir": "TB", "bgcolor": PAPER, "fontsize": "11", "nodesep": "0.3", "ranksep": "0.35", **font},
        node_attr={
            "shape": "box",
            "style": "rounded,filled",
            "fillcolor": FILL,
            "color": SOFT,
            "fontsize": "10",
            **font,
        },
        edge_attr={"fontsize": "9", "color": INK, "arrowsize": "0.6", **font},
    )
    for name, shape in graph.inputs.items():
        drawn.node(f"in {name}", _text(name, shape), shape="plaintext", style="", fillcolor=PAPER)
    for nth, numbers in enumerate(_clusters(graph.steps)):
        outer = graph.steps[numbers[0]].path[:1]
        if len(numbers) > 1 and outer:
            with drawn.subgraph(name=f"cluster_{nth}") as part:
                part.attr(label=_escaped(outer[0]), labeljust="l", style="rounded", color=SOFT)
                for number in numbers:
                    _add(part, number, graph.steps[number])
        else:
            for number in numbers:
                _add(drawn, number, graph.steps[number])
    drawn.node("output", _text(graph.output), shape="plaintext", style="", fillcolor=PAPER)
    for (source, target), shapes in graph.edges.items():
        ends = (f"in {source}" if isinstance(source, str) else f"{source}", f"{target}")
        if shapes or isinstance(source, int):
            drawn.edge(*ends, label=_escaped("\n".join(shapes[:MOST])).replace("\n", "\\n"))
        else:  # lengths, times, masks
            drawn.edge(*ends, color=SOFT, style="dashed")
    return drawn


def _clusters(steps: list[Step]) -> list[list[int]]:
    """Numbers of steps in a row that are of one outermost module."""
    found: list[list[int]] = []
    for number, step in enumerate(steps):
        same = found and step.path[:1] and steps[found[-1][0]].path[:1] == step.path[:1]
        if same:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def _add(drawn: "Digraph", number: int, step: Step) -> None:
    operators = ", ".join(step.operators[:MOST]) + (", …" if len(step.operators) > MOST else "")
    tensors = [f"{name}  {shape}" for name, shape in step.tensors.items()]
    if len(tensors) > MOST:
        tensors = [*tensors[: MOST - 1], f"and {len(tensors) - MOST + 1} more"]
    if step.kind and len(step.path) > 0 and not _of_frame(step):
        prefix = ".".join(step.path) + "."
        short = [text.removeprefix(prefix) for text in tensors]
        drawn.node(f"{number}", _text(step.path[-1], step.kind, *short))
    else:
        drawn.node(f"{number}", _text(operators, *tensors), fillcolor=OWN)


def _of_frame(step: Step) -> bool:
    """Whether it is operators of a module beside those of its parts: named by what they do."""
    return len(step.path) == 1 and step.operators in (["add"], ["mul"], ["cat"])


def _text(*lines: str) -> str:
    return "\\n".join(_escaped(line) for line in lines if line)


def _escaped(text: str) -> str:
    """As Graphviz shows it: a backslash or a brace is no code of its own."""
    return text.replace("\\", "\\\\")
