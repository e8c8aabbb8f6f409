"""The families of questions about a scene. What a text says is always true of the picture."""

from collections.abc import Callable, Sequence

import numpy as np

from lxmert.scenes.attributes import ask_color, ask_material, ask_size, ask_what
from lxmert.scenes.counting import ask_compare, ask_count, ask_exist
from lxmert.scenes.descriptions import Scene
from lxmert.scenes.hops import ask_two_step
from lxmert.scenes.places import ask_place
from lxmert.scenes.programs import Question
from lxmert.scenes.relations import ask_relation, ask_same, ask_share

FAMILIES: dict[str, Callable[[Scene, np.random.Generator], Question | None]] = {
    "what": ask_what,
    "color": ask_color,
    "size": ask_size,
    "material": ask_material,
    "count": ask_count,
    "exist": ask_exist,
    "place": ask_place,
    "relation": ask_relation,
    "same": ask_same,
    "share": ask_share,
    "compare": ask_compare,
    "two-step": ask_two_step,
}
"""Question family -> what asks such a question about a scene, or None where it has none to ask."""

FEWEST_THINGS = (
    dict.fromkeys(("count", "exist", "compare"), 1)
    | dict.fromkeys(("what", "color", "size", "material", "place", "relation"), 2)
    | dict.fromkeys(("same", "share", "two-step"), 3)
)
"""Question family -> how many things a scene needs at least for such a question."""


def ask(
    scene: Scene,
    generator: np.random.Generator,
    *,
    rounds: int,
    families: Sequence[str] = tuple(FAMILIES),
) -> list[Question]:
    """Ask about a scene.

    Args:
        scene: what may be talked about.
        generator: source of randomness.
        rounds: at most as many different questions of every family.
        families: keys of `FAMILIES`.
    """
    questions: dict[str, Question] = {}
    for _ in range(rounds):
        for family in families:
            question = FAMILIES[family](scene, generator)
            if question is not None:
                questions.setdefault(question.text, question)
    return list(questions.values())
