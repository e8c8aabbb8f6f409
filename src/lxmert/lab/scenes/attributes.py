"""Questions about one attribute of one object: name, color, size or material."""

import numpy as np

from lxmert.lab.scenes.descriptions import Scene, phrase, pick, shuffled, single_out
from lxmert.lab.scenes.programs import Find, Query, Question
from lxmert.lab.scenes.vocabulary import FORMS


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
