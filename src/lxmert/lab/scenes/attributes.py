"""Questions about one object: its name, color, size or material, and the part where it is."""

import numpy as np

from lxmert.lab.scenes.descriptions import Scene, coin, phrase, pick, shuffled, single_out
from lxmert.lab.scenes.programs import Find, Part, Query, Question, Where, Within, clear, lies
from lxmert.lab.scenes.vocabulary import FORMS

_PARTS: tuple[tuple[Part, Part], ...] = (("left", "right"), ("front", "back"))


def ask_attribute(aspect: str, scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for an attribute in which the objects differ, so that the right one must be found.

    The value is drawn first, so that rare values are asked for equally often.
    """
    values = shuffled(generator, sorted({getattr(thing, aspect) for thing in scene.things}))
    if len(values) < 2:
        return None
    options = [thing for thing in scene.things if getattr(thing, aspect) == values[0]]
    description = single_out(scene.things, pick(generator, options), generator, without=aspect)
    if description is None:
        return None
    text = pick(generator, FORMS["query"][aspect]).format(phrase(description, generator))
    question_type = "what" if aspect == "name" else aspect
    return Question(text, values[0], question_type, Query(aspect, Find(description)))


def ask_place(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for the part of the scene in which an object is, if the opposite part is not empty.

    The part is drawn before the object.
    """
    parts = pick(generator, _PARTS)
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
            question = pick(generator, FORMS["place"][" or ".join(parts)]).format(text)
        else:
            program = Within(pick(generator, parts), Find(description))
            where = f"{'on' if program.part in ('left', 'right') else 'in'} the {program.part}"
            question = pick(generator, FORMS["place"]["within"]).format(text, where)
        return Question(question, program.answer(scene.things), "place", program)
    return None
