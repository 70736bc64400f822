"""The options that are code: which names a group has, and each one's `Config`, found without running its module.

A model's file holds its `Config` and its `Model`, and the second needs torch. Checking a setting must not wait
seconds for torch, so a `Config` is read by itself: its class statement and the file's imports from `config`,
`pydantic` and the standard library's typing modules are executed, nothing else.
"""

import ast
import functools
from pathlib import Path
from types import ModuleType

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.settings import Settings

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = {"dataset": "data/sources", "model": "models", "objective": "objectives"}
KEYS = {"dataset": "source", "model": "name", "objective": "name"}  # the field that holds the registered name
_LIGHT = ("typing", "pydantic", "seqrec_cli.config")


def _is_config(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and node.name == "Config"


@functools.cache
def names(slot: str) -> tuple[str, ...]:
    """The registered names of a slot, sorted: files of its folder that define a `Config`."""
    found = []
    for path in sorted((PACKAGE / FOLDERS[slot]).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "class Config(" in text and any(map(_is_config, ast.parse(text).body)):
            found.append(path.stem)
    return tuple(found)


def module_name(slot: str, name: str) -> str:
    """The import path of a registered option; an unknown name is refused, so no other module can be reached."""
    if name not in names(slot):
        known = names(slot)
        raise SeqrecError(
            f"{slot}.{KEYS[slot]}={name}: no such {KEYS[slot]}{nearest(name, known)} (have: {', '.join(known)})"
        )
    return f"seqrec_cli.{FOLDERS[slot].replace('/', '.')}.{name}"


@functools.cache
def config_class(slot: str, name: str) -> type[Settings]:
    """The `Config` of an option, without importing its module."""
    module_name(slot, name)
    path = PACKAGE / FOLDERS[slot] / f"{name}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    keep = [
        node
        for node in tree.body
        if _is_config(node) or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_LIGHT))
    ]
    alone = ModuleType(f"seqrec_cli.config._slot_{slot}_{name}")
    exec(compile(ast.Module(keep, []), str(path), "exec"), alone.__dict__)
    return alone.Config
