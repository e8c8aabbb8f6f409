"""Time of an explanation, compared with one forward and backward pass of the same question.

Run it as `python benchmarks/explain.py [--published] [--methods NAME ...]`: batch 1, rounds
interleaved, ratios are medians over rounds. Uses the bundled model, or one of the published size
with random weights.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lxmert import LxmertConfig, LxmertForQuestionAnswering, LxmertPipeline
from lxmert.explain.methods import METHODS
from lxmert.lab.scenes.image import make_image


def published(pieces: int) -> tuple[Any, dict[str, Tensor]]:
    """Return a model of the published size, and a question about 36 regions."""
    generator = torch.Generator().manual_seed(1)
    config = LxmertConfig(num_qa_labels=3129)
    model = LxmertForQuestionAnswering(config)
    model.train(mode=False)
    corners = torch.rand(1, 36, 2, 2, generator=generator).sort(dim=2).values
    return model, {
        "input_ids": torch.randint(1000, 30000, (1, pieces), generator=generator),
        "visual_feats": torch.rand(1, 36, 2048, generator=generator).relu(),
        "visual_pos": corners.flatten(2),
    }


def bundled() -> tuple[Any, dict[str, Tensor]]:
    """Return the bundled model, and a question about an image with its regions."""
    pipeline = LxmertPipeline.from_pretrained()
    image = make_image("test", 0, seed=1)
    return pipeline.model, dict(pipeline.processor([image.pixels], ["What color is the ball?"]))


def cost(model: Any, inputs: dict[str, Tensor], names: list[str], rounds: int) -> dict[str, object]:
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
    for _ in range(rounds):
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


def main() -> None:
    """Time the requested methods and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pieces", type=int, default=8, help="word pieces, with --published")
    given = parser.parse_args()
    subject = published(given.pieces) if given.published else bundled()
    report = cost(*subject, given.methods, given.rounds)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
