"""A model's program at the level of its modules: which hand what to which, and in what shape.

`torch.export` traces the scoring as operators, each with the path of the module that it ran in. Here operators that
follow each other in one module, down to a depth, are one step; what only moves, cuts or counts (views, masks,
positions) is no step, and hands on what it was given. Steps stand in the program's order: the graph has no cycles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.fx import GraphModule, Node

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.scoring import Scoring
from seqrec_cli.export.shapes import named_shape, symbols
from seqrec_cli.export.tracing import at_any_length, quietly, trace
from seqrec_cli.models.contract import Recommender

ROOT = "model"  # where `Scoring` keeps the model
MOVES = """
view reshape flatten unflatten transpose permute t unsqueeze squeeze slice select expand chunk split unbind getitem
contiguous to _to_copy clone detach alias pad constant_pad_nd new_zeros zeros zeros_like full full_like new_full arange
index index_select gather repeat masked_fill dropout expand_as view_as movedim lift_fresh_copy _assert_tensor_metadata
numpy_T matrix_H mT sym_size
"""
_MOVES = frozenset(MOVES.split())
Path = tuple[str, ...]  # names of modules, the outer ones first


@dataclass
class Step:
    """Operators of one module in a row. `tensors` are the model's own that they read: names and shapes."""

    path: Path
    kind: str  # the class of the module; empty for operators of none
    operators: list[str] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)


@dataclass
class ModuleGraph:
    """`inputs` that are read, by name with their shapes; steps; and edges, from an input's name or a step's number to a
    step's, or to "output", with the shapes of what is handed on: none where that is whole numbers (ids, lengths)."""

    inputs: dict[str, str]
    steps: list[Step]
    edges: dict[tuple[str | int, str | int], list[str]]
    output: str


def module_graph(model: Recommender, log: PackedLog, max_length: int, *, depth: int) -> ModuleGraph:
    """Of the scoring of requests, with modules `depth` deep. Raises SeqrecError where it cannot be traced."""
    scoring = Scoring(model, log, max_length)
    with quietly():
        program, _ = at_any_length(scoring, "the picture", lambda dynamic: trace(scoring, log, dynamic))
    return _graph_of(program, scoring, depth=depth)


def _graph_of(program: torch.export.ExportedProgram, scoring: Scoring, *, depth: int) -> ModuleGraph:
    own = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    own |= program.graph_signature.inputs_to_lifted_tensor_constants
    nodes = list(program.graph.nodes)
    names = list(scoring.inputs)
    given = [node for node in nodes if node.op == "placeholder" and node.name not in own]
    letters = symbols({name: node.meta["val"] for name, node in zip(names, given, strict=True)})
    working = [node for node in nodes if _works(node)]
    own_paths = [_path(node, scoring.model) for node in working]
    paths = dict(zip(working, zip(own_paths, _between(own_paths), strict=True), strict=True))

    steps: list[Step] = []
    sources: dict[Node, dict[str | int, str]] = {}  # of a node: whence its value comes, and as what
    reads: dict[Node, dict[str, str]] = {}
    origins: dict[Node, set[Path]] = {}
    edges: dict[tuple[str | int, str | int], list[str]] = {}
    for node, name in zip(given, names, strict=True):
        sources[node] = {name: ""}
    for node in nodes:
        if node.name in own:
            reads[node] = {own[node.name].removeprefix(f"{ROOT}."): named_shape(node.meta["val"], letters)}
        if node.op != "call_function":
            continue
        before: dict[str | int, str] = {}
        read: dict[str, str] = {}
        whence: set[Path] = set()
        for each in node.all_input_nodes:
            before |= sources.get(each, {})
            read |= reads.get(each, {})
            whence |= origins.get(each, set())
        if node not in paths:
            if next(_values(node), None) is not None:  # a size hands nothing on
                shape = _floating(node, letters)
                sources[node] = {at: old if isinstance(at, str) else shape or old for at, old in before.items()}
                reads[node], origins[node] = read, whence
            continue
        owners = {_names(name.rpartition(".")[0], scoring.model) for name in read}
        whole = _home(*paths[node], whence=whence, owners=owners)
        origins[node], path = {whole}, whole[:depth]
        if not steps or steps[-1].path != path:
            steps.append(Step(path, _kind(scoring.model, path)))
        number, step = len(steps) - 1, steps[-1]
        step.operators += [name for name in _operators(node) if name not in step.operators]
        step.tensors |= read
        for source, shape in before.items():
            if source != number:
                _add(edges, (source, number), shape)
        sources[node] = {number: _floating(node, letters)}
    (last,) = (node for node in nodes if node.op == "output")
    for each in last.all_input_nodes:
        for source, shape in sources.get(each, {}).items():
            _add(edges, (source, "output"), shape)
    steps, edges = _used(steps, edges)
    read_from = {source for source, _ in edges}
    inputs = {
        name: named_shape(node.meta["val"], letters)
        for node, name in zip(given, names, strict=True)
        if name in read_from
    }
    return ModuleGraph(inputs, steps, edges, scoring.output)


def _home(own: Path, shared: Path, *, whence: set[Path], owners: set[Path]) -> Path:
    """The module that an operator is drawn with: that it ran in, or a part of that.

    A part called by another method than `forward` leaves no trace of itself. So an operator is of the part that the
    modules before and behind it have in common (`shared`), where it goes on with what that part made and reads no other
    one's tensors (`owners`); or of the one part whose values and tensors are all that it reads.
    """
    inner = len(shared) > len(own) and shared[: len(own)] == own
    goes_on = any(path[: len(shared)] == shared for path in whence)
    if inner and goes_on and all(path[: len(shared)] == shared for path in owners):
        return shared
    read = _common([*whence, *owners]) if whence or owners else ()
    return read if len(read) > len(own) and read[: len(own)] == own else own


def _used(
    steps: list[Step], edges: dict[tuple[str | int, str | int], list[str]]
) -> tuple[list[Step], dict[tuple[str | int, str | int], list[str]]]:
    """Without steps that nothing of the output is made of: what a model makes for others to ask for, in a trace too."""
    used: set[str | int] = {"output"}
    for number in reversed(range(len(steps))):  # edges lead to later steps
        if any((number, target) in edges for target in used):
            used.add(number)
    kept = [number for number in range(len(steps)) if number in used]
    renamed: dict[str | int, str | int] = {number: nth for nth, number in enumerate(kept)}
    left = {
        (renamed.get(source, source), renamed.get(target, target)): shapes
        for (source, target), shapes in edges.items()
        if target in used
    }
    return [steps[number] for number in kept], left


def _add(edges: dict[tuple[str | int, str | int], list[str]], ends: tuple[str | int, str | int], shape: str) -> None:
    shapes = edges.setdefault(ends, [])
    if shape and shape not in shapes:
        shapes.append(shape)


def _inside(node: Node) -> GraphModule | None:
    """The graph that a higher-order operator runs (a region without autocast)."""
    for each in node.all_input_nodes:
        if each.op == "get_attr":
            owner = each.graph.owning_module
            found = getattr(owner, str(each.target), None)
            if isinstance(found, GraphModule):
                return found
    return None


def _operators(node: Node) -> list[str]:
    """The names of what a node computes."""
    inside = _inside(node)
    if inside is not None:
        found = [name for each in inside.graph.nodes if _works(each) for name in _operators(each)]
        return list(dict.fromkeys(found))
    return [_name(node)]


def _name(node: Node) -> str:
    target = node.target
    name = target._schema.name.rpartition("::")[2] if hasattr(target, "_schema") else getattr(target, "__name__", "")
    return name.rstrip("_") or str(target)


def _works(node: Node) -> bool:
    """Whether it computes floating numbers, and does not only move them."""
    if node.op != "call_function":
        return False
    inside = _inside(node)
    if inside is not None:
        return any(_works(each) for each in inside.graph.nodes)
    return _name(node) not in _MOVES and any(value.is_floating_point() for value in _values(node))


def _values(node: Node) -> Iterator[torch.Tensor]:
    value = node.meta.get("val")
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, torch.Tensor):
            yield each


def _floating(node: Node, letters: dict[str, str]) -> str:
    """The shape of a node's value where it is of floating numbers, else nothing."""
    values = list(_values(node))
    return named_shape(values[0], letters) if values and values[0].is_floating_point() else ""


def _path(node: Node, model: nn.Module) -> Path:
    """The module that a node ran in; empty where it ran in none but the model."""
    inside = _inside(node)
    if inside is not None:
        found = [path for each in inside.graph.nodes if _works(each) and (path := _path(each, model))]
        return _common(found) if found else ()
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    deepest = next((path for path in reversed(stack) if path.startswith(f"{ROOT}.")), None)
    return () if deepest is None else _names(deepest.removeprefix(f"{ROOT}."), model)


def _names(path: str, model: nn.Module) -> Path:
    """The path's modules by the names of their weights; empty where it leads to no module of the model.

    Lists and dictionaries of modules are no modules of their own: `blocks.0` is one name. A module that is reached by
    another way (an ensemble's members, which stand in a tuple too) has its own name.
    """
    found: object = model
    for name in path.split("."):
        attribute, _, index = name.partition("@")[0].partition("[")  # a module's second call is `name@1`
        found = getattr(found, attribute, None)
        if index:
            found = found[int(index.rstrip("]"))] if isinstance(found, tuple | list) else None
    own = next((name for name, module in model.named_modules() if module is found), None)
    if not own:
        return ()
    names: list[str] = []
    waiting: list[str] = []
    module = model
    for name in own.split("."):
        module = getattr(module, name)
        waiting.append(name)
        if not isinstance(module, nn.ModuleList | nn.ModuleDict):
            names.append(".".join(waiting))
            waiting = []
    return tuple(names)


def _between(paths: Sequence[Path]) -> list[Path]:
    """What the modules before and behind each operator, other than its own, have in common."""
    found = []
    for at, own in enumerate(paths):
        before = next((path for path in reversed(paths[:at]) if path != own), ())
        behind = next((path for path in paths[at + 1 :] if path != own), ())
        found.append(_common([before, behind]))
    return found


def _common(paths: Sequence[Path]) -> Path:
    length = 0
    while all(len(path) > length and path[length] == paths[0][length] for path in paths):
        length += 1
    return paths[0][:length]


def _kind(model: nn.Module, path: Path) -> str:
    return type(model.get_submodule(".".join(path))).__name__ if path else ""
