"""Builds the bundled model's folder, its model card and the example images from a finished run.

The last step of `make default-model` is `python -m lxmert.lab.default_model RUN`.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lxmert.data.readers import read_questions
from lxmert.explain.figures import save_image
from lxmert.files import parse_json, read_json_object, read_toml
from lxmert.pipeline import LxmertPipeline
from lxmert.regions.extract import DetectorExtractor
from lxmert.schema import Example
from lxmert.tasks.metrics import OVERALL, best_answer
from lxmert.templates import fill

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

_CARD = Path(__file__).with_name("default_card.md")

_REPORTS = {
    "answers": "evaluation",
    "compositional": "compositional-evaluation",
    "pairs": "pairs-evaluation",
    "matching": "matching",
    "detector": "detector-evaluation",
    "compositional_detector": "compositional-detector-evaluation",
    "timing": "timing",
}
"""Name in the card's template -> JSON file of the run."""


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
    reports = {name: read_json_object(run / f"{file}.json") for name, file in _REPORTS.items()}
    extractor = pipeline.processor.extractor
    model = pipeline.answering
    assert isinstance(extractor, DetectorExtractor)
    assert model is not None
    size = sum((run / "answering" / name).stat().st_size for name in MODEL_FILES)
    return fill(
        _CARD,
        **reports,
        run=run,
        cores=os.cpu_count(),
        seed=read_toml(run / "answering" / "recipe.toml")["seed"],
        commits=_commits(run),
        objects=extractor.object_names,
        attributes=extractor.attribute_names,
        names=pipeline.answers,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        detector_size=sum(p.numel() for p in extractor.detector.parameters()) / 1e6,
        size=size / 1e6,
        images=len(read_json_object(run / "scenes" / "test" / "objects.json")["images"]),
        statements=len(read_questions(run / "scenes" / "test" / "pairs.jsonl")) // 4,
        detections=_detections(reports["detector"]),
        objectives=_OBJECTIVES,
        pretraining=_last_metrics(run / "pretrained" / "log.jsonl"),
        weakest=_weakest(reports["answers"]["accuracy"]),
    )


def _commits(run: Path) -> list[str]:
    """Return the distinct commits of the stages, in their order."""
    stages = (
        "detector", "pretrained", "simple", "share", "same", "places", "two-objects",
        "relations", "steps", "answering"
    )  # fmt: skip
    versions = (read_json_object(run / stage / "versions.json") for stage in stages)
    return list(dict.fromkeys((made["commit"] or "unknown")[:10] for made in versions))


def _weakest(accuracy: dict[str, float]) -> str:
    """List the three question types with the lowest accuracy."""
    question_types = [name for name in accuracy if name != OVERALL]
    worst = sorted(question_types, key=accuracy.__getitem__)[:3]
    first, second, third = (
        f"`{question_type}` ({accuracy[question_type]:.1%})" for question_type in worst
    )
    return f"{first}, {second} and {third}"


def _detections(scores: Mapping[str, float]) -> dict[str, str]:
    """Return the reported scores of the detector with their titles."""
    names = [name.removeprefix("attribute_") for name in scores if name.startswith("attribute_")]
    return {
        "recall": "found at IoU 0.5 within the regions returned",
        "object": "class of the nearest region correct",
        **{f"attribute_{name}": f"its {name} correct" for name in names},
    }


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
