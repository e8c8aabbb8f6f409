"""A contact sheet of worlds, and the baselines that need no image."""

import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from lxmert.data.readers import read_questions
from lxmert.files import atomic_path
from lxmert.images import read_image
from lxmert.lab.worlds.suite import MANIFEST, WORLDS
from lxmert.schema import Example
from lxmert.tasks.baselines import Baselines
from lxmert.tasks.metrics import OVERALL, best_answer

_COLUMNS, _IMAGES = 2, 3
_SIDE, _GAP, _LINE, _FONT, _WRAP, _ROWS = 200, 12, 17, 13, 31, 6
_PAPER, _INK, _SOFT = (250, 250, 248), (30, 32, 36), (89, 96, 105)


class BaselineScores(NamedTuple):
    """The baselines on the test questions of one type, or `overall`.

    Attributes:
        type: question type.
        questions: number of test questions.
        answers: number of different answers.
        majority: accuracy of the type's most frequent training answer.
        question_only: accuracy of the most frequent training answer to the identical question.
    """

    type: str
    questions: int
    answers: int
    majority: float
    question_only: float


def find_worlds(folder: Path) -> list[Path]:
    """Return the worlds in a folder, in the order of the suite.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = [folder / name for name in WORLDS if (folder / name / MANIFEST).is_file()]
    if not found:
        raise FileNotFoundError(
            f"{folder} has no worlds: make some with lxmert lab worlds make -o {folder}"
        )
    return found


def score_baselines(folder: Path) -> list[BaselineScores]:
    """Return the accuracy of the baselines in a world, by question type and overall."""
    baselines = Baselines.learn(read_questions(folder / "train.jsonl"))
    questions = read_questions(folder / "test.jsonl")
    question_only = baselines.scores(questions)["question_only"]
    by_type: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        for key in (question.question_type, OVERALL):
            by_type[key].append(best_answer(question.answers))
    rows = []
    for key in sorted(by_type, key=lambda key: (key == OVERALL, key)):
        answers = by_type[key]
        right = answers.count(baselines.question_types.get(key, baselines.majority))
        numbers = len(answers), len(set(answers)), right / len(answers)
        rows.append(BaselineScores(key, *numbers, question_only[key]))
    return rows


def save_sheet(worlds: Sequence[Path], path: Path) -> None:
    """Save the first test images of worlds with some of their questions."""
    cells = [_draw_world(world) for world in worlds]
    width, height = cells[0].size
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * width, rows * height), _PAPER)
    for number, cell in enumerate(cells):
        row, column = divmod(number, _COLUMNS)
        sheet.paste(cell, (column * width, row * height))
    with atomic_path(path) as partial:
        sheet.save(partial, format=Image.registered_extensions()[path.suffix.lower()], quality=80)


def _draw_world(folder: Path) -> Image.Image:
    """Draw a title and three images with questions."""
    questions: dict[str, list[Example]] = defaultdict(list)
    for question in read_questions(folder / "test.jsonl"):
        questions[question.image_ids[0]].append(question)
    size = (_IMAGES * (_SIDE + _GAP) + 2 * _GAP, _SIDE + (_ROWS + 1) * _LINE + 2 * _GAP)
    cell = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(cell)
    draw.text((_GAP, _GAP), folder.name, fill=_INK, font=ImageFont.load_default(16))
    title = draw.textlength(folder.name, font=ImageFont.load_default(16))
    font = ImageFont.load_default(_FONT)
    draw.text((_GAP + title + 10, _GAP + 2), WORLDS[folder.name].about, fill=_SOFT, font=font)
    for column, name in enumerate(list(questions)[:_IMAGES]):
        left, top = _GAP + column * (_SIDE + _GAP), _GAP + 24
        image = Image.fromarray(read_image(folder / "images" / name))
        scale = min(_SIDE / image.width, _SIDE / image.height)
        image = image.resize((round(image.width * scale), round(image.height * scale)))
        cell.paste(image, (left, top + (_SIDE - image.height) // 2))
        draw.rectangle((left - 1, top - 1, left + _SIDE, top + _SIDE), outline=(215, 215, 210))
        text = "\n".join(_lines(questions[name]))
        draw.multiline_text((left, top + _SIDE + 5), text, fill=_INK, font=font, spacing=3)
    return cell


def _lines(questions: Sequence[Example]) -> list[str]:
    """Return the lines of the first questions of different types, as far as they fit."""
    lines: list[str] = []
    for question in {each.question_type: each for each in questions}.values():
        wrapped = _wrap(question)
        if len(lines) + len(wrapped) <= _ROWS - 1:
            lines += wrapped
    return lines


def _wrap(question: Example) -> list[str]:
    """Return a question with its answer in lines; a very long one without its middle."""
    text = f"{question.text} [{best_answer(question.answers)}]"
    lines = textwrap.wrap(text, _WRAP, subsequent_indent="  ")
    return lines if len(lines) <= _ROWS - 2 else [lines[0], "  ...", *lines[-2:]]
