"""Every shipped recipe goes through the real parser."""

import tomllib
from pathlib import Path

import pytest

from lxmert.tasks.registry import TASKS
from lxmert.train.settings import make_recipe, read_recipe, recipe_text
from lxmert.workflows.ablation import check_plan, make_plan, read_ablation

FOLDER = Path(__file__).parents[2] / "recipes"
ABLATIONS = sorted(p for p in FOLDER.rglob("*.toml") if "[[rows]]" in p.read_text())
RECIPES = sorted(p for p in FOLDER.rglob("*.toml") if p not in ABLATIONS)


def test_the_recipes_are_found():
    assert len(RECIPES) >= 8
    assert [path.stem for path in ABLATIONS] == ["ablations", "learning-curve"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_says_how_to_run_it(path):
    recipe = read_recipe(path, TASKS)
    assert make_recipe(tomllib.loads(recipe_text(recipe)), TASKS) == recipe
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(str(path.relative_to(FOLDER.parent)) in line for line in comments)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_has_at_least_three_seeds_and_only_valid_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    ablation = read_ablation(path)
    assert len(ablation.seeds) >= 3
    plan = make_plan(ablation, tmp_path)
    check_plan(plan)
    assert all((FOLDER.parent / run.recipe).is_file() for run in plan.values())
    assert str(path.relative_to(FOLDER.parent)) in path.read_text()


def test_the_ablations_hold_the_published_rows_that_need_no_bert():
    """Source: tables 3, 4 and 5 of the paper, local validation sets."""
    ablation = read_ablation(FOLDER / "ablations.toml")
    scores = [tuple(row.paper.values()) for row in ablation.rows if row.paper]
    assert len(scores) == 11
    assert {(69.9, 60.0, 74.9), (65.1, 50.0, 50.9), (68.9, 58.2, 72.4), (66.3, 57.1, 50.9)} < set(
        scores
    )
