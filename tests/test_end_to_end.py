"""The complete pipeline in small: scenes, detector, regions, pretraining, answering, evaluation."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Command

from lxmert.cli.main import main
from lxmert.lab.default_model import write_card, write_examples
from lxmert.lab.matching_head import add_matching_head

pytestmark = pytest.mark.long

STAGES = (
    "detector", "pretrained", "simple", "share", "same", "places", "two-objects", "relations",
    "steps", "answering", "pairs",
)  # fmt: skip
RECIPES = {"pretrained": "pretraining"}  # the others have the stage's name
FEW_COLORS = "data.attribute_swap="  # a detector trained for three steps does not name all of them
TINY_MODEL = ["hidden_size=16", "num_attention_heads=2", "intermediate_size=32"]


def settings(*more: str) -> list[str]:
    """Return the `--set` options that make a recipe of the default model tiny."""
    pairs = ["optim.steps=3", "optim.warmup_steps=1", "optim.batch_size=4"]
    pairs += [*more, "loop.precision=fp32", "loop.log_every=1"]
    return [option for pair in pairs for option in ("--set", pair)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made by the commands of the Makefile; all tests here look at it."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_run(lambda *arguments: run_main(patch, *arguments))
    return folder


def run_main(patch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run a command that must succeed."""
    patch.setattr(sys, "argv", ["lxmert", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code, arguments


def make_run(lxmert: Callable[..., None]) -> None:
    """Run every stage; each reads the files that the recipes name."""
    recipes = ROOT / "src/lxmert/recipes/lab"
    run = Path("runs/default")
    (run / "scenes").mkdir(parents=True)
    for split, count in {"train": 12, "valid": 8, "test": 25, "compositional": 4}.items():
        kinds = ["qa"] if split == "compositional" else ["qa", "captions", "pairs", "--groups", 3]
        output = run / "scenes" / split
        lxmert("lab", "make", *kinds, "--split", split, "--count", count, "-o", output)
    sizes = [f"model.{size}" for size in TINY_MODEL]
    for stage in STAGES:
        recipe = recipes / f"scenes-{RECIPES.get(stage, stage)}.toml"
        changes = {"pretrained": sizes, "answering": [FEW_COLORS]}
        options = settings(*changes.get(stage, []))
        lxmert("train", recipe, "-o", run / stage, *options)
        if stage == "detector":
            for split in ("train", "valid"):
                images, store = run / "scenes" / split / "images", run / "regions" / split
                lxmert("extract", images, "--extractor", run / "detector", "-o", store)


def test_the_result_answers_and_is_evaluated(
    folder: Path, lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    test, model = Path("runs/default/scenes/test"), Path("runs/default/answering")
    image = sorted((test / "images").iterdir())[0]
    asked = lxmert("ask", image, "What color is the ball?", "--model", model, "--json")
    answer = json.loads(asked.out)
    assert set(answer) >= {"answers", "regions", "seconds"}
    assert len(answer["answers"]) == 5
    report = Path("report.json")
    options = ["--data", test / "questions.jsonl", "--images", test / "images", "--limit", 30]
    baselines = ["--training", "runs/default/scenes/train/questions.jsonl", "-o", report]
    evaluated = lxmert("evaluate", model, *options, *baselines)
    assert evaluated.code == 0, evaluated.err
    scores = json.loads(report.read_text())
    assert scores["count"] == 30
    assert scores["accuracy"].keys() == scores["question_only"].keys() > {"overall", "count"}
    extractor = ["--data", test / "objects.json", "--images", test / "images", "-o", report]
    assert lxmert("evaluate", model / "extractor", *extractor).code == 0
    assert 0 <= json.loads(report.read_text())["recall"] <= 1


def evaluated_answers(lxmert: Command, run: Path) -> str:
    """Return what the finished model answers to test questions."""
    data = run / "scenes/test/questions.jsonl"
    options = ["--images", run / "scenes/test/images", "--limit", 20, "--json"]
    done = lxmert("evaluate", run / "answering", "--data", data, *options)
    assert done.code == 0, done.err
    return done.out


def test_card_and_examples_are_made_from_the_run(
    folder: Path, lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run = Path("runs/default")
    test = run / "scenes/test"
    options = ["--images", test / "images", "-o"]
    answers = ["evaluate", run / "answering", "--data", test / "questions.jsonl", "--limit", 20]
    baselines = ["--training", run / "scenes/train/questions.jsonl"]
    assert lxmert(*answers, *baselines, *options, run / "evaluation.json").code == 0
    extractor = ["evaluate", run / "detector", "--data", test / "objects.json"]
    assert lxmert(*extractor, *options, run / "detector-evaluation.json").code == 0
    extractor = ["evaluate", run / "detector", "--data", run / "scenes/compositional/objects.json"]
    extractor += ["--images", run / "scenes/compositional/images"]
    assert lxmert(*extractor, "-o", run / "compositional-detector-evaluation.json").code == 0
    hard = ["evaluate", run / "answering", "--limit", 100]
    hard += ["--data", run / "scenes/compositional/questions.jsonl"]
    hard += ["--images", run / "scenes/compositional/images"]
    assert lxmert(*hard, "-o", run / "compositional-evaluation.json").code == 0
    pairs = ["evaluate", run / "pairs", "--data", test / "pairs.jsonl"]
    assert lxmert(*pairs, *options, run / "pairs-evaluation.json").code == 0
    scores = json.loads((run / "pairs-evaluation.json").read_text())
    assert scores.keys() == {"accuracy", "majority", "consistency"}
    assert scores["majority"] == 0.5
    assert lxmert(*pairs, *baselines, *options, "x.json").code == 2
    foils = run / "scenes/foils"
    assert lxmert("lab", "make", "foils", "--split", "test", "--count", 12, "-o", foils).code == 0
    untouched = evaluated_answers(lxmert, run)
    assert add_matching_head(run / "answering", foils) > 0.5
    assert evaluated_answers(lxmert, run) == untouched
    matching = ["evaluate", run / "answering", "--metric", "foil", "--data", foils / "foils.jsonl"]
    assert lxmert(*matching, "--images", foils / "images", "-o", run / "matching.json").code == 0
    times = {"ask_cold": 7.25, "ask_warm": 0.123, "help": 0.5, "python": 0.25}
    (run / "timing.json").write_text(json.dumps(times))
    card = write_card(run)
    accuracy = json.loads((run / "evaluation.json").read_text())["accuracy"]["overall"]
    statements = (
        f"On 3 statements about four pairs of test scenes each:\naccuracy {scores['accuracy']:.1%}"
    )
    for text in (
        f"| overall | {accuracy:.1%} |",
        statements,
        "| 7.2 |",
        "| 0.123 |",
        "masked words",
        "mug",
    ):
        assert text in card
    write_examples(test, Path("examples"))
    lines = Path("examples/questions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 24
    assert {row["image"] for row in rows} == {path.name for path in Path("examples").glob("*.png")}


def test_a_finished_run_is_left_alone_and_another_recipe_refused(
    folder: Path, lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    recipe, output = (
        ROOT / "src/lxmert/recipes/lab/scenes-answering.toml",
        Path("runs/default/answering"),
    )
    before = (output / "model.safetensors").stat().st_mtime_ns
    assert lxmert("train", recipe, "-o", output, *settings(FEW_COLORS)).code == 0
    assert (output / "model.safetensors").stat().st_mtime_ns == before
    other = lxmert("train", recipe, "-o", output, *settings(FEW_COLORS, "optim.lr=0.5"))
    assert (other.code, "lr" in other.err) == (2, True)


def test_regions_of_another_extractor_are_refused(
    folder: Path, lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of another detector look alike and give nonsense without an error."""
    monkeypatch.chdir(folder)
    run, recipe = Path("runs/default"), ROOT / "src/lxmert/recipes/lab/scenes-detector.toml"
    other = settings("seed=8")
    assert lxmert("train", recipe, "-o", "other-detector", *other).code == 0
    options = settings("data.extractor=other-detector")
    refused = lxmert(
        "train", ROOT / "src/lxmert/recipes/lab/scenes-answering.toml", "-o", "x", *options
    )
    assert refused.code == 2
    assert "was made by extractor" in refused.err
    model = Path("mixed")
    shutil.copytree(run / "answering", model)
    shutil.rmtree(model / "extractor")
    shutil.copytree("other-detector", model / "extractor")
    image = sorted((run / "scenes/test/images").iterdir())[0]
    mixed = lxmert("ask", image, "What is this?", "--model", model)
    assert mixed.code == 2
    assert "trained on regions of extractor" in mixed.err


ABLATION = """
title = "Two arms in small"
seeds = [4, 5]

[stages.text]
recipe = "RECIPES/scenes-pretraining.toml"
output = "language"
set = [
  SET,
  "data.extractor=",
  "model.x_layers=0",
  "model.r_layers=0",
  "objectives.weights={mask_lm=1.0}",
]

[stages.answering]
recipe = "RECIPES/scenes-answering.toml"
metric = "overall"
set = [
  SET,
  "data.extractor=",
  "data.attribute_swap=",
  "data.limit=20",
  "model.l_layers=3",
  "model.x_layers=1",
]

[[rows]]
name = "from language"
init_from = ["text"]
paper = { VQA = 65.5 }
set.answering = ["model.r_layers=0"]

[[rows]]
name = "from scratch"
paper = { VQA = 65.1 }
"""


def test_arms_are_compared_with_two_seeds_and_an_interrupted_comparison_goes_on(
    folder: Path, lxmert: Command, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    sizes = [f"model.{size}" for size in TINY_MODEL]
    pairs = [*settings(*sizes)[1::2], "loop.evaluate_every=", "loop.evaluate_limit=40"]
    changes = ", ".join(json.dumps(pair) for pair in pairs)
    text = ABLATION.replace("RECIPES", str(ROOT / "src/lxmert/recipes/lab")).replace("SET", changes)
    Path("ablation.toml").write_text(text)
    command = ["lab", "sweep", "ablation.toml", "-o", "arms", "--jobs", 2, "--figure", "arms.png"]
    done = lxmert(*command)
    assert done.code == 0, done.err
    assert "6 of 6 runs finished, 0 failed, 0 waiting" in done.err
    report = Path("arms/report.md").read_text()
    assert "| from language | " in report
    assert report in done.out
    assert "step 3/3" in Path("arms/from-language/seed-4/text.log").read_text()
    assert Path("arms.png").stat().st_size > 1000
    bert = json.loads(Path("arms/from-language/seed-4/text/language-side/config.json").read_text())
    assert (bert["model_type"], bert["num_hidden_layers"]) == ("bert", 3)
    # As if the machine had stopped behind the first training of the second seed.
    shutil.rmtree("arms/from-language/seed-5/answering")
    kept = Path("arms/from-scratch/seed-4/answering/finished.json").stat().st_mtime_ns
    assert lxmert(*command).code == 0
    assert Path("arms/from-scratch/seed-4/answering/finished.json").stat().st_mtime_ns == kept
    assert Path("arms/report.md").read_text() == report, "the same seeds give the same scores"
    # Scores of finished runs stood in the table of a comparison that had been changed since.
    Path("ablation.toml").write_text(text.replace("data.limit=20", "data.limit=21"))
    changed = lxmert(*command)
    assert changed.code == 2
    assert "answering: data.limit is 21; the run in arms/" in changed.err
