"""From a configuration tree to the verb's frozen record, and back to plain values.

After sealing nothing reads the tree any more: a value that is wrong by type, range or rule has been refused.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.problems import one_line
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.slots import FOLDERS, KEYS, config_class
from seqrec_cli.config.verbs import VERBS
from seqrec_cli.config.words import error_in_words, missing_in_words, settings_in, value_in_words


def seal(verb: str, cfg: DictConfig) -> Settings:
    """The verb's record, with dataset, model and objective as their own `Config` classes.

    Raises `SeqrecError`: one line with the first problem, by its dotted key, and the number of others.
    """
    try:
        missing = sorted(missing_keys(OmegaConf.to_container(cfg)))
        if missing:
            fields = dict(fields_of(verb, OmegaConf.to_container(cfg)))
            _refuse([missing_in_words(key, fields.get(key)) for key in missing])
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        raise SeqrecError(where + one_line(str(error).splitlines()[0])) from error
    return reseal(verb, plain)


def missing_keys(plain: Any, prefix: str = "") -> Iterator[str]:
    """Keys of an unresolved tree that must still be given; what is interpolated from them is not asked for."""
    for name, value in plain.items() if isinstance(plain, dict) else ():
        if value == "???":
            yield f"{prefix}{name}"
        yield from missing_keys(value, f"{prefix}{name}.")


def reseal(verb: str, plain: Any) -> Settings:
    """The verb's record from plain values, as `unseal` gave them. Raises as `seal` does."""
    if not isinstance(plain, dict):
        raise SeqrecError(f"the configuration of {verb} is no mapping of keys to values")
    record, problems = _build(_record_class(verb), plain, "")
    _refuse(problems)
    assert record is not None
    return record


def unseal(record: Settings) -> dict[str, Any]:
    """Plain values (mappings, lists, text, numbers), ready for YAML or JSON; `reseal` gives the record again."""
    return {name: _plain(getattr(record, name)) for name in type(record).model_fields}


def fields_of(verb: str, plain: Any) -> Iterator[tuple[str, FieldInfo]]:
    """Every key the verb's record knows, dotted, with its field; slots by the option that `plain` names."""

    def walk(record: type[Settings], values: Any, prefix: str) -> Iterator[tuple[str, FieldInfo]]:
        for name, field in record.model_fields.items():
            inner = settings_in(field.annotation)
            if inner is None:
                yield prefix + name, field
                continue
            below = values.get(name) if isinstance(values, dict) else None
            option = below.get(KEYS[name]) if not prefix and name in KEYS and isinstance(below, dict) else None
            yield from walk(config_class(name, option) if option else inner, below, f"{prefix}{name}.")

    return walk(_record_class(verb), plain, "")


def _record_class(verb: str) -> type[Settings]:
    if verb not in VERBS:
        raise SeqrecError(f"no verb '{verb}'{nearest(verb, VERBS)} (have: {', '.join(VERBS)})")
    return VERBS[verb]


def _refuse(problems: list[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SeqrecError(one_line(problems[0]) + more)


def _build(record: type[Settings], plain: dict[str, Any], prefix: str) -> tuple[Settings | None, list[str]]:
    """The record, or what is wrong with it. Inner records are built first: strict mode takes instances only."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    settled: set[object] = set()  # fields whose problems are reported already
    for name, value in plain.items():
        field = record.model_fields.get(str(name))
        if field is None:  # refused below, with the nearest key
            values[name] = value
            continue
        inner = settings_in(field.annotation)
        if inner is None:
            values[name] = _as_tuples(field.annotation, value)
        elif value is None and type(None) in get_args(field.annotation):
            values[name] = None
        else:
            built, wrong = _build_inner(inner, name, value, prefix)
            problems += wrong
            if built is None:
                settled.add(name)
            else:
                values[name] = built
    try:
        return record(**values), problems
    except ValidationError as error:
        seen = settled
        for entry in error.errors():
            first = entry["loc"][0] if entry["loc"] else None
            if first is None or first not in seen:
                seen.add(first)
                problems.append(error_in_words(entry, record, plain, prefix))
        return None, problems


def _build_inner(inner: type[Settings], name: str, value: Any, prefix: str) -> tuple[Settings | None, list[str]]:
    path = prefix + name
    if not isinstance(value, dict):
        hint = f"choose one with {name}=OPTION" if not prefix else "it is a group of keys"
        return None, [f"{path}={value_in_words(value)}: expected keys, not one value; {hint}"]
    if not prefix and name in FOLDERS:
        option = value.get(KEYS[name])
        if not isinstance(option, str):
            return None, [missing_in_words(f"{path}.{KEYS[name]}", inner.model_fields[KEYS[name]])]
        try:
            inner = config_class(name, option)
        except SeqrecError as error:
            return None, [str(error)]
    return _build(inner, value, f"{path}.")


def _as_tuples(annotation: Any, value: Any) -> Any:
    """YAML has lists where a frozen record has tuples."""
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(value, list) and origin is tuple:
        kinds = [args[0]] * len(value) if Ellipsis in args else [*args, *[None] * len(value)][: len(value)]
        return tuple(_as_tuples(kind, item) for kind, item in zip(kinds, value, strict=True))
    if isinstance(value, dict) and origin is dict:
        return {key: _as_tuples(args[1], item) for key, item in value.items()}
    if origin in (Union, UnionType, Annotated):
        for arg in args if origin is not Annotated else args[:1]:
            changed = _as_tuples(arg, value)
            if changed is not value:
                return changed
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return unseal(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
