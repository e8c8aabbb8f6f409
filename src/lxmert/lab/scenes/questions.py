"""The question types about a scene. Every text is true of its image."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lxmert.lab.scenes.attributes import ask_attribute, ask_place
from lxmert.lab.scenes.counting import ask_compare, ask_count, ask_exist
from lxmert.lab.scenes.descriptions import Scene
from lxmert.lab.scenes.hops import ask_two_step
from lxmert.lab.scenes.programs import Question
from lxmert.lab.scenes.relations import ask_relation, ask_same, ask_share

QUESTION_TYPES: dict[str, Callable[[Scene, np.random.Generator], Question | None]] = {
    "what": partial(ask_attribute, "name"),
    "color": partial(ask_attribute, "color"),
    "size": partial(ask_attribute, "size"),
    "material": partial(ask_attribute, "material"),
    "count": ask_count,
    "exist": ask_exist,
    "place": ask_place,
    "relation": ask_relation,
    "same": ask_same,
    "share": ask_share,
    "compare": ask_compare,
    "two-step": ask_two_step,
}
"""Question type -> function that asks such a question, or returns None if none is possible."""

FEWEST_THINGS = (
    dict.fromkeys(("count", "exist", "compare"), 1)
    | dict.fromkeys(("what", "color", "size", "material", "place", "relation"), 2)
    | dict.fromkeys(("same", "share", "two-step"), 3)
)
"""Question type -> minimum number of objects in a scene."""


def ask(
    scene: Scene,
    generator: np.random.Generator,
    *,
    rounds: int,
    question_types: Sequence[str] = tuple(QUESTION_TYPES),
) -> list[Question]:
    """Ask questions about a scene.

    Args:
        scene: what texts may be about.
        generator: source of randomness.
        rounds: maximum number of different questions of every question type.
        question_types: keys of `QUESTION_TYPES`.
    """
    questions: dict[str, Question] = {}
    for _ in range(rounds):
        for question_type in question_types:
            question = QUESTION_TYPES[question_type](scene, generator)
            if question is not None:
                questions.setdefault(question.text, question)
    return list(questions.values())
