"""Recipes: TOML files of settings, with presets, bases and overrides.

Relative paths in a recipe are relative to the current directory, not to the recipe's own. Only
`base`, another recipe whose values it changes, is a file in the recipe's directory or the name of a
bundled recipe.
"""

import copy
import json
import re
import tomllib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import Field, create_model
from pydantic.json_schema import models_json_schema

from lxmert.files import parse_toml, read_text, read_toml
from lxmert.names import unknown_name
from lxmert.records import Record
from lxmert.train.settings import LoopSettings, OptimSettings, batch_problems

if TYPE_CHECKING:
    from lxmert.tasks.task import Task

Tasks = Mapping[str, "type[Task]"]
"""Task classes by name; a class is called with its settings and the keyword `seed`."""

BUNDLED = Path(__file__).parents[1] / "recipes"
"""Folder of the recipes in this package."""

_MAX_DEPTH = 16
"""Maximum number of names in a key; those of a recipe have up to three."""


class _Common(Record):
    """The part of a recipe that all tasks share."""

    task: str
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    optim: OptimSettings
    loop: LoopSettings = LoopSettings()

    def problems(self) -> Iterator[str]:
        """Yield a batch that cannot be split into micro-batches."""
        yield from batch_problems(self.optim.batch_size, self.loop.micro_batches)


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        task: name of the task.
        settings: instance of the task's `settings_type`; its fields are tables of the recipe.
        optim: the table `[optim]`.
        loop: the table `[loop]`.
        seed: of initial weights, order of examples, masks and dropout.
    """

    task: str
    settings: Record
    optim: OptimSettings
    loop: LoopSettings
    seed: int = 0


def read_recipe(path: Path, tasks: Tasks, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a TOML file.

    Args:
        path: the file, or the name of a bundled recipe.
        tasks: task classes by name.
        overrides: `a.b=value` each, as `--set` takes them; they win over the file. An empty value
            removes the key.

    Raises:
        FileNotFoundError: the file or its base does not exist.
        ValueError: the file is not TOML or is its own base; or naming the file and every wrong key
            and value.
    """
    tables = read_tables(path)
    texts = _text_keys(override(tables, overrides), tasks)
    table = override(tables, overrides, texts=texts)
    try:
        return make_recipe(table, tasks)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def make_recipe(table: Mapping[str, object], tasks: Tasks) -> Recipe:
    """Build a recipe from its tables.

    Args:
        table: `task`, `seed`, `optim`, `loop` and the tables of the task's settings; for tasks with
            presets also `preset`, which gives the values that are missing in the tables.
        tasks: task classes by name.

    Raises:
        ValueError: naming every wrong, missing and unknown key.
    """
    if "stages" in table:
        raise ValueError("stages is a table of a sweep: use lxmert lab sweep for this recipe")
    name = table.get("task")
    if not isinstance(name, str):
        raise ValueError(
            f"task is {name!r}; expected one of {', '.join(tasks)}: "
            f'write task = "{next(iter(tasks))}" at the top of the recipe'
        )
    if name not in tasks:
        raise ValueError(f"task: {unknown_name(name, tasks)}")
    kind = tasks[name].settings_type
    tables: dict[str, object] = {key: {} for key in ("optim", *kind.model_fields)}
    read = _file_type(name, kind).from_dict(tables | _with_preset(table, tasks[name]))
    values = dict(read)
    settings = kind(**{key: values[key] for key in kind.model_fields})
    return Recipe(name, settings, read.optim, read.loop, read.seed)


def recipe_table(recipe: Recipe) -> dict[str, Any]:
    """Return the tables of a resolved recipe with all defaults; `make_recipe` takes them."""
    tables = {**recipe.settings.to_dict(), "optim": recipe.optim.to_dict()}
    tables["loop"] = recipe.loop.to_dict()
    for name, table in tables.items():
        tables[name] = {key: value for key, value in table.items() if value is not None}
    return {"task": recipe.task, "seed": recipe.seed, **tables}


def recipe_text(recipe: Recipe) -> str:
    """Return a resolved recipe as TOML text."""
    lines = []
    for name, value in recipe_table(recipe).items():
        if isinstance(value, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(item)}" for key, item in value.items())]
        else:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def recipe_schema(tasks: Tasks) -> dict[str, Any]:
    """Return a JSON schema of recipes, with which editors complete and check them.

    No key is required, as a base, a preset or `--set` may give it.
    """
    kinds = {name: _file_type(name, task.settings_type) for name, task in tasks.items()}
    models = [(kind, "validation") for kind in kinds.values()]
    _, schema = models_json_schema(models)  # type: ignore[arg-type]
    definitions = schema["$defs"]
    for definition in definitions.values():
        definition.pop("required", None)
    for name, kind in kinds.items():
        properties = definitions[kind.__name__]["properties"]
        properties["task"] = {"const": name}
        properties["base"] = {"type": "string", "description": "Recipe whose values are changed."}
        if presets := _presets(tasks[name]):
            properties["preset"] = {"enum": list(presets)}
    names = [kind.__name__ for kind in kinds.values()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "LXMERT recipe",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": definitions,
    }


def bundled_recipes() -> dict[str, Path]:
    """Return the bundled recipes by name, those of the lab last."""
    paths = sorted(BUNDLED.rglob("*.toml"), key=lambda path: (path.parent != BUNDLED, path))
    return {path.relative_to(BUNDLED).with_suffix("").as_posix(): path for path in paths}


def summarize_recipe(path: Path) -> str:
    """Return the first sentence of the comment at the top of a recipe."""
    lines = read_text(path).splitlines()
    comment = takewhile(lambda line: line.startswith("#"), lines)
    return (
        " ".join(line.removeprefix("#").strip() for line in comment).partition(". ")[0].strip(".")
    )


def find_recipe(name: Path) -> Path:
    """Return the path of a recipe: a file, or a bundled one by its name, such as `vqa`."""
    return name if name.is_file() else bundled_recipes().get(name.as_posix(), name)


def read_tables(path: Path) -> dict[str, Any]:
    """Read the tables of a file, merged over those of its base; lists are replaced.

    Raises:
        FileNotFoundError: the file or its base does not exist.
        ValueError: the file or a base is not TOML, or it is its own base.
    """
    return _read_over_base(path, ())


def override(
    table: Mapping[str, object], assignments: Sequence[str], *, texts: Container[str] = ()
) -> dict[str, Any]:
    """Return a copy of nested tables with some values replaced.

    An assigned `optim.epochs` replaces the `optim.steps` of the recipe, and vice versa.

    Args:
        table: tables of a recipe.
        assignments: `a.b=value` each. The value is read as TOML, and as text if it is not TOML; an
            empty value removes the key, so that its default applies.
        texts: keys whose values are texts or lists of texts: the folder `2024` is no number.

    Raises:
        ValueError: an assignment has no key or no `=`, or a part of its key is not a table.
    """
    result: dict[str, Any] = copy.deepcopy(dict(table))
    _drop_other_length(result, assignments)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        *parents, name = key.strip().split(".")
        if not (equals and all(parents) and name) or len(parents) >= _MAX_DEPTH:
            raise ValueError(
                f"--set {assignment[:200]}: expected key=value, such as --set optim.lr=5e-5"
            )
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ValueError(
                    f"--set {assignment[:200]}: {parent} is {inner!r}, expected a table: "
                    f"set {parent} itself"
                )
        if text.strip():
            is_text = key.strip() in texts
            inner[name] = _value(text.strip(), assignment, is_text=is_text)
        else:
            inner.pop(name, None)
    return result


def _drop_other_length(table: dict[str, Any], assignments: Sequence[str]) -> None:
    """Remove `optim.steps` of a recipe if only `optim.epochs` is assigned, and vice versa."""
    given = {
        key.strip() for key, _, text in (a.partition("=") for a in assignments) if text.strip()
    }
    optim = table.get("optim")
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if f"optim.{name}" in given and f"optim.{other}" not in given and isinstance(optim, dict):
            optim.pop(other, None)
            if name == "steps":
                optim.pop("min_steps", None)


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by dotted key."""
    leaves: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{name}."))
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _file_type(name: str, settings_type: type[Record]) -> type[_Common]:
    """Return the record of a recipe file of one task."""
    fields: dict[str, Any] = {
        key: (field.annotation, ...) for key, field in settings_type.model_fields.items()
    }
    shared = fields.keys() & _Common.model_fields.keys()
    assert not shared, f"{settings_type.__name__} must not have the fields {sorted(shared)}"
    return create_model(f"{name.title()}Recipe", __base__=_Common, **fields)


def _text_keys(table: Mapping[str, object], tasks: Tasks) -> set[str]:
    """Return the keys of a recipe whose values are texts or lists of texts."""
    name = table.get("task")
    if not isinstance(name, str) or name not in tasks:
        return set()
    return set(_text_fields(_file_type(name, tasks[name].settings_type)))


def _text_fields(kind: type[Record], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        hint = field.annotation
        if isinstance(hint, type) and issubclass(hint, Record):
            yield from _text_fields(hint, f"{prefix}{name}.")
        elif _takes_text(hint):
            yield f"{prefix}{name}"


def _takes_text(hint: object) -> bool:
    """Return whether values of a type are texts or lists of texts."""
    parts = () if get_origin(hint) is dict else get_args(hint)
    return hint in (str, Path) or any(map(_takes_text, parts))


def _presets(task: "type[Task]") -> Mapping[str, Mapping[str, object]]:
    return getattr(task, "presets", {})


def _with_preset(table: Mapping[str, object], task: "type[Task]") -> dict[str, object]:
    """Return the tables of a recipe, merged over those of the preset that it names.

    Raises:
        ValueError: if the task has no such preset.
    """
    presets = _presets(task)
    if "preset" not in table or not presets:
        return dict(table)
    name = str(table["preset"])
    if name not in presets:
        raise ValueError(f"preset: {unknown_name(name, presets)}")
    return _merge(presets[name], {key: table[key] for key in table if key != "preset"})


def _merge(table: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Return nested tables with the values of `over` replacing those of `table`."""
    merged = dict(table)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = _merge(below, value)
        else:
            merged[name] = value
    return merged


def _read_over_base(path: Path, above: Sequence[Path]) -> dict[str, object]:
    """Read a file; `above` are the recipes that it is the base of."""
    path = find_recipe(path)
    if not path.is_file():
        named = f"base of {above[-1]}: " if above else ""
        raise FileNotFoundError(
            f"{named}{path} does not exist; expected a recipe in TOML, or the name of one that "
            "lxmert recipes lists"
        )
    if path.resolve() in [other.resolve() for other in above]:
        raise ValueError(f"{path} is its own base: remove base from it, or from {above[-1]}")
    table = read_toml(path)
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ValueError(f'{path}: base is {base!r}; expected a file: base = "NAME.toml"')
    below = bundled_recipes().get(base, path.parent / base)
    return _merge(_read_over_base(below, (*above, path)), table)


def _value(text: str, assignment: str, *, is_text: bool) -> object:
    """Read one TOML value; what is not TOML, or not of the type, is the text itself."""
    try:
        table = parse_toml(f"value = {text}", f"--set {assignment[:60]}")
    except ValueError as error:
        if isinstance(error.__cause__, tomllib.TOMLDecodeError):
            return text
        raise
    value = table["value"] if len(table) == 1 else text
    return text if is_text and not isinstance(value, str | list) else value


def _toml(value: object) -> str:
    """Return a value as TOML; it is JSON except for tables, DEL in texts, and numbers."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{_toml_key(name)} = {_toml(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)
