"""Questions about the part of the scene in which an object is: left, right, front or back."""

import numpy as np

from lxmert.lab.scenes.descriptions import Scene, coin, phrase, pick, shuffled, single_out
from lxmert.lab.scenes.programs import Find, Part, Question, Where, Within, clear, lies

WHERE_FORMS: dict[tuple[Part, Part], tuple[str, ...]] = {
    ("left", "right"): (
        "Is the {} on the left or on the right?",
        "Left or right: where is the {}?",
        "Where is the {}, on the left or on the right?",
        "On which side is the {}, left or right?",
    ),
    ("front", "back"): (
        "Is the {} in the front or in the back?",
        "Front or back: where is the {}?",
        "Where is the {}, in the front or in the back?",
        "Does the {} stand in the front or in the back?",
    ),
}
PART_WORDS: dict[Part, str] = {
    "left": "on the left",
    "right": "on the right",
    "front": "in the front",
    "back": "in the back",
}
WITHIN_FORMS = (
    "Is the {} {}?",
    "Is it true that the {} is {}?",
    "Does the {} stand {}?",
    "Do you see the {} {}?",
)


def ask_place(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for the part of the scene in which an object is, if the opposite part is not empty.

    The part is drawn before the object.
    """
    parts = pick(generator, list(WHERE_FORMS))
    wanted = pick(generator, parts)
    placed = [thing for thing in shuffled(generator, scene.things) if clear(thing, wanted)]
    if len({lies(thing, wanted) for thing in placed}) < 2:
        return None
    for thing in placed:
        if not lies(thing, wanted):
            continue
        description = single_out(scene.things, thing, generator)
        if description is None:
            continue
        text = phrase(description, generator)
        program: Where | Within
        if coin(generator):
            program = Where(parts, Find(description))
            question = pick(generator, WHERE_FORMS[parts]).format(text)
        else:
            program = Within(pick(generator, parts), Find(description))
            question = pick(generator, WITHIN_FORMS).format(text, PART_WORDS[program.part])
        return Question(question, program.answer(scene.things), "place", program)
    return None
