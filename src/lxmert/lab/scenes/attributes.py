"""Questions about one attribute of one object: name, color, size or material."""

from collections.abc import Sequence

import numpy as np

from lxmert.lab.scenes.descriptions import Scene, phrase, pick, shuffled, single_out
from lxmert.lab.scenes.programs import Find, Query, Question

WHAT_FORMS = (
    "What is the {}?",
    "What is that {}?",
    "What do you call the {}?",
    "Name the {}.",
    "What kind of thing is the {}?",
)
COLOR_FORMS = (
    "What color is the {}?",
    "What is the color of the {}?",
    "Which color does the {} have?",
    "What colour is the {}?",
)
SIZE_FORMS = (
    "What size is the {}?",
    "How big is the {}?",
    "What is the size of the {}?",
    "Is the {} large or small?",
)
MATERIAL_FORMS = (
    "What is the {} made of?",
    "What material is the {}?",
    "Is the {} metal or plastic?",
    "Which material is the {} made of?",
)


def ask_what(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for the name of an object."""
    return _ask(scene, generator, "name", "what", WHAT_FORMS)


def ask_color(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for the color of an object."""
    return _ask(scene, generator, "color", "color", COLOR_FORMS)


def ask_size(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for the size of an object."""
    return _ask(scene, generator, "size", "size", SIZE_FORMS)


def ask_material(scene: Scene, generator: np.random.Generator) -> Question | None:
    """Ask for the material of an object."""
    return _ask(scene, generator, "material", "material", MATERIAL_FORMS)


def _ask(
    scene: Scene,
    generator: np.random.Generator,
    aspect: str,
    question_type: str,
    forms: Sequence[str],
) -> Question | None:
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
    text = pick(generator, forms).format(phrase(description, generator))
    return Question(text, values[0], question_type, Query(aspect, Find(description)))
