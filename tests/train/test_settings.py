"""Recipes: what is read, what is refused and in which words, what is written back."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from toy import RECIPE, TASKS, ToySettings, toy_recipe, toy_task

from lxmert.train.settings import make_recipe, read_recipe, recipe_table, recipe_text
from lxmert.train.tables import flatten, from_table, override, to_table, write_toml


@dataclass(frozen=True)
class Inner:
    rate: float
    sizes: tuple[int, ...] = (3, 7)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    file: Path
    pair: tuple[float, str] = (3.25, "odd")
    maybe: Inner | None = None
    weights: dict[str, float] = field(default_factory=dict)
    kind: Literal["red", "green"] = "red"
    many: tuple[Inner, ...] = ()
    flag: bool = False
    label: int | str = 9


def test_settings_come_from_the_file_and_defaults_fill_the_rest(tmp_path):
    recipe = toy_recipe(tmp_path)
    assert (recipe.task, recipe.seed) == ("toy", 3)
    assert recipe.optim.lr == 1e-2
    assert recipe.optim.betas == (0.9, 0.999)
    assert recipe.loop.precision == "fp32"
    assert isinstance(recipe.settings, ToySettings)
    assert recipe.settings.data.num_examples == 23
    assert len(toy_task(recipe)) == 23


def test_every_supported_type_survives_the_round_trip():
    outer = Outer(
        inner=Inner(rate=1e-05, sizes=()),
        file=Path("data/a b.jsonl"),
        pair=(-9.0, 'quote " backslash \\ line\nnull \x00 delete \x7f ünï'),
        maybe=Inner(rate=2.0),
        weights={"value": 1.0, "dotted.name": 0.5},
        kind="green",
        many=(Inner(rate=1e16), Inner(rate=float("inf"), sizes=(-8,))),
        flag=True,
        label="nine",
    )
    text = write_toml(to_table(outer))
    assert from_table(Outer, tomllib.loads(text)) == outer


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
        (
            "optim.learning_rat=1",
            r"optim.learning_rat is unknown; expected one of optim.lr, [^:]*$",
        ),
        ("optim.warmup_step=1", "did you mean 'optim.warmup_steps"),
        ("optin.lr=1", "optin is unknown; expected one of task, seed.*did you mean 'optim"),
        ("data.num_example=1", "did you mean 'data.num_examples"),
        ("task=toi", "toi is unknown; expected one of toy: did you mean 'toy"),
        ("task=", "task is None; expected one of toy: write task = "),
        ("optim.lr=", "optim.lr is missing; expected a number: add it .* such as optim.lr = 0.5"),
        ("optim.lr=fast", "optim.lr is 'fast'; expected a number: write for example"),
        ("optim.lr=true", "optim.lr is True; expected a number"),
        ("optim.steps=1e3", "optim.steps is 1000.0; expected a whole number"),
        ("optim.schedule=liner", 'expected one of "linear", "cosine", "constant"'),
        ("optim.betas=[0.5]", r"optim.betas has 1 values; expected 2: write .* = \[..., ...\]"),
        ("optim.betas=0.5", r"expected a list: write for example optim.betas = \[0.5\]"),
        ("optim.betas=[0.5,'x']", r"optim.betas\[1\] is 'x'; expected a number"),
        ("data.weights=1", r"data.weights is 1; expected a table: write \[data.weights\]"),
        ("data.weights.value=x", "data.weights.value is 'x'; expected a number"),
        ("data=1", r"data is 1; expected a table: write \[data\]"),
        ("seed.a=1", "seed is 3; expected a table"),
        (
            "data.weights=" + "[" * 100_000,
            "--set data.weights=.* is not valid TOML .nested too deep",
        ),
        ("data.weights=" + "{a=" * 99 + "1" + "}" * 99, "--set data.weights=.*nested too deep"),
        ("data" + ".a" * 100_000 + "=1", "--set data.a.* expected key=value"),
        ("optim.lr=1" + "0" * 400, "--set optim.lr=1.*an integer of"),
        ("seed=1" + "0" * 9000, "--set seed=1.* is not valid TOML"),
        ("nothing", "--set nothing: expected key=value; write for example"),
        ("=1", "expected key=value"),
    ],
)
def test_mistakes_are_reported_with_the_key_and_the_remedy(tmp_path, assignment, message):
    with pytest.raises(ValueError, match=message):
        toy_recipe(tmp_path, assignment)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.epochs=3", "optim.steps is 20 and optim.epochs is 3.0; expected exactly one"),
        ("optim.steps=", "optim.steps is None and optim.epochs is None; expected exactly one"),
        ("optim.steps=0", "optim.steps is 0; expected more than 0"),
        ("optim.lr=-1", "optim.lr is -1.0; expected a number above 0"),
        ("optim.lr=nan", "optim.lr is nan"),
        ("optim.batch_size=0", "optim.batch_size is 0; expected at least 1"),
        ("optim.weight_decay=-1", "optim.weight_decay is -1.0"),
        ("optim.betas=[1.0, 0.5]", "optim.betas is"),
        ("optim.eps=0", "optim.eps is 0.0"),
        ("optim.clip_norm=0", "optim.clip_norm is 0.0.*remove the key"),
        ("optim.warmup_steps=20", r"less than the run's steps \(20\)"),
        ("optim.warmup_steps=-1", "optim.warmup_steps is -1"),
        ("optim.warmup_share=0.1", "warmup_share is 0.1 and optim.warmup_steps is 3; expected one"),
        ("optim.start_at.parity=1", r"optim.start_at.parity is 1.0; expected a share .* \[0, 1\)"),
        ("optim.name=adam", 'expected one of "adamw", "bert-adam"'),
        ("loop.micro_batches=3", "batch_size is 8; expected a multiple of 3 .*try 9"),
        ("loop.log_every=0", "loop.log_every is 0; expected at least 1"),
        ("loop.evaluate_every=0", "loop.evaluate_every is 0; expected at least 1"),
        ("loop.workers=-1", "loop.workers is -1; expected at least 0"),
        ("seed=-1", "seed is -1"),
    ],
)
def test_contradictions_are_refused_where_settings_are_born(tmp_path, assignment, message):
    with pytest.raises(ValueError, match=message):
        toy_recipe(tmp_path, assignment)


def test_a_missing_table_names_its_first_required_key():
    with pytest.raises(ValueError, match=r"inner\.rate is missing"):
        from_table(Outer, {"file": "x"})
    with pytest.raises(ValueError, match="file is missing; expected a path"):
        from_table(Outer, {"inner": {"rate": 1}})


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
    with pytest.raises(FileNotFoundError, match="is no file; expected a recipe"):
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
    with pytest.raises(FileNotFoundError, match=r"base of .*: .*other\.toml is no file"):
        read_recipe(path, TASKS)
    other.write_text('base = "recipe.toml"')
    with pytest.raises(ValueError, match=r"recipe\.toml is its own base: .* from .*other\.toml"):
        read_recipe(path, TASKS)
    path.write_text("base = 3")
    with pytest.raises(ValueError, match=r"base is 3; expected a file"):
        read_recipe(path, TASKS)
