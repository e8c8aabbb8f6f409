"""Explanations: what propagation costs, and how faithful each method is on the miniature world.

Run it as `python benchmarks/explain.py cost [--published] [--methods NAME ...]`: an explanation
beside one plain forward and backward pass of the same question at batch 1, rounds interleaved,
ratios being medians over rounds; of the bundled model, or of one of the published size with random
weights. Or as `python benchmarks/explain.py faithfulness --questions 200 --seed 1`: areas of the
perturbation tests and accuracies of the pointing game of the bundled model on questions about one
object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lxmert import LxmertConfig, LxmertForQuestionAnswering, LxmertPipeline
from lxmert.explain.faithfulness import Trial, measure
from lxmert.explain.methods import METHODS
from lxmert.scenes.descriptions import VALUES, matches, phrase
from lxmert.scenes.layout import SceneObject
from lxmert.scenes.picture import make_picture

ROUNDS = 15
BATCH = 16
FORMS = {
    "color": "What color is the {}?",
    "size": "What size is the {}?",
    "material": "What is the {} made of?",
    "name": "What is the {}?",
}
"""Question about one aspect of the only object that fits a description."""


def published() -> tuple[Any, dict[str, Tensor]]:
    """Return a model of the published size, and a question of 8 word pieces about 36 regions."""
    generator = torch.Generator().manual_seed(1)
    config = LxmertConfig(num_qa_labels=3129)
    model = LxmertForQuestionAnswering(config)
    model.train(mode=False)
    corners = torch.rand(1, 36, 2, 2, generator=generator).sort(dim=2).values
    return model, {
        "input_ids": torch.randint(1000, 30000, (1, 8), generator=generator),
        "visual_feats": torch.rand(1, 36, 2048, generator=generator).relu(),
        "visual_pos": corners.flatten(2),
    }


def bundled() -> tuple[Any, dict[str, Tensor]]:
    """Return the bundled model, and a question about a picture with its regions."""
    pipeline = LxmertPipeline.from_pretrained()
    picture = make_picture("test", 0, seed=1)
    return pipeline.model, pipeline.processor([picture.pixels], ["What color is the ball?"])


def cost(model: Any, inputs: dict[str, Tensor], names: list[str]) -> dict[str, object]:
    """Time one explanation by each method, and a forward and backward pass."""
    answers = torch.zeros(1, dtype=torch.long)

    def plain() -> None:
        model.zero_grad(set_to_none=True)
        model(**inputs).question_answering_score[0, 0].backward()

    runs: dict[str, Callable[[], object]] = {"forward and backward": plain}
    for name in names:
        runs[name] = partial(METHODS[name], model, inputs, answers)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    unit = times["forward and backward"]
    return {
        name: {
            "ms": round(1000 * statistics.median(values), 1),
            "ratio": round(statistics.median(v / u for v, u in zip(values, unit, strict=True)), 2),
        }
        for name, values in times.items()
    }


def describe(
    things: list[SceneObject], generator: np.random.Generator
) -> tuple[str, str, int] | None:
    """Ask about one aspect of one object: question, answer, and which object it is."""
    index = int(generator.integers(len(things)))
    asked = str(generator.choice(list(FORMS)))
    told = [str(aspect) for aspect in generator.permutation([a for a in VALUES if a != asked])]
    for length in range(1, len(told) + 1):
        description = {a: getattr(things[index], a) for a in VALUES if a in told[:length]}
        if matches(things, description) == 1:
            text = FORMS[asked].format(phrase(description, generator))
            return text, getattr(things[index], asked), index
    return None


def trials(pipeline: LxmertPipeline, questions: int) -> Iterator[Trial]:
    """Ask one question about each of as many unseen pictures."""
    asked: list[tuple[Any, str, str, Any]] = []
    for number in count():
        picture = make_picture("test", number, seed=7)
        generator = np.random.default_rng([7, number])
        things = [item.thing for item in picture.objects]
        found = describe(things, generator) if things else None
        if found is not None:
            text, answer, index = found
            asked.append((picture.pixels, text, answer, picture.objects[index].box))
        if len(asked) == min(BATCH, questions):
            yield as_trial(pipeline, asked)
            questions -= len(asked)
            asked = []
        if not questions:
            return


def as_trial(pipeline: LxmertPipeline, asked: list[tuple[Any, str, str, Any]]) -> Trial:
    """Prepare some questions with their answers and boxes."""
    pictures, texts, answers, boxes = zip(*asked, strict=True)
    regions = pipeline.processor.extractor(list(pictures))
    scores = torch.zeros(len(asked), len(pipeline.answers))
    for row, answer in enumerate(answers):
        scores[row, pipeline.answers.index(answer)] = 1
    return Trial(
        pipeline.processor.inputs(regions, texts),
        scores,
        [each.boxes for each in regions],
        [np.array([box], dtype=np.float32) for box in boxes],
    )


def faithfulness(questions: int, seed: int, names: list[str]) -> dict[str, object]:
    """Test all methods; areas are in 0 to 100, shares in 0 to 1."""
    pipeline = LxmertPipeline.from_pretrained()
    methods = {name: METHODS[name] for name in names}
    model = pipeline.model
    assert isinstance(model, LxmertForQuestionAnswering)
    started = time.perf_counter()
    result = measure(model, trials(pipeline, questions), methods, seed=seed)
    table: dict[str, dict[str, float]] = {}
    for curve in result.curves:
        row = table.setdefault(curve.method, {"pointing": round(result.pointing[curve.method], 3)})
        row[f"{curve.modality}, {curve.direction}"] = round(curve.area, 1)
    return {
        "questions": result.questions,
        "accuracy": result.curves[0].accuracies[0],
        "seconds": round(time.perf_counter() - started),
        "methods": table,
    }


def main() -> None:
    """Run what was asked for and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "faithfulness"))
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    given = parser.parse_args()
    if given.what == "cost":
        report = cost(*(published() if given.published else bundled()), given.methods)
    else:
        report = faithfulness(given.questions, given.seed, given.methods)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
