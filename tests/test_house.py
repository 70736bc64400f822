"""The house keeps its order: imports point down, files stay small, every YAML file is valid, lint and types pass."""

import ast
import functools
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from seqrec_cli.config.compose import compose, conf_folder, groups
from seqrec_cli.config.describe import settings_in
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import GROUPS, config_class, names
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.validate import missing_keys, validate
from seqrec_cli.config.verbs import VERBS

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "seqrec_cli"
LEVELS = {
    "cli": 10,
    "api": 9,
    "commands": 8,
    "tuning": 7,
    "export": 6,
    "serving": 6,
    "reporting": 6,
    "evaluation": 6,
    "training": 5,
    "objectives": 4,
    "models": 3,
    "protocols": 3,
    "data": 2,
    "config": 1,
    "metrics": 0,
    "files": 0,
    "faults": 0,
    "machine": 0,
    "saying": 0,
    "processes": 0,
    "kernels": 1,
}
LONGEST_FILE = 350
parsed = functools.cache(ast.parse)
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "cli" if first == "__main__" else first


def imports(text: str, package: tuple[str, ...]) -> Iterator[str]:
    """Every module a file imports, wherever the statement stands; relative ones in full."""
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def upward(room: str, text: str, package: tuple[str, ...]) -> list[str]:
    """The imports that point up, or sideways between rooms of one level."""
    found = []
    for module in imports(text, package):
        parts = module.split(".")
        other = parts[1] if parts[0] == "seqrec_cli" and len(parts) > 1 else None
        if other in LEVELS and other != room and LEVELS[other] >= LEVELS[room]:
            found.append(module)
    return found


def test_every_room_has_a_level() -> None:
    assert {room_of(path) for path in SOURCES} <= LEVELS.keys()


def offending(fault: Callable[[Path, str], object]) -> dict[str, object]:
    """The faults found in files of the package, by a function of each file's path and text."""
    found = {path.relative_to(PACKAGE).as_posix(): fault(path, path.read_text(encoding="utf-8")) for path in SOURCES}
    return {path: what for path, what in found.items() if what}


def test_imports_point_down() -> None:
    package = {path: ("seqrec_cli", *path.relative_to(PACKAGE).parts[:-1]) for path in SOURCES}
    assert offending(lambda path, text: upward(room_of(path), text, package[path])) == {}


@pytest.mark.parametrize(
    ("room", "text", "refused"),
    [
        ("data", "from seqrec_cli.models import build", True),
        ("data", "def f():\n    import seqrec_cli.models.build", True),
        ("evaluation", "from seqrec_cli.reporting.tables import x", True),
        ("evaluation", "from ..export import x", True),
        ("models", "from seqrec_cli import training", True),
        ("models", "from seqrec_cli.data.batch import Batch", False),
        ("models", "from .parts import x\nimport numpy", False),
    ],
)
def test_the_walk_sees_upward_imports(room: str, text: str, refused: bool) -> None:
    assert bool(upward(room, text, ("seqrec_cli", room))) is refused


def test_files_are_short_and_say_what_they_are() -> None:
    assert offending(lambda path, text: len(text.splitlines()) > LONGEST_FILE) == {}
    without = offending(lambda path, text: text.strip() and not ast.get_docstring(parsed(text)))
    assert not without, "no docstring"


MOST_POSITIONAL = 3  # parameters, without self and cls; the others are given by keyword
ANY_NUMBER_POSITIONAL = ("kernels/",)  # an operator's arguments are positions, for torch and for C


def many_positional(text: str) -> list[str]:
    """Functions with more positional parameters than the house allows; not those that torch calls, by position."""
    tree = parsed(text)
    methods = {id(function) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for function in node.body}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        bound = id(node) in methods and names[:1] in (["self"], ["cls"])
        called_by_torch = names[:1] == ["ctx"] or getattr(node, "name", "") == "__torch_dispatch__"
        if len(names) - bound > MOST_POSITIONAL and not called_by_torch:
            found.append(f"line {node.lineno}: {getattr(node, 'name', 'lambda')}({', '.join(names)})")
    return found


def test_at_most_three_parameters_are_positional() -> None:
    found = offending(lambda path, text: many_positional(text))
    assert {path: what for path, what in found.items() if not path.startswith(ANY_NUMBER_POSITIONAL)} == {}
    assert found  # an operator has more, and is found if it is not left out


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("def f(a, b, c, d): ...", True),
        ("class A:\n    def f(self, a, b, c, d): ...", True),
        ("class A:\n    def f(self, a, b, c): ...", False),
        ("class A:\n    def __init__(self, a, b, c, d=1): ...", True),
        ("def f(a, b, c, *, d): ...", False),
        ("def f(self, a, b, c): ...", True),
        ("f = lambda a, b, c, d: a", True),
        ("class A(Function):\n    @staticmethod\n    def forward(ctx, a, b, c, d): ...", False),
    ],
)
def test_the_walk_sees_many_positional_parameters(text: str, refused: bool) -> None:
    assert bool(many_positional(text)) is refused


def test_only_the_command_line_knows_hydra() -> None:
    for path in SOURCES:
        if room_of(path) not in ("cli", "commands", "config"):
            modules = {module.split(".")[0] for module in imports(path.read_text(encoding="utf-8"), ("seqrec_cli",))}
            assert "hydra" not in modules, path


def records() -> Iterator[type[Settings]]:
    """Every record a configuration can hold."""
    waiting: list[type[Settings]] = [verb.settings() for verb in VERBS.values()]
    waiting += [config_class(group, name) for group in GROUPS for name in names(group)]
    seen = set()
    while waiting:
        record = waiting.pop()
        if record not in seen:
            seen.add(record)
            yield record
            inner = (settings_in(field.annotation) for field in record.model_fields.values())
            waiting += [found for found in inner if found is not None]


def test_every_field_has_a_description_and_no_default() -> None:
    for record in records():
        for name, field in record.model_fields.items():
            where = f"{record.__module__}.{record.__qualname__}.{name}"
            assert field.is_required(), f"{where}: numbers are in conf/"
            assert field.description or settings_in(field.annotation), f"{where}: no description"


OPTIONS = [(group, option) for group, options in groups().items() for option in options]
VERB_OF = {"as_trained": "evaluate"}  # hardware options for other verbs than train
VERB_OF_GROUP = {"space": "tune"}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=["/".join(pair) for pair in OPTIONS])
def test_every_option_composes_and_is_valid(group: str, option: str) -> None:
    verb = VERB_OF.get(option) or VERB_OF_GROUP.get(group, "train")
    chosen = OmegaConf.load(conf_folder() / f"{verb}.yaml").defaults
    named = [str(key).removeprefix("optional ") for entry in chosen if not isinstance(entry, str) for key in entry]
    plus = "" if group in named else "+"
    if verb == "evaluate":
        validate(verb, compose(verb, [f"{group}={option}", "ckpt=x"]))
        return
    # an objective needs a model of its family; validating with one of them is enough
    models = [[]] if group != "objective" else [[f"model={model}"] for model in groups()["model"]]
    if option == "multi_step":  # which learns of several events
        models = [["model=sasrec", "model.steps_ahead=2"]]
    if option.startswith("impressions") or option == "unbiased_click":
        models = [["dataset=trivago", "model=din"]]
    refusals = []
    for model in models:
        cfg = compose(verb, [*model, f"{plus}{group}={option}"])
        for key in list(missing_keys(OmegaConf.to_container(cfg))):
            OmegaConf.update(cfg, key, "given")
        try:
            record = validate(verb, cfg)
        except SeqrecError as error:
            refusals.append(str(error))
            continue
        if group in GROUPS:
            assert isinstance(record, VERBS[verb].settings())
            assert getattr(record, group).name == cfg[group].name
        return
    pytest.fail("; ".join(refusals))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_file(verb: str) -> None:
    needed = {
        "explain": ["user=1"],
        "ensemble": ["ckpts=[x,y]"],
        "evaluate": ["ckpt=x"],
        "recommend": ["ckpt=x"],
        "serve": ["retriever=x", "ranker=y"],
        "compare": ["runs=[x,y]"],
        "audit": ["dataset=synthetic"],
    }
    cfg = compose(verb, needed.get(verb, []))
    for key in list(missing_keys(OmegaConf.to_container(cfg))):
        OmegaConf.update(cfg, key, "given")
    assert type(validate(verb, cfg)) is VERBS[verb].settings()


def test_every_registered_name_has_a_file_in_conf() -> None:
    for group in ("model", "objective"):
        used = {compose("train", [f"{group}={option}"])[group].name for option in groups()[group]}
        assert used == set(names(group))


def test_every_registered_name_has_code() -> None:
    for group, (_, _, code) in GROUPS.items():
        assert all(importlib.util.find_spec(f"seqrec_cli.{code}.{name}") for name in names(group))


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (development extra)")
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=False)


@pytest.mark.parametrize("arguments", [["check", "."], ["format", "--check", "."]], ids=["lint", "format"])
def test_ruff(arguments: list[str]) -> None:
    done = tool("ruff", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types() -> None:
    done = tool("mypy")
    assert done.returncode == 0, done.stdout + done.stderr


# A home folder, or an index other than the public ones: such a line works on one machine only.
OF_ONE_MACHINE = re.compile(
    r"(?<![\w.$}])/(?:home|Users)/[\w.-]+/|(?<![\w.$}])/(?:root)/"
    r"|--(?:extra-)?index[-]url|(?:index[-]url|PIP_INDEX_URL|UV_INDEX_URL)\s*="
)


def test_no_path_of_a_machine_and_no_index_address() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=REPO, check=False)
    if listed.returncode != 0:
        pytest.skip("no git checkout here")
    offending = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = REPO / name
        if not path.is_file() or path == Path(__file__).resolve():
            continue
        text = path.read_bytes().decode("utf-8", errors="ignore")
        offending += [f"{name}: {found[0]}" for found in OF_ONE_MACHINE.finditer(text)]
    assert offending == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("open('/home/ann/data.csv')", True),
        ("cd " + "/".join(("", "root", "x")), True),
        ("pip install --" + "-".join(("index", "url")) + " x", True),
        ("outputs/home/x/", False),
        ("$HOME/root/", False),
    ],
)
def test_the_pattern_finds_paths_of_a_machine(text: str, found: bool) -> None:
    assert bool(OF_ONE_MACHINE.search(text)) is found
