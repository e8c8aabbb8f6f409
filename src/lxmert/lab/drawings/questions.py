"""Questions and statements about drawings, with their answers.

A question type is a function of a drawing and random choices. It returns None if the drawing does
not allow the question.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lxmert.lab.drawings.amounts import every, how_many, more, number, same
from lxmert.lab.drawings.drawing import Drawing
from lxmert.lab.drawings.layouts import boxes, chart
from lxmert.lab.drawings.phrases import Choices, Made
from lxmert.lab.drawings.relations import neighbor, related, some_related
from lxmert.lab.drawings.things import attribute, exists, extreme, place, verify

QuestionFunction = Callable[[Drawing, Choices], Made | None]

QUESTION_TYPES: dict[str, tuple[float, QuestionFunction]] = {
    "attribute": (3, attribute),
    "place": (2.5, place),
    "neighbor": (2.5, neighbor),
    "extreme": (1.5, extreme),
    "how many": (2.5, how_many),
    "chart": (2, chart),
    "boxes": (3, boxes),
    "verify": (1.5, verify),
    "exists": (2, exists),
    "number": (1.5, number),
    "more": (1.5, more),
    "related": (1.5, related),
    "some related": (2.5, some_related),
    "same": (1.5, same),
    "every": (1.5, every),
}
"""Weight and function of each question type."""

TRUTHS = ("yes", "no", "true", "false")
"""Answers to questions about a truth, and to statements."""

_TRIES = 6


class DrawingQuestion(NamedTuple):
    """A question or statement.

    Attributes:
        question_type: key of `QUESTION_TYPES`.
        text: the words.
        answer: a word, a number in digits, or one of `TRUTHS`.
    """

    question_type: str
    text: str
    answer: str


def ask_about(
    drawing: Drawing, generator: np.random.Generator, count: int, *, statements: bool
) -> list[DrawingQuestion]:
    """Ask questions about a drawing; yes and no, true and false are about equally frequent.

    Args:
        drawing: the content.
        generator: source of all choices.
        count: maximum number of questions.
        statements: whether to make statements, true or false, instead of questions with yes or no.
    """
    choices = Choices(int(generator.integers(2**62)))
    names = list(QUESTION_TYPES)
    weights = np.array([weight for weight, _ in QUESTION_TYPES.values()])
    order = generator.choice(len(names), size=count * 3, p=weights / weights.sum())
    asked: list[DrawingQuestion] = []
    for index in order.tolist():
        made = _balanced(drawing, choices, QUESTION_TYPES[names[index]][1])
        if made is not None:
            asked.append(_finish(names[index], made, choices, statements=statements))
        if len(asked) == count:
            break
    return asked


def _balanced(drawing: Drawing, choices: Choices, ask: QuestionFunction) -> Made | None:
    """Ask until the answer is the one of yes and no that was drawn first.

    If it never is, the other answer is returned rarely.
    """
    wanted, last = choices.chance(0.5), None
    for _ in range(_TRIES):
        made = ask(drawing, choices)
        if made is not None:
            last = made
            if not isinstance(made[2], bool) or made[2] == wanted:
                return made
    return last if choices.chance(0.3) else None


def _finish(
    question_type: str, made: Made, choices: Choices, *, statements: bool
) -> DrawingQuestion:
    """Return a question, or the same as a statement where there is one."""
    question, statement, answer = made
    mark = "?" * choices.chance(0.7)
    if not isinstance(answer, bool):
        return DrawingQuestion(question_type, question + mark, str(answer))
    if statements and statement:
        return DrawingQuestion(
            question_type, statement + "." * choices.chance(0.5), str(answer).lower()
        )
    return DrawingQuestion(question_type, question + mark, "yes" if answer else "no")
