"""TOML tables to frozen dataclasses and back; knows no particular recipe.

Supported fields: bool, int, float, str, Path, Literal, nested dataclasses, `X | None` (absent from
the file means None), tuples, and dictionaries with string keys.
"""

import dataclasses
import json
import re
import tomllib
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from lxmert.files import parse_toml, shorten
from lxmert.names import nearest

T = TypeVar("T")

_MAX_DEPTH = 16
"""Names in a key; a recipe has three."""

_KINDS: dict[type, tuple[str, str]] = {
    bool: ("true or false", "true"),
    int: ("a whole number", "8"),
    float: ("a number", "0.5"),
    str: ("a string", '"name"'),
    Path: ("a path, written as a string", '"data/train.jsonl"'),
}
"""What a value of a plain type is called in messages, and how one is written in TOML."""


def from_table(kind: type[T], table: Mapping[str, object], *, prefix: str = "") -> T:
    """Build a dataclass from a table of the same shape.

    Args:
        kind: a frozen dataclass.
        table: values by field name, as `tomllib` reads them.
        prefix: key of the table in the recipe with a dot behind it, for messages.

    Returns:
        An instance of `kind`; its own `__post_init__` has run.

    Raises:
        ValueError: a key is unknown or missing, or a value has the wrong type.
    """
    # dataclasses.fields wants an instance or a dataclass type, which a TypeVar cannot promise.
    fields = {field.name: field for field in dataclasses.fields(cast(Any, kind)) if field.init}
    hints = get_type_hints(kind)
    for name in table:
        if name not in fields:
            raise ValueError(unknown_name(f"{prefix}{name}", [f"{prefix}{key}" for key in fields]))
    values: dict[str, object] = {}
    for name, field in fields.items():
        hint, key = hints[name], f"{prefix}{name}"
        default = _default(field)
        # TOML has no null: a default other than None could never be switched off again.
        assert type(None) not in get_args(hint) or default is None, f"{key} must default to None"
        if name in table:
            values[name] = _read(hint, table[name], key)
        elif default is dataclasses.MISSING and dataclasses.is_dataclass(hint):
            values[name] = _read(hint, {}, key)
        elif default is dataclasses.MISSING:
            raise ValueError(_missing(hint, key))
    return kind(**values)


def to_table(value: object) -> dict[str, object]:
    """Return the fields of a dataclass as a table that TOML can hold; None is left out.

    Args:
        value: an instance of a dataclass that `from_table` can build.
    """
    fields = dataclasses.fields(cast(Any, value))
    plain = {field.name: _plain(getattr(value, field.name)) for field in fields}
    return {name: item for name, item in plain.items() if item is not None}


def write_toml(table: Mapping[str, object]) -> str:
    """Return a table as TOML text that `tomllib.loads` reads back equal."""
    return "\n".join(_toml_lines(table, ())).strip() + "\n"


def flatten(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the leaves of nested tables by dotted key."""
    leaves: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{name}."))
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def override(table: Mapping[str, object], assignments: Sequence[str]) -> dict[str, object]:
    """Return a copy of nested tables with some values replaced.

    Args:
        table: a recipe as `tomllib` reads it.
        assignments: `a.b=value` each. The value is read as TOML, and as a string where it is no
            TOML; an empty value removes the key, so that its default holds again.

    Raises:
        ValueError: an assignment has no key or no `=`, or leads through a value that is no table.
    """
    result = dict(table)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path) or len(path) > _MAX_DEPTH:
            raise ValueError(
                f"--set {assignment[:200]}: expected key=value; write for example --set optim.lr=5e-5"
            )
        result = _replaced(result, path, text.strip(), assignment)
    return result


def merge(table: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Return nested tables with the values of others laid over them."""
    merged = dict(table)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = merge(below, value)
        else:
            merged[name] = value
    return merged


def unknown_name(given: str, valid: Collection[str]) -> str:
    """Return the message for a name that is none of the valid ones, with the nearest of those."""
    if not valid:
        return f"{given} is unknown; expected no name here: remove it"
    table, dot, key = given.rpartition(".")  # what all have in common makes none of them near
    close = nearest(key, [name.removeprefix(table + dot) for name in valid])
    hint = "".join(f"did you mean {table + dot + name!r}?" for name in close)
    return f"{given} is unknown; expected one of {', '.join(valid)}" + (f": {hint}" if hint else "")


def _default(field: "dataclasses.Field[Any]") -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _missing(hint: object, key: str) -> str:
    name, example = _sample(hint)
    return f"{key} is missing; expected {name}: add it to the recipe, such as {key} = {example}"


def _sample(hint: object) -> tuple[str, str]:
    """Return what values of a type are called, and how one is written in TOML."""
    kinds = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {_quoted(kinds)}", json.dumps(kinds[0])
    if get_origin(hint) in (Union, types.UnionType):
        return _sample(kinds[0])
    if get_origin(hint) is tuple:
        return "a list", f"[{_sample(kinds[0])[1]}]"
    if dataclasses.is_dataclass(hint):
        return "a table", "{...}"
    return _KINDS.get(cast(type, hint), ("a value", "..."))


def _read(hint: Any, value: object, key: str) -> object:
    """Convert one value of a table to the type of its field."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_table(cast(type, hint), _table(value, key), prefix=f"{key}.")
    if origin in (Union, types.UnionType):
        return _read_union([kind for kind in arguments if kind is not type(None)], value, key)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(
                f"{key} is {value!r}; expected one of {_quoted(arguments)}: "
                f"write for example {key} = {json.dumps(arguments[0])}"
            )
        return value
    if origin is tuple:
        return _read_tuple(arguments, value, key)
    if origin in (dict, Mapping):
        table = _table(value, key)
        return {name: _read(arguments[1], item, f"{key}.{name}") for name, item in table.items()}
    return _read_plain(hint, value, key)


def _read_union(kinds: Sequence[Any], value: object, key: str) -> object:
    """Return the value as the first kind that takes it."""
    problems = []
    for kind in kinds:
        try:
            return _read(kind, value, key)
        except ValueError as problem:
            problems.append(str(problem))
    raise ValueError("; or ".join(problems))


def _read_tuple(kinds: Sequence[Any], value: object, key: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise ValueError(
            f"{key} is {repr(value)[:60]}; expected a list: write for example "
            f"{key} = [{shorten(value)}]"
        )
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = [kinds[0]] * len(value)
    if len(kinds) != len(value):
        raise ValueError(
            f"{key} has {len(value)} values; expected {len(kinds)}: "
            f"write {key} = [{', '.join(['...'] * len(kinds))}] with one value for each"
        )
    pairs = zip(kinds, value, strict=True)
    return tuple(_read(kind, item, f"{key}[{i}]") for i, (kind, item) in enumerate(pairs))


def _read_plain(kind: type, value: object, key: str) -> object:
    assert kind in _KINDS, f"{key} has type {kind}, which a recipe cannot hold"
    if kind is Path and isinstance(value, str):
        return Path(value)
    # bool is a subclass of int in Python; in a recipe `true` is no number.
    numeric = isinstance(value, int) and not isinstance(value, bool)
    if kind is float and numeric:
        return float(cast(int, value))
    if (kind is int and numeric) or (kind is not int and isinstance(value, kind)):
        return value
    name, example = _KINDS[kind]
    raise ValueError(
        f"{key} is {repr(value)[:60]}; expected {name}: write for example {key} = {example}"
    )


def _table(value: object, key: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is {value!r}; expected a table: write [{key}] above its keys")
    return value


def _quoted(names: Sequence[object]) -> str:
    return ", ".join(json.dumps(name) for name in names)


def _plain(value: object) -> object:
    """Return a field's value as TOML types."""
    if dataclasses.is_dataclass(value):
        return to_table(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _replaced(
    table: Mapping[str, object], path: Sequence[str], text: str, assignment: str
) -> dict[str, object]:
    """Return a copy of `table` with the value at `path` replaced."""
    copy, name = dict(table), path[0]
    if len(path) > 1:
        inner = copy.get(name, {})
        if not isinstance(inner, Mapping):
            raise ValueError(
                f"--set {assignment}: {name} is {inner!r}; expected a table: --set {name}=..."
            )
        copy[name] = _replaced(inner, path[1:], text, assignment)
    elif text:
        copy[name] = _value(text, assignment)
    else:
        copy.pop(name, None)
    return copy


def _value(text: str, assignment: str) -> object:
    """Read one TOML value; text that is none stands for itself."""
    try:
        table = parse_toml(f"value = {text}", f"--set {assignment[:60]}")
    except ValueError as error:
        if isinstance(error.__cause__, tomllib.TOMLDecodeError):
            return text
        raise
    return table["value"] if len(table) == 1 else text


def _toml_lines(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    """Return plain values first: behind a sub-table they would belong to that."""
    values = {name: item for name, item in table.items() if not isinstance(item, Mapping)}
    lines = [f"{_toml_key(name)} = {_toml_value(item)}" for name, item in values.items()]
    for name, item in table.items():
        if isinstance(item, Mapping):
            inner = (*path, name)
            lines += ["", f"[{'.'.join(map(_toml_key, inner))}]", *_toml_lines(item, inner)]
    return lines


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_string(name)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{_toml_key(name)} = {_toml_value(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    assert isinstance(value, int | float), f"{value!r} is nothing that a recipe holds"
    return repr(value)


def _toml_string(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML wants DEL escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
