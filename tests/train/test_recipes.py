"""Recipes: reading, errors, and writing of the resolved recipe."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from toy import RECIPE, TASKS, ToySettings, toy_recipe, toy_task

from lxmert.tasks.registry import RECIPES
from lxmert.train.recipes import (
    flatten,
    make_recipe,
    override,
    read_recipe,
    read_tables,
    recipe_schema,
    recipe_table,
    recipe_text,
)


def test_settings_come_from_the_file_and_defaults_fill_the_rest(tmp_path):
    recipe = toy_recipe(tmp_path)
    assert (recipe.task, recipe.seed) == ("toy", 3)
    assert recipe.optim.lr == 1e-2
    assert recipe.optim.betas == (0.9, 0.999)
    assert recipe.loop.precision == "fp32"
    assert isinstance(recipe.settings, ToySettings)
    assert recipe.settings.data.num_examples == 23
    assert len(toy_task(recipe)) == 23


def test_texts_with_quotes_and_controls_are_written_as_toml(tmp_path):
    name = 'quote " backslash \\ line\nnull \x00 delete \x7f ünï'
    recipe = toy_recipe(tmp_path)
    data = recipe.settings.data.replace(weights={name: 1e-05, "dotted.name": 1e16})
    changed = dataclasses.replace(recipe, settings=recipe.settings.replace(data=data))
    assert make_recipe(tomllib.loads(recipe_text(changed)), TASKS) == changed


def test_a_resolved_recipe_reads_back_equal(tmp_path):
    recipe = toy_recipe(tmp_path, "optim.clip_norm=", "data.weights={value = 2, parity = 0.25}")
    assert make_recipe(tomllib.loads(recipe_text(recipe)), TASKS) == recipe
    assert flatten(recipe_table(recipe))["data.weights.value"] == 2.0


def test_overrides_are_toml_or_else_text(tmp_path):
    recipe = toy_recipe(
        tmp_path, "optim.lr=5e-5", "optim.schedule=cosine", "optim.betas=[0.5, 0.75]", "seed = 8"
    )
    assert recipe.optim.lr == 5e-5
    assert recipe.optim.schedule == "cosine"
    assert recipe.optim.betas == (0.5, 0.75)
    assert recipe.seed == 8


@pytest.mark.parametrize(
    "text", ["2024", "007", "1e3", "0x10", "true", "2024-01-02", "{a = 1}", "5 # old"]
)
def test_text_settings_take_what_toml_reads_as_something_else(text):
    """A folder named `2024` was refused: got 2024, expected a text."""
    names = "data.train", "data.valid", "data.regions", "data.valid_regions", "model.init_from"
    given = [f"{name}={text}" for name in names]
    recipe = read_recipe(Path("vqa"), RECIPES, overrides=[*given, "seed=8"])
    table = flatten(recipe_table(recipe))
    assert table["data.train"] == table["data.valid_regions"] == [text]
    assert table["model.init_from"] == text
    assert recipe.seed == 8


@pytest.mark.parametrize(
    "name", ["custom", "detector", "gqa", "nlvr2", "pretraining", "retrieval", "vqa"]
)
def test_every_text_setting_of_a_recipe_takes_a_number(name):
    path = Path(name)
    definitions = recipe_schema(RECIPES)["$defs"]
    tables = definitions[f"{read_tables(path)['task'].title()}Recipe"]["properties"]
    texts = [
        f"{table}.{key}"
        for table in tables.keys() & {"data", "model", "objectives"}
        for key, kind in definitions[tables[table]["$ref"].split("/")[-1]]["properties"].items()
        if any(
            each.get("type") == "string" and "enum" not in each
            for each in (kind, *kind.get("anyOf", ()))
        )
    ]
    assert "data.train" in texts or "data.regions" in texts
    recipe = read_recipe(path, RECIPES, overrides=[f"{key}=8" for key in texts])
    values = flatten(recipe_table(recipe))
    assert [values[key] for key in texts if values[key] not in ("8", ["8"])] == []


def test_an_override_does_not_change_its_table():
    table = {"optim": {"lr": 1.0}}
    assert override(table, ["optim.lr=2.0", "new.key='x'"]) == {
        "optim": {"lr": 2.0},
        "new": {"key": "x"},
    }
    assert table == {"optim": {"lr": 1.0}}


def test_an_empty_override_removes_the_key(tmp_path):
    assert toy_recipe(tmp_path, "optim.steps=", "optim.epochs=2.5").optim.epochs == 2.5


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.warmup_step=1", "unknown key 'optim.warmup_step' .did you mean 'warmup_steps"),
        ("optin.lr=1", "unknown key 'optin' .did you mean 'optim"),
        ("data.num_example=1", "unknown key 'data.num_example' .did you mean 'num_examples"),
        ("task=toi", "toi is unknown; expected one of toy: did you mean 'toy"),
        ("task=", "task is None; expected one of toy: write task = "),
        ("optim.lr=", "optim.lr is missing"),
        ("optim.lr=fast", 'optim.lr: got "fast", expected a number'),
        ("optim.lr=true", "optim.lr: got true, expected a number"),
        ("optim.steps=1e3", "optim.steps: got 1000.0, expected an integer"),
        ("optim.schedule=liner", "expected 'linear', 'cosine', 'constant' or 'plateau'"),
        ("optim.betas=[0.5]", r"optim.betas\[1\] is missing"),
        ("optim.betas=0.5", "optim.betas: got 0.5, expected a list"),
        ("optim.betas=[0.5,'x']", r'optim.betas\[1\]: got "x", expected a number'),
        ("data.weights=1", "data.weights: got 1, expected an object"),
        ("data.weights.value=x", 'data.weights.value: got "x", expected a number'),
        ("data=1", "data: got 1, expected an object"),
        ("seed.a=1", "seed is 3, expected a table"),
        (
            "data.weights=" + "[" * 100_000,
            "--set data.weights=.* is not valid TOML .nested too deep",
        ),
        ("data.weights=" + "{a=" * 99 + "1" + "}" * 99, "--set data.weights=.*nested too deep"),
        ("data" + ".a" * 100_000 + "=1", "--set data.a.* expected key=value"),
        ("optim.lr=1" + "0" * 400, "--set optim.lr=1.*an integer of"),
        ("seed=1" + "0" * 9000, "--set seed=1.* is not valid TOML"),
        ("nothing", "--set nothing: expected key=value, such as"),
        ("=1", "expected key=value"),
    ],
)
def test_wrong_keys_and_types_are_named(tmp_path, assignment, message):
    with pytest.raises(ValueError, match=message) as raised:
        toy_recipe(tmp_path, assignment)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.steps=", "optim: steps is None and epochs is None, expected exactly one"),
        ("optim.steps=0", "optim.steps: got 0, expected above 0"),
        ("optim.lr=-1", "optim.lr: got -1, expected above 0"),
        ("optim.lr=nan", "optim.lr: got NaN, expected a finite number"),
        ("optim.batch_size=0", "optim.batch_size: got 0"),
        ("optim.weight_decay=-1", "optim.weight_decay: got -1"),
        ("optim.betas=[1.0, 0.5]", r"optim.betas\[0\]: got 1.0, expected below 1"),
        ("optim.eps=0", "optim.eps: got 0"),
        ("optim.clip_norm=0", "optim.clip_norm: got 0"),
        ("optim.warmup_steps=20", r"warmup_steps is 20, .* less than the steps of the run \(20\)"),
        ("optim.warmup_steps=-1", "optim.warmup_steps: got -1"),
        ("optim.warmup_share=0.1", "warmup_share is 0.1 and warmup_steps is 3, expected only one"),
        ("optim.start_at.parity=1", "optim.start_at.parity: got 1, expected below 1"),
        ("optim.name=adam", "optim.name: .* expected 'adamw' or 'bert-adam'"),
        ("loop.micro_batches=3", "batch_size is 8, expected a multiple of 3 .*try 9"),
        ("loop.log_every=0", "loop.log_every: got 0"),
        ("loop.evaluate_every=0", "loop.evaluate_every: got 0"),
        ("loop.workers=-1", "loop.workers: got -1"),
        ("loop.parallel=zero", "loop.parallel: .* expected 'ddp' or 'fsdp'"),
        ("seed=-1", "seed: got -1"),
    ],
)
def test_values_out_of_range_and_contradictions_are_named(tmp_path, assignment, message):
    with pytest.raises(ValueError, match=message):
        toy_recipe(tmp_path, assignment)


def test_sharded_training_has_no_fp16(tmp_path):
    with pytest.raises(ValueError, match='is "fp16" with parallel "fsdp", expected "bf16"'):
        toy_recipe(tmp_path, "loop.parallel=fsdp", "loop.precision=fp16")


def test_all_errors_of_a_file_are_named_at_once(tmp_path):
    changes = (
        "optim.lr=-1",
        "loop.log_evry=3",
        "data.num_examples=x",
        "sed=4",
        "optim.batch_size=",
    )
    with pytest.raises(ValueError, match=r"toy\.toml: ") as raised:
        toy_recipe(tmp_path, *changes)
    assert str(raised.value).partition(": ")[2] == (
        "optim.lr: got -1, expected above 0; optim.batch_size is missing; "
        "unknown key 'loop.log_evry' (did you mean 'log_every'?); "
        'data.num_examples: got "x", expected an integer; '
        "unknown key 'sed' (did you mean 'seed'?)"
    )


def test_a_missing_table_names_its_required_keys():
    with pytest.raises(ValueError, match=r"optim\.lr is missing; optim\.batch_size is missing"):
        make_recipe({"task": "toy"}, TASKS)


def test_the_schema_has_every_table_and_allows_partial_recipes():
    schema = recipe_schema(TASKS)
    (reference,) = schema["anyOf"]
    properties = schema["$defs"][reference["$ref"].removeprefix("#/$defs/")]["properties"]
    assert properties.keys() == {"task", "base", "seed", "optim", "loop", "data", "model"}
    assert properties["task"] == {"const": "toy"}
    learning_rate = schema["$defs"]["OptimSettings"]["properties"]["lr"]
    assert learning_rate["exclusiveMinimum"] == 0
    assert learning_rate["description"] == "Peak learning rate."
    assert "required" not in str(schema)


@pytest.mark.parametrize("text", ["[" * 100_000, "a = " + "[" * 100_000, "seed = 1" + "0" * 400])
def test_a_recipe_without_end_is_named(tmp_path, text):
    """Deep nesting was a RecursionError, a number of 400 digits an OverflowError."""
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"deep\.toml is not valid TOML"):
        read_recipe(path, TASKS)


def test_a_recipe_of_bytes_is_named(tmp_path):
    """It was "'utf-8' codec can't decode byte 0xff", without the file."""
    (tmp_path / "bytes.toml").write_bytes(b"seed = \xff")
    with pytest.raises(ValueError, match=r"bytes\.toml is not UTF-8 text"):
        read_recipe(tmp_path / "bytes.toml", TASKS)


def test_a_file_that_is_absent_or_no_toml_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; expected a recipe"):
        read_recipe(tmp_path / "absent.toml", TASKS)
    (tmp_path / "broken.toml").write_text(RECIPE + "\nlr = = 3")
    with pytest.raises(ValueError, match="is not valid TOML"):
        read_recipe(tmp_path / "broken.toml", TASKS)


def test_a_recipe_may_hold_only_what_differs_from_its_base(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/base.toml").write_text(RECIPE)
    (tmp_path / "recipes/middle.toml").write_text('base = "base.toml"\n[optim]\nlr = 0.25\n')
    path = tmp_path / "recipes/other.toml"
    path.write_text('base = "middle.toml"\nseed = 5\n[optim]\nweight_decay = 0.5\n')
    monkeypatch.chdir(tmp_path)
    changes = ["optim.lr=0.25", "optim.weight_decay=0.5", "seed=5"]
    expected = read_recipe(tmp_path / "recipes/base.toml", TASKS, overrides=changes)
    assert read_recipe(path, TASKS) == expected
    assert read_recipe(Path("recipes/other.toml"), TASKS) == expected
    assert read_recipe(path, TASKS, overrides=["seed=7"]).seed == 7


def test_a_base_that_is_absent_or_goes_round_is_reported(tmp_path):
    path, other = tmp_path / "recipe.toml", tmp_path / "other.toml"
    path.write_text('base = "other.toml"')
    with pytest.raises(FileNotFoundError, match=r"base of .*: .*other\.toml does not exist"):
        read_recipe(path, TASKS)
    other.write_text('base = "recipe.toml"')
    with pytest.raises(ValueError, match=r"recipe\.toml is its own base: .* from .*other\.toml"):
        read_recipe(path, TASKS)
    path.write_text("base = 3")
    with pytest.raises(ValueError, match=r"base is 3; expected a file"):
        read_recipe(path, TASKS)


def test_an_assigned_length_replaces_the_other_one() -> None:
    """`--set optim.epochs=3` was refused for recipes with steps."""
    table = {"optim": {"steps": 20, "lr": 1.0}}
    assert override(table, ["optim.epochs=3"])["optim"] == {"epochs": 3, "lr": 1.0}
    assert override(table, ["optim.steps=7"])["optim"] == {"steps": 7, "lr": 1.0}
    assert override(table, ["optim.epochs="])["optim"] == {"steps": 20, "lr": 1.0}
    by_epochs = {"optim": {"epochs": 2, "min_steps": 9}}
    assert override(by_epochs, ["optim.steps=7"])["optim"] == {"steps": 7}
    both = override(table, ["optim.steps=7", "optim.epochs=3"])["optim"]
    assert both == {"steps": 7, "epochs": 3, "lr": 1.0}
