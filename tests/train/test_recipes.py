"""Every shipped recipe goes through the real parser."""

import tomllib
from pathlib import Path

import pytest

from lxmert.tasks.registry import TASKS
from lxmert.train.settings import make_recipe, read_recipe, recipe_text

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.toml"))


def test_the_recipes_are_found():
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_says_how_to_run_it(path):
    recipe = read_recipe(path, TASKS)
    assert make_recipe(tomllib.loads(recipe_text(recipe)), TASKS) == recipe
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(str(path.relative_to(FOLDER.parent)) in line for line in comments)
