"""Keys, types, ranges and validation errors of config records, in words."""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import ValidationError

from seqrec_cli.config.auto_rule import words_for
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.registry import GROUPS, config_class
from seqrec_cli.config.settings import Option, Settings

_TYPES = {"boolean": "true or false", "integer": "integer", "number": "number", "string": "text", "null": "null"}
_LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


class Key(NamedTuple):
    """A key of a configuration, with its type as pydantic's JSON schema has it."""

    name: str  # dotted, as the command line has it
    schema: dict[str, Any]

    @property
    def description(self) -> str:
        return str(self.schema["description"])

    def type(self) -> str:
        """`integer >= 1 or null`, `one of cosine, constant`, `list of number > 0`."""
        return _in_words(self.schema) + (" or auto" if words_for(self.name) else "")

    def choices(self) -> list[str]:
        """The values it can name: choices, true/false, null. Empty when it takes anything."""
        found: list[str] = []
        for part in self.schema.get("anyOf", [self.schema]):
            found += [str(value) for value in part.get("enum", [])]
            found += {"boolean": ["true", "false"], "null": ["null"]}.get(part.get("type"), [])
        return found + list(words_for(self.name))


def _in_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_in_words, schema["anyOf"]))
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return f"one of {', '.join(map(str, choices))}"
    if "$ref" in schema:
        return "a group of keys"
    if schema["type"] == "array":
        inside = [_in_words(item) for item in schema.get("prefixItems", [schema.get("items", {})])]
        count = f"{len(inside)} x " if "prefixItems" in schema else ""
        least = 0 if count else schema.get("minItems", 0)
        size = "" if not least else ", not empty" if least == 1 else f", at least {least}"
        return f"list of {count}{inside[0] if len(set(inside)) == 1 else ', '.join(inside)}{size}"
    if schema["type"] == "object":
        return f"mapping of text to {_in_words(schema['additionalProperties'])}"
    limits = " and ".join(f"{sign} {schema[name]}" for name, sign in _LIMITS.items() if name in schema)
    pattern = f" of the form {schema['pattern']}" if "pattern" in schema else ""
    pattern = f" {schema['words']}" if "words" in schema else pattern  # of a pattern that few people read
    return f"{_TYPES[schema['type']]}{limits and ' '}{limits}{pattern}"


def value_in_words(value: Any) -> str:
    """A value as YAML and the command line write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_in_words, value))}]"
    return str(value)


def settings_in(annotation: Any) -> type[Settings] | None:
    """The record that an annotation holds (`X`, `X | None`, `dict[str, X]`), if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next(filter(None, map(settings_in, get_args(annotation))), None)


def keys_of(record: type[Settings], plain: Any, prefix: str = "") -> Iterator[Key]:
    """Every key a record knows; those of a group whose options are code are of the option that `plain` names."""
    if issubclass(record, Option):
        name = plain.get(GROUPS[record.group].key) if isinstance(plain, dict) else None
        record = _class_named(record, name)
    schemas = record.model_json_schema()["properties"]
    for name, field in record.model_fields.items():
        inner, below = settings_in(field.annotation), plain.get(name) if isinstance(plain, dict) else None
        if inner is None:
            yield Key(prefix + name, schemas[name])
        elif get_origin(field.annotation) is not dict:
            yield from keys_of(inner, below, f"{prefix}{name}.")
        else:
            yield Key(prefix + name, schemas[name])
            for key, each in below.items() if isinstance(below, dict) else ():
                yield from keys_of(inner, each, f"{prefix}{name}.{key}.")


def _class_named(base: type[Option], name: Any) -> type[Settings]:
    try:
        return config_class(base.group, name) if isinstance(name, str) else base
    except SeqrecError:  # no such option: the keys that all of them have
        return base


def errors_in_words(error: ValidationError, record: type[Settings], plain: Any) -> list[str]:
    """What is wrong, a line for each key: the dotted key, the value given, what was expected."""
    keys = {key.name: key for key in keys_of(record, plain)}
    found: dict[str, str] = {}
    for entry in error.errors():
        parts = [str(part) for part in entry["loc"]]
        upto = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        here = upto[0] if upto else ""
        name = (
            here
            if entry["type"] in ("value_error", "extra_forbidden")
            else next((prefix for prefix in upto if prefix in keys), here)
        )
        found.setdefault(name, _error_in_words(entry, name, keys=keys, plain=plain))
    return list(found.values())


def _error_in_words(entry: Any, name: str, *, keys: dict[str, Key], plain: Any) -> str:
    if entry["type"] == "value_error":  # a rule of ours: it says everything but, perhaps, where
        message = str(entry["ctx"]["error"])
        return message if message.startswith(name) else f"{name}: {message}"
    if entry["type"] == "missing":
        return missing_in_words(name, keys.get(name))
    if entry["type"] == "extra_forbidden":
        parent = name[: name.rfind(".") + 1]
        siblings = {key.removeprefix(parent).split(".")[0] for key in keys if key.startswith(parent)}
        return f"{name}: no such key" + nearest(name.removeprefix(parent), siblings).replace("'", f"'{parent}", 1)
    value = _value_at(plain, name)
    given = f"{name}={value_in_words(value)}"
    if entry["type"] == "no_such_option":
        return f"{given}: {entry['msg']}"
    if name not in keys:  # a record
        hint = "it is a group of keys" if "." in name or name not in GROUPS else f"choose one with {name}=OPTION"
        return f"{given}: expected keys, not one value; {hint}"
    key = keys[name]
    choice = nearest(value, key.choices()) if isinstance(value, str) else ""
    quote = ""
    if entry["type"] == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        quote = f"; quote a number that is text twice: \"{name}='{value}'\""
    return f"{given}: expected {key.type()}{choice}{quote} ({key.description})"


def _value_at(plain: Any, name: str) -> Any:
    """By its dotted key; the keys of a search space have dots themselves."""
    if not name or not isinstance(plain, dict):
        return plain if not name else None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if (key := ".".join(parts[:end])) in plain:
            return _value_at(plain[key], ".".join(parts[end:]))
    return None


def missing_in_words(name: str, key: Key | None) -> str:
    """What to do about a key without a value."""
    return f"{name} is missing: give it as {name}=VALUE" + (f" ({key.description})" if key is not None else "")
