"""`lxmert train --device`; `lxmert recipes`: the list, a copy, the schema."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, Command

from lxmert import devices
from lxmert.tasks.registry import TASKS
from lxmert.train.recipes import BUNDLED, bundled_recipes, read_tables
from lxmert.workflows import training


def test_the_list_has_a_line_for_every_bundled_recipe(lxmert: Command) -> None:
    lines = lxmert("recipes").out.splitlines()
    names = [line.split()[0] for line in lines]
    assert len(names) == len([*BUNDLED.rglob("*.toml")]) >= 20
    assert names[0] == "custom"
    assert all(line.split(maxsplit=1)[1] for line in lines)


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_a_printed_recipe_works_from_any_folder(
    name: str, lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(lxmert("recipes", name).out)
    assert read_tables(Path("mine.toml")) == read_tables(Path(name))


def test_an_unknown_recipe_is_reported_with_the_nearest(lxmert: Command) -> None:
    result = lxmert("recipes", "costom")
    assert result.code == 2
    assert result.err.endswith("did you mean 'custom'?\n")


def test_the_schema_describes_the_recipes_of_all_tasks(lxmert: Command) -> None:
    schema = json.loads(lxmert("recipes", "--schema").out)
    kinds = [kind["$ref"].removeprefix("#/$defs/") for kind in schema["anyOf"]]
    tasks = [schema["$defs"][kind]["properties"]["task"]["const"] for kind in kinds]
    assert sorted(tasks) == sorted(TASKS)
    presets = schema["$defs"]["PretrainingRecipe"]["properties"]["preset"]["enum"]
    assert presets == ["default", "released", "paper"]


@pytest.mark.parametrize(
    ("device", "cpu"), [(None, False), ("cpu", True), ("cuda", False), ("cuda:1", None)]
)
def test_training_takes_all_gpus_or_none(
    lxmert: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: str | None,
    cpu: object,
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(devices, "_available", lambda: {"cpu": 1, "cuda": 2})
    monkeypatch.setattr(training, "train_recipe", lambda *_, **named: given.update(named))
    options = ("--device", device) if device else ()
    folder = ROOT / "src/lxmert/examples"
    data = (f"data.train={folder / 'questions.jsonl'}", f"data.images={folder}")
    files = [option for pair in data for option in ("--set", pair)]
    done = lxmert("train", "custom", "-o", tmp_path / "run", *files, *options)
    assert given.get("cpu") is cpu
    if cpu is None:
        assert done.code == 2
        assert "expected cpu or cuda: each process" in done.err
