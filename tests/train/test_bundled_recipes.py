"""Every shipped recipe goes through the real parser."""

import tomllib
from pathlib import Path

import pytest

from lxmert.lab.scenes.questions import QUESTION_TYPES
from lxmert.lab.sweep import check_plan, make_plan, read_sweep
from lxmert.tasks.registry import RECIPES as TASKS
from lxmert.train.recipes import make_recipe, read_recipe, recipe_text

FOLDER = Path(__file__).parents[2] / "src/lxmert/recipes"
ABLATIONS = sorted(p for p in FOLDER.rglob("*.toml") if "[[rows]]" in p.read_text())
STAGES = FOLDER / "lab/ablation-stages.toml"
RECIPES = sorted(p for p in FOLDER.rglob("*.toml") if p not in (*ABLATIONS, STAGES))


def test_the_recipes_are_found():
    assert len(RECIPES) >= 10
    names = {path.stem for path in RECIPES}
    assert names >= {"pretraining", "vqa", "gqa", "nlvr2", "retrieval", "scenes-pairs"}
    assert [path.stem for path in ABLATIONS] == ["ablations", "learning-curve", "transfer"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_says_how_to_run_it(path):
    recipe = read_recipe(path, TASKS)
    assert make_recipe(tomllib.loads(recipe_text(recipe)), TASKS) == recipe
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(str(path.relative_to(FOLDER).with_suffix("")) in line for line in comments)


PUBLISHED = {
    # Source: the facts of the original system, sections 2.5 and 3.1.
    "vqa": {"lr": 5e-5, "batch_size": 32, "epochs": 4, "warmup_share": 0.1, "clip_norm": 5},
    "gqa": {"lr": 1e-5, "batch_size": 32, "epochs": 4, "warmup_share": 0.1, "clip_norm": 5},
    "nlvr2": {"lr": 5e-5, "batch_size": 32, "epochs": 4, "warmup_share": 0.1, "clip_norm": 5},
    "pretraining": {
        "lr": 1e-4,
        "batch_size": 256,
        "epochs": 20,
        "warmup_share": 0.05,
        "clip_norm": 1,
        "start_at": {"qa": 0.5},
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_settings_are_those_of_the_recipe(name):
    recipe = read_recipe(FOLDER / f"{name}.toml", TASKS)
    expected = PUBLISHED[name] | {
        "name": "bert-adam",
        "weight_decay": 0.01,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "schedule": "linear",
    }
    assert {key: getattr(recipe.optim, key) for key in expected} == expected
    assert recipe.seed == 9595
    assert recipe.settings.model.max_text_length == 20
    lines = (FOLDER / f"{name}.toml").read_text().splitlines()
    assert any(line.startswith("# Expect:") and "original code" in line for line in lines[:8])


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_has_at_least_three_seeds_and_only_valid_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    ablation = read_sweep(path)
    assert len(ablation.seeds) >= 3
    plan = make_plan(ablation, tmp_path)
    check_plan(plan)
    assert all((FOLDER / f"{run.recipe}.toml").is_file() for run in plan.values())
    assert f"lxmert lab sweep {path.stem} " in path.read_text()


def test_the_ablations_hold_the_published_rows_that_need_no_bert():
    """Source: tables 3, 4 and 5 of the paper, local validation sets."""
    ablation = read_sweep(FOLDER / "lab/ablations.toml")
    scores = [tuple(row.paper.values()) for row in ablation.rows if row.paper]
    assert len(scores) == 11
    assert {(69.9, 60.0, 74.9), (65.1, 50.0, 50.9), (68.9, 58.2, 72.4), (66.3, 57.1, 50.9)} < set(
        scores
    )


def test_the_makefile_trains_on_every_question_type_and_only_on_those_that_exist():
    text = (Path(__file__).parents[2] / "Makefile").read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("QUESTION_TYPES :=")]
    assert set(line.split(":=")[1].split()) == set(QUESTION_TYPES)
