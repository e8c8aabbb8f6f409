"""What a model of custom data learned: accuracy beside guessing, by question type, as a page.

Accuracy is of validation questions, with 95% percentile bootstrap intervals that resample images,
since questions about an image are not independent.
"""

import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from lxmert.data.corpus import Corpus
from lxmert.explain.report import pack_image
from lxmert.files import write_json, write_text
from lxmert.images import read_image
from lxmert.metrics.intervals import Interval, bootstrap, compare
from lxmert.names import count
from lxmert.predict import (
    Predictor,
    RegionReader,
    StoredRegions,
    judges_statements,
    open_reader,
)
from lxmert.schema import Answer, Example
from lxmert.tasks.baselines import Baselines
from lxmert.tasks.metrics import OVERALL, best_answer, rows_by_question_type, score_answers
from lxmert.templates import fill
from lxmert.workflows.custom_regions import find_store, seen

REPORT, SCORES = "report.html", "report.json"
_TEMPLATE = Path(__file__).with_name("run_report.html")
_WORST = 10
_MOST_SIDE = 480
_MOST_QUESTIONS = 3000
_FEW_IMAGES = 1000

_logger = logging.getLogger(__name__)


class TypeScore(NamedTuple):
    """The accuracy of a model on the questions of one type, or `overall`.

    Attributes:
        name: question type.
        questions: number of questions.
        accuracy: of the model, with its interval.
        question_only: accuracy of the most frequent training answer to the identical question.
        gain: accuracy of the model minus `question_only`, with its interval.
    """

    name: str
    questions: int
    accuracy: Interval
    question_only: float
    gain: Interval

    @property
    def is_weak(self) -> bool:
        """Whether the model is not clearly better than guessing without the image."""
        return self.gain.low <= 0


class WrongAnswer(NamedTuple):
    """A question that was answered wrongly, with its image.

    Attributes:
        example: the question.
        given: the answer of the model with its probability.
        right: the right answer.
        pixels: `[height, width, 3]` uint8 RGB.
    """

    example: Example
    given: Answer
    right: str
    pixels: npt.NDArray[np.uint8]

    @property
    def source(self) -> object:
        """The image as a data URL, scaled down to 480 pixels."""
        image = Image.fromarray(self.pixels)
        image.thumbnail((_MOST_SIDE, _MOST_SIDE))
        return pack_image(np.asarray(image))["source"]


def report_run(
    output: Path,
    training: Corpus,
    validation: Corpus,
    images: Path,
    *,
    is_grid: bool = True,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> list[TypeScore]:
    """Write `report.html` and `report.json` of a finished run, and log what they say.

    Args:
        output: folder of the run; its best weights are those in `best/`, or else its own.
        training: the training questions.
        validation: validation questions with answers; of many, some are drawn at random.
        images: image folder.
        is_grid: whether the regions are cells of a grid that was trained along.
        device: where to compute.
        progress: called with the numbers of answered and of all questions.

    Returns:
        The scores, `overall` first; empty for a model that judges statements about two images.
    """
    best = output / "best"
    model = best if best.is_dir() else output
    if judges_statements(model):
        return []
    store = find_store(output, model)
    if store is None:
        reader: RegionReader = open_reader(model, images=images, device=device)
    else:  # also knows the images that the extractor rejected, which were left out of training
        training, validation = seen(training, store), seen(validation, store)
        reader = StoredRegions(store)
    questions = _draw(validation)
    predictor = Predictor.from_pretrained(model, device=device)
    answers = predictor.predict(questions, reader, progress=progress)
    examples = list(questions)
    scores = score_by_type(
        examples, [answer.answer for answer in answers], Baselines.learn(training)
    )
    advice = advise(scores, num_images=len(training.used_images), is_grid=is_grid)
    commands = next_commands(model, images)
    worst = [
        WrongAnswer(e, answer, best_answer(e.answers), read_image(images / e.image_ids[0]))
        for e, answer in find_worst(examples, answers)
    ]
    write_json(output / SCORES, {score.name: _to_dict(score) for score in scores})
    page = fill(
        _TEMPLATE, title=output.name, scores=scores, advice=advice, worst=worst, commands=commands
    )
    write_text(output / REPORT, page)
    for line in [*map(_describe, scores), *advice, "next:", *(f"    {line}" for line in commands)]:
        _logger.info("%s", line)
    return scores


def score_by_type(
    examples: Sequence[Example], predictions: Sequence[str], baselines: Baselines
) -> list[TypeScore]:
    """Score predictions and the question-only baseline, overall and by question type."""
    question_only = [baselines.predict(each.text, each.question_type) for each in examples]
    own, baseline = (
        np.array(score_answers(examples, each)) for each in (predictions, question_only)
    )
    images = [each.image_ids[0] for each in examples]
    scores = []
    for name, rows in rows_by_question_type(examples).items():
        clusters = [images[row] for row in rows]
        accuracy = bootstrap(own[rows], clusters)
        gain = compare(own[rows], baseline[rows], clusters).difference
        scores.append(TypeScore(name, len(rows), accuracy, float(baseline[rows].mean()), gain))
    return sorted(scores, key=lambda score: (score.name != OVERALL, score.name))


def find_worst(
    examples: Sequence[Example], answers: Sequence[Answer]
) -> list[tuple[Example, Answer]]:
    """Return the questions that are answered wrongly with the highest probability."""
    pairs = zip(examples, answers, strict=True)
    wrong = [(e, a) for e, a in pairs if not e.answers.get(a.answer)]
    wrong.sort(key=lambda pair: -pair[1].score)
    return wrong[:_WORST]


def advise(scores: Sequence[TypeScore], *, num_images: int, is_grid: bool) -> list[str]:
    """Return what was not learned, and what may help, as sentences."""
    weak = [score.name for score in scores if score.is_weak and score.name != OVERALL]
    if not weak and not any(score.is_weak for score in scores):
        return []
    what = f"question types {', '.join(weak)}" if weak else "the answers"
    lines = [f"not clearly better than guessing without the image: {what}"]
    if num_images < _FEW_IMAGES:
        lines.append(f"more images may help: the training has {count(num_images, 'image')}")
    if is_grid:
        lines.append(
            "regions of things may help, if the questions are about single things: a detector "
            "trained on boxes, --set data.extractor=FOLDER (docs/region-features.md)"
        )
    few = [score.name for score in scores if score.name in weak and score.questions < 100]
    if few:
        lines.append(f"too few validation questions to tell: {', '.join(few)}")
    return lines


def next_commands(model: Path, images: Path) -> list[str]:
    """Return commands that use a model."""
    run, folder = shlex.quote(str(model)), shlex.quote(str(images))
    return [
        f'lxmert ask {folder}/IMAGE "QUESTION" --model {run}',
        f"lxmert predict {run} --data TEST.jsonl --images {folder} -o predictions.jsonl",
        f"lxmert evaluate {run} --data TEST.jsonl --images {folder}",
    ]


def _draw(validation: Corpus) -> Corpus:
    """Return at most `_MOST_QUESTIONS` questions, drawn with a fixed seed."""
    if len(validation) <= _MOST_QUESTIONS:
        return validation
    rows = np.random.default_rng(0).permutation(len(validation))[:_MOST_QUESTIONS]
    return validation.select(np.sort(rows))


def _describe(score: TypeScore) -> str:
    """Return a score in a line of the log."""
    low, high = (100 * limit for limit in score.accuracy[1:])
    mark = "  not clearly better" if score.is_weak else ""
    return (
        f"{score.name}: {score.accuracy.mean:.1%} [{low:.1f}, {high:.1f}], question only "
        f"{score.question_only:.1%}, {count(score.questions, 'question')}{mark}"
    )


def _to_dict(score: TypeScore) -> dict[str, object]:
    """Return `questions`, `accuracy`, `low`, `high`, `question_only`, `gain_low`, `gain_high`."""
    return {
        "questions": score.questions,
        "accuracy": score.accuracy.mean,
        "low": score.accuracy.low,
        "high": score.accuracy.high,
        "question_only": score.question_only,
        "gain_low": score.gain.low,
        "gain_high": score.gain.high,
    }
