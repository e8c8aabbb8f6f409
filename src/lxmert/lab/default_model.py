"""Builds the bundled model's folder, its model card and the example images from a finished run.

The last step of `make default-model` is `python -m lxmert.lab.default_model RUN`.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.readers import read_questions
from lxmert.explain.figures import save_image
from lxmert.files import parse_json, read_json_object, read_toml
from lxmert.pipeline import LxmertPipeline
from lxmert.regions.extract import DetectorExtractor
from lxmert.schema import Example
from lxmert.tasks.metrics import OVERALL, best_answer

MODEL_FOLDER = Path("src/lxmert/default")
EXAMPLES_FOLDER = Path("src/lxmert/examples")
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "extractor/config.json",
    "extractor/model.safetensors",
)
FIGURE = Path("docs/answer.png")
NUM_SCENES, QUESTIONS_PER_SCENE = 6, 4
EXAMPLE_QUESTION_TYPES = (
    "what",
    "color",
    "size",
    "material",
    "count",
    "exist",
    "place",
    "relation",
)
"""Question types of the example questions."""
BALL_QUESTION = "What color is the ball?"

_OBJECTIVES = {
    "mask_lm": "masked words",
    "matched": "text and image match",
    "obj": "masked regions: object class",
    "attr": "masked regions: attributes (color, size, material)",
    "qa": "question answering",
}

_CARD = """\
---
license: apache-2.0
pipeline_tag: visual-question-answering
library_name: lxmert
---

# The bundled model of `lxmert`

Answers questions about images of the miniature world of `lxmert.lab.scenes`: rendered everyday
objects on a table. It is a small LXMERT (Tan & Bansal, EMNLP 2019) with its own region detector,
and demonstrates the complete system without a download. It was not trained on photographs; for
images unlike its training images, and for unknown words, it answers with a warning.

- **Objects**: {objects}
- **Attributes**: {attributes}
- **Answers**: {answers}
- **Size**: {parameters:.1f} M parameters in the model, {detector_size:.1f} M in the detector; \
{size:.1f} MB.

## Training

`make default-model` trains it from scratch, in resumable stages: render scenes, train the detector
(`lab/scenes-detector`), extract regions, pretrain with all five objectives
(`lab/scenes-pretraining`), fine-tune on groups of question types (`lab/scenes-simple`, `-share`,
`-same`, `-places`, `-two-objects`, `-relations`, `-steps`), fine-tune on all questions
(`lab/scenes-answering`), evaluate.

Training, validation and test scenes share no image; no choice was based on the test scenes.
Compositional scenes contain only pairs of color and object that no other scene and no text of the
training set contains. In the last stage, colors are swapped at random (`data.attribute_swap`),
which also creates such pairs, from the regions of objects in other colors.
One run, seed {seed}, on {cores} cores without a GPU; commits of its stages: {commits}.

## Accuracy on unseen scenes

Accuracy on {count:,} questions about {images:,} test scenes, from pixels with the model's own
detector. The question-only baseline is the most frequent training answer to the identical question,
or, if there is none, to its question type.

    lxmert evaluate src/lxmert/default --data {run}/scenes/test/questions.jsonl \\
        --images {run}/scenes/test/images \\
        --training {run}/scenes/train/questions.jsonl

The last column is the accuracy on {unseen_count:,} questions about compositional scenes
(`{run}/scenes/compositional`, with the same command).

| question type | accuracy | question-only baseline | compositional scenes |
|---|---|---|---|
{question_types}

## Statements about two images

`make default-model` also fine-tunes this model on statements about two images (`lab/scenes-pairs`);
the result is not bundled. On {statements:,} statements about four pairs of test scenes each:
accuracy {pairs_accuracy:.1%}, majority baseline {pairs_majority:.1%}, all four pairs correct for
{pairs_consistency:.1%} of the statements.

    lxmert evaluate {run}/pairs --data {run}/scenes/test/pairs.jsonl \\
        --images {run}/scenes/test/images

## Captions and foils

The matching head is a logistic regression on the pooled output, fitted on captions and foils of
4,000 scenes (`{run}/scenes/foils-train`); the encoder is that of the answers. On {foils:,} pairs
about 500 unseen scenes, each a caption and a foil that differ in one respect:

    lxmert evaluate src/lxmert/default --metric foil \\
        --data {run}/scenes/foils-test/foils.jsonl --images {run}/scenes/foils-test/images

| phenomenon | pairwise accuracy | accuracy | pairs |
|---|---|---|---|
{foil_rows}

## Region detector on unseen scenes

    lxmert evaluate src/lxmert/default/extractor --data {run}/scenes/test/objects.json \\
        --images {run}/scenes/test/images

| of the objects that are at least 40 % visible | share | compositional scenes |
|---|---|---|
{detector}

## The five objectives of pretraining

Validation pairs with fixed masks, after pretraining and before fine-tuning (the last line of
`{run}/pretrained/log.jsonl`). Chance is the share of the most frequent target.

| objective | accuracy | chance |
|---|---|---|
{objectives}

Masked regions, feature regression: smooth-L1 distance {feat_error:.4f}, against {feat_chance:.4f}
for the mean feature.

## Speed

    python benchmarks/ask.py --model {run}/answering --image IMAGE

Medians of several runs on {cores} cores of the machine that made the model.

| | seconds |
|---|---|
| `lxmert ask`, cold start included | {cold:.1f} |
| answering after loading, from pixels | {warm:.3f} |
| `lxmert --help`, in addition to starting Python | {help:.2f} |

## Limits

Lowest accuracy: {weakest}.
On questions about unseen pairs of color and object, accuracy is {compositional:.1%};
the detector classifies {unseen_object:.1%} of these objects correctly, and {seen_object:.1%} of \
the others.

One random seed. Questions follow the phrasings of `lxmert.lab.scenes.questions`; other words and
longer sentences are not understood. Objects that are mostly hidden may be missed, and are then not
counted.
"""


def build(run: Path) -> None:
    """Copy the finished model into the package and write its card, the examples and the figure.

    Args:
        run: folder of `make default-model`.
    """
    for name in MODEL_FILES:
        target = MODEL_FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / "answering" / name, target)
    (MODEL_FOLDER / "README.md").write_text(write_card(run), encoding="utf-8")
    write_examples(run / "scenes" / "test", EXAMPLES_FOLDER)
    explanation = LxmertPipeline.from_pretrained().explain(
        EXAMPLES_FOLDER / "scene.png", BALL_QUESTION
    )
    save_image(explanation.draw(), FIGURE)


def write_card(run: Path) -> str:
    """Return the model card; every number is read from the files of the run."""
    pipeline = LxmertPipeline.from_pretrained(run / "answering")
    answers = read_json_object(run / "evaluation.json")
    compositional = read_json_object(run / "compositional-evaluation.json")
    pairs = read_json_object(run / "pairs-evaluation.json")
    matching = read_json_object(run / "matching.json")
    examples = read_questions(run / "scenes" / "test" / "pairs.jsonl")
    detector_reports = [
        read_json_object(run / f"{split}detector-evaluation.json")
        for split in ("", "compositional-")
    ]
    pretraining = _last_metrics(run / "pretrained" / "log.jsonl")
    extractor = pipeline.processor.extractor
    model = pipeline.answering
    assert isinstance(extractor, DetectorExtractor)
    assert model is not None
    timing = read_json_object(run / "timing.json")
    recipe = read_toml(run / "answering" / "recipe.toml")
    size = sum((run / "answering" / name).stat().st_size for name in MODEL_FILES)
    return _CARD.format(
        run=run,
        cores=os.cpu_count(),
        seed=recipe["seed"],
        commits=", ".join(_commits(run)),
        cold=timing["ask_cold"],
        warm=timing["ask_warm"],
        help=timing["help"] - timing["python"],
        objects=", ".join(extractor.object_names),
        attributes=", ".join(extractor.attribute_names),
        answers=", ".join(pipeline.answers),
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        detector_size=sum(p.numel() for p in extractor.detector.parameters()) / 1e6,
        size=size / 1e6,
        count=answers["count"],
        images=len(read_json_object(run / "scenes" / "test" / "objects.json")["images"]),
        question_types="\n".join(
            f"| {question_type} | {score:.1%} | {answers['question_only'][question_type]:.1%} "
            f"| {compositional['accuracy'][question_type]:.1%} |"
            for question_type, score in answers["accuracy"].items()
        ),
        weakest=_weakest(answers["accuracy"]),
        compositional=compositional["accuracy"][OVERALL],
        unseen_count=compositional["count"],
        statements=len(examples) // 4,
        pairs_accuracy=pairs["accuracy"],
        pairs_majority=pairs["majority"],
        pairs_consistency=pairs["consistency"],
        foils=matching["count"][OVERALL],
        foil_rows=foil_rows(matching),
        detector=_detector_rows(*detector_reports),
        seen_object=detector_reports[0]["object"],
        unseen_object=detector_reports[1]["object"],
        objectives="\n".join(
            f"| {title} | {pretraining[f'{name}_accuracy']:.1%} "
            f"| {pretraining[f'{name}_chance']:.1%} |"
            for name, title in _OBJECTIVES.items()
        ),
        feat_error=pretraining["feat_error"],
        feat_chance=pretraining["feat_chance"],
    )


def _commits(run: Path) -> list[str]:
    """Return the distinct commits of the stages, in their order."""
    stages = (
        "detector", "pretrained", "simple", "share", "same", "places", "two-objects",
        "relations", "steps", "answering"
    )  # fmt: skip
    versions = (read_json_object(run / stage / "versions.json") for stage in stages)
    return list(dict.fromkeys((made["commit"] or "unknown")[:10] for made in versions))


def foil_rows(matching: Mapping[str, Any]) -> str:
    """Return the rows of the card's table of foils."""
    return "\n".join(
        f"| foils: {name} | {scores['pairwise_accuracy']:.1%} | {scores['accuracy']:.1%} "
        f"| {matching['count'][name]:,} |"
        for name, scores in matching["scores"].items()
    )


def _weakest(accuracy: dict[str, float]) -> str:
    """List the three question types with the lowest accuracy."""
    question_types = [name for name in accuracy if name != OVERALL]
    worst = sorted(question_types, key=accuracy.__getitem__)[:3]
    first, second, third = (
        f"`{question_type}` ({accuracy[question_type]:.1%})" for question_type in worst
    )
    return f"{first}, {second} and {third}"


def _detector_rows(test: dict[str, float], compositional: dict[str, float]) -> str:
    titles = {
        "recall": "found at IoU 0.5 within the regions returned",
        "object": "class of the nearest region correct",
    }
    for name in test:
        if name.startswith("attribute_"):
            titles[name] = f"its {name.removeprefix('attribute_')} correct"
    rows = [
        f"| {title} | {test[name]:.1%} | {compositional[name]:.1%} |"
        for name, title in titles.items()
    ]
    counts = f"{test['num_regions']:.1f} | {compositional['num_regions']:.1f}"
    return "\n".join([*rows, f"| regions returned per image | {counts} |"])


def write_examples(scenes: Path, folder: Path) -> None:
    """Write six scenes with four questions each: `scene.png` has one ball, the rest is random.

    Questions are drawn independently of the model; `questions.jsonl` has the correct answers.
    """
    generator = np.random.default_rng(24)
    by_image: dict[str, list[Example]] = {}
    for example in read_questions(scenes / "questions.jsonl"):
        if example.question_type in EXAMPLE_QUESTION_TYPES:
            by_image.setdefault(example.image_ids[0], []).append(example)
    first, ball_color = _find_one_ball(scenes)
    others = [image for image in by_image if image != first]
    chosen = [first, *generator.choice(others, size=NUM_SCENES - 1, replace=False).tolist()]
    asked = {image: _draw_questions(by_image[image], generator) for image in chosen}
    ball = Example("ball", BALL_QUESTION, (first,), {ball_color: 1.0}, "color")
    asked[first] = [ball, *(e for e in asked[first] if e.question_type != "color")]
    folder.mkdir(exist_ok=True)
    rows = []
    for number, image in enumerate(chosen):
        name = "scene.png" if number == 0 else f"scene-{number}.png"
        shutil.copyfile(scenes / "images" / image, folder / name)
        for example in asked[image][:QUESTIONS_PER_SCENE]:
            answer = best_answer(example.answers)
            row = {"image": name, "question": example.text, "answer": answer}
            rows.append(json.dumps(row | {"question_type": example.question_type}))
    (folder / "questions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _find_one_ball(scenes: Path) -> tuple[str, str]:
    """Find the first image with one ball among five or more mostly visible objects.

    Returns:
        The image's name and the color of the ball.
    """
    content = read_json_object(scenes / "objects.json")
    ball = next(c["id"] for c in content["categories"] if c["name"] == "ball")
    for image in content["images"]:
        objects = [o for o in content["annotations"] if o["image_id"] == image["id"]]
        balls = [o for o in objects if o["category_id"] == ball]
        if len(balls) == 1 and len(objects) >= 5 and min(o["visible"] for o in objects) > 0.7:
            colors = content["attribute_groups"]["color"]
            return image["file_name"], next(a for a in balls[0]["attributes"] if a in colors)
    raise ValueError(f"no scene in {scenes} has exactly one ball: make more scenes")


def _draw_questions(examples: Sequence[Example], generator: np.random.Generator) -> list[Example]:
    """Draw one question of each question type about an image, with the types in random order."""
    by_question_type: dict[str, list[Example]] = {}
    for example in examples:
        by_question_type.setdefault(example.question_type, []).append(example)
    return [
        by_question_type[question_type][
            int(generator.integers(len(by_question_type[question_type])))
        ]
        for question_type in generator.permutation(sorted(by_question_type))
    ]


def _last_metrics(path: Path) -> dict[str, float]:
    """Return the last evaluation in the log of a training run."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [parse_json(line, str(path)) for line in lines]
    metrics: dict[str, float] = [row["metrics"] for row in rows if "metrics" in row][-1]
    return metrics


if __name__ == "__main__":
    build(Path(sys.argv[1]))
