"""Types, ranges and validation errors of config records, in words."""

import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from seqrec_cli.config.errors import nearest
from seqrec_cli.config.settings import Settings

_PLAIN = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "null"}


def settings_in(annotation: Any) -> type[Settings] | None:
    """The record an annotation holds (`X` or `X | None`), if it holds one."""
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, Settings):
            return part
    return None


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, `Annotated` unwrapped; a type that is no union is its own only member."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _parts(member)]
    return [annotation]


def type_in_words(annotation: Any, metadata: typing.Iterable[Any] = ()) -> str:
    """`integer >= 1 or null`, `one of cosine, constant`, `list of number > 0`."""
    metadata = tuple(metadata)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [m for extra in args[1:] for m in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        return type_in_words(args[0], (*metadata, *inner))
    if origin in (Union, types.UnionType):
        return " or ".join(type_in_words(arg, () if arg is type(None) else metadata) for arg in args)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple:
        inside = [type_in_words(arg) for arg in args if arg is not Ellipsis]
        same = len(set(inside)) == 1
        count = "" if Ellipsis in args else f"{len(inside)} x "
        return f"list of {count}{inside[0] if same else ', '.join(inside)}{_range(metadata)}"
    if origin is dict:
        return f"mapping of {type_in_words(args[0])} to {type_in_words(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return f"keys {', '.join(annotation.model_fields)}"
    return _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation))) + _range(metadata)


def _range(metadata: tuple[Any, ...]) -> str:
    limits = []
    for limit, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="), ("multiple_of", "a multiple of")):
        limits += [f"{sign} {value}" for m in metadata if (value := getattr(m, limit, None)) is not None]
    text = f" {' and '.join(limits)}" if limits else ""
    for m in metadata:
        if least := getattr(m, "min_length", None):
            text += ", not empty" if least == 1 else f", at least {least}"
    for m in metadata:
        if pattern := getattr(m, "pattern", None):
            text += f" of the form {pattern}"
    return text


def field_in_words(field: FieldInfo) -> str:
    """The type and range of a record's field."""
    return type_in_words(field.annotation, field.metadata)


def values_of(field: FieldInfo) -> list[str]:
    """The values a field can name: choices, true/false, null. Empty when it takes anything."""
    found: list[str] = []
    for part in _parts(field.annotation):
        if get_origin(part) is Literal:
            found += map(str, get_args(part))
        elif part is bool:
            found += ["true", "false"]
        elif part is type(None):
            found.append("null")
    return found


def value_in_words(value: Any) -> str:
    """A value as YAML and the command line write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_in_words, value))}]"
    return str(value)


def error_in_words(error: Any, record: type[Settings], plain: dict[str, Any], prefix: str) -> str:
    """One entry of `ValidationError.errors()` as a line: the dotted key, the value given, what was expected."""
    loc = error["loc"]
    key = prefix + ".".join(map(str, loc[:1]))
    if error["type"] == "value_error":  # a rule of ours: it says everything but, perhaps, where
        message = str(error["ctx"]["error"])
        where = key.rstrip(".")
        return message if not where or message.startswith(where) else f"{where}: {message}"
    if error["type"] == "extra_forbidden":
        hint = nearest(str(loc[0]), record.model_fields)
        return f"{key}: no such key" + hint.replace("'", f"'{prefix}", 1)
    if not loc:
        return f"{prefix.rstrip('.') or record.__name__}: {error['msg']}"
    field = record.model_fields[loc[0]]
    if error["type"] == "missing":
        return missing_in_words(key, field)
    value = plain[loc[0]]
    choice = nearest(value, values_of(field)) if isinstance(value, str) else ""
    quote = ""
    if error["type"] == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        quote = f"; quote a number that is text twice: \"{key}='{value}'\""
    return f"{key}={value_in_words(value)}: expected {field_in_words(field)}{choice}{quote} ({field.description})"


def missing_in_words(key: str, field: FieldInfo | None) -> str:
    """What to do about a key without a value."""
    words = f" ({field.description})" if field is not None and field.description else ""
    return f"{key} is missing: give it as {key}=VALUE{words}"
