"""Values as the grammar of overrides reads them, and commands that run when they are pasted into a shell."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqrec_cli.config.errors import SeqrecError

PLAIN = re.compile(r"[A-Za-z_./][\w./+-]*", re.ASCII)  # text that needs no quotes in an override
PATHS = frozenset(  # keys, without groups
    {
        *("archive", "run_dir", "ckpt", "retriever", "ranker", "beside", "data_dir", "resume", "start_from"),
        *("newer", "log", "outcome", "teacher"),
    }
)
SINGLE, DOUBLE = "'", '"'
OTHERWISE = {"true", "false", "null"}  # but these mean something else there, and so does a number


def literal(key: str, value: Any) -> str:
    """A value in the grammar of overrides."""
    if hasattr(value, "item") and not isinstance(value, str):  # a NumPy number
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return _text(str(value), SINGLE)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{literal(key, each)}:{literal(key, of)}" for each, of in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(literal(key, each) for each in value) + "]"
    raise SeqrecError(f"{key}: a {type(value).__name__} is no setting; give a number, text, a list or None")


def shell_override(key: str, value: str | Path) -> str:
    """`resume=runs/first`, or `'resume="runs/1_model=din"'`: quoted once for Hydra and once for the shell."""
    return shlex.quote(f"{key}={_text(str(value), DOUBLE)}")


def shell_command(verb: str, key: str, value: str | Path) -> str:
    """The command `seqrec VERB KEY=VALUE`, to be printed for a person who pastes it."""
    return f"seqrec {verb} {shell_override(key, value)}"


def paths_as_they_are(overrides: Sequence[str]) -> list[str]:
    """The overrides, a path quoted where its spaces, brackets or `=` mean something else in the grammar: `a=b (1)`."""
    return [_path_as_it_is(text) for text in overrides]


def _path_as_it_is(text: str) -> str:
    key, equals, value = text.partition("=")
    if not equals or key.lstrip("+").rpartition(".")[2] not in PATHS or PLAIN.fullmatch(value):
        return text
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(text)
    except HydraException:
        return f"{key}={_text(value, SINGLE)}"
    return text


def _text(text: str, mark: str) -> str:
    if PLAIN.fullmatch(text) and text.lower() not in OTHERWISE and not _is_number(text):
        return text
    escaped = re.sub(rf"(\\*)({mark}|$)", lambda match: match[1] * 2 + ("\\" + mark if match[2] else ""), text)
    return f"{mark}{escaped}{mark}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
