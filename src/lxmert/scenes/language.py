"""Words about scenes: describing objects by their attributes, asking about them, captioning them.

A description is a dict from aspect (`size`, `color`, `material`, `name`) to the wanted value; an
object fits it if it agrees in all of them. What a text says is always true of the picture.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lxmert.scenes.layout import SceneObject
from lxmert.scenes.vocabulary import COLORS, MATERIALS, OBJECTS, SIZES, plural

Description = dict[str, str]

VALUES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "material": MATERIALS,
    "name": OBJECTS,
}
"""What an object may be asked for, in the order of English adjectives, each with its values."""

SYNONYMS = {"large": ("large", "big"), "small": ("small", "little"), "metal": ("metal", "shiny")}
THINGS = (("thing", "things"), ("object", "objects"))
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")

CAPTION_FORMS = ("{}", "a picture of {}", "{} on a table", "we see {}", "look at {}")

_COUNT_CANDIDATES = 24
_EXIST_TRIES = 12


@dataclass(frozen=True)
class Question:
    """A question with its only right answer, and the family it belongs to.

    Attributes:
        text: the question.
        answer: the right one.
        family: a key of `FAMILIES`.
        about: index of the object that it singles out; empty where it is about several or none.
    """

    text: str
    answer: str
    family: str
    about: tuple[int, ...] = ()


def fits(thing: SceneObject, description: Description) -> bool:
    """Tell whether an object agrees with a description."""
    return all(getattr(thing, aspect) == value for aspect, value in description.items())


def matches(things: Sequence[SceneObject], description: Description) -> int:
    """Count the objects that fit a description."""
    return sum(fits(thing, description) for thing in things)


def phrase(description: Description, generator: np.random.Generator, *, many: bool = False) -> str:
    """Put a description into words, such as `big red mug` or `metal things`."""
    words = []
    for aspect in ("size", "color", "material"):
        if aspect in description:
            value = description[aspect]
            words.append(_pick(generator, SYNONYMS.get(value, (value,))))
    one, several = THINGS[int(generator.integers(len(THINGS)))]
    if "name" in description:
        one, several = description["name"], plural(description["name"])
    return " ".join([*words, several if many else one])


def ask(
    things: Sequence[SceneObject], generator: np.random.Generator, *, rounds: int
) -> list[Question]:
    """Ask about a scene, at most `rounds` different questions of every family."""
    questions: dict[str, Question] = {}
    for _ in range(rounds):
        for make in FAMILIES.values():
            question = make(things, generator)
            if question is not None:
                questions.setdefault(question.text, question)
    return list(questions.values())


def caption(things: Sequence[SceneObject], generator: np.random.Generator) -> str:
    """Say something true about a scene that names one to three groups of its objects."""
    parts: list[str] = []
    for index in generator.permutation(len(things))[: int(generator.integers(1, 4))]:
        description = _random_description(things[int(index)], generator)
        count = matches(things, description)
        text = phrase(description, generator, many=count > 1)
        part = f"{NUMBERS[count]} {text}" if count > 1 else _with_article(text)
        if part not in parts:
            parts.append(part)
    parts = parts or ["an empty table"]
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return _pick(generator, CAPTION_FORMS).format(listed)


def _with_article(text: str) -> str:
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _pick(generator: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(generator.integers(len(options)))]


def _random_description(thing: SceneObject, generator: np.random.Generator) -> Description:
    """Describe an object by a random, non-empty choice of its aspects."""
    chosen = {aspect for aspect in VALUES if generator.random() < 0.4}
    chosen = chosen or {_pick(generator, list(VALUES))}
    return {aspect: getattr(thing, aspect) for aspect in VALUES if aspect in chosen}


def _only(
    things: Sequence[SceneObject], generator: np.random.Generator, *, without: str
) -> tuple[SceneObject, Description] | None:
    """Choose an object and a description that fits it alone and keeps quiet about one aspect."""
    if not things:
        return None
    thing = things[int(generator.integers(len(things)))]
    aspects = [aspect for aspect in VALUES if aspect != without]
    # Mostly by name, as people do: "the red mug" rather than "the red metal thing".
    order = [aspects[int(i)] for i in generator.permutation(len(aspects))]
    if without != "name" and generator.random() < 0.75:
        order.sort(key=lambda aspect: aspect != "name")
    wanted = int(generator.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))
    for length in range(wanted, len(order) + 1):
        description = {a: getattr(thing, a) for a in VALUES if a in order[:length]}
        if matches(things, description) == 1:
            return thing, description
    return None


def _ask_aspect(
    things: Sequence[SceneObject],
    generator: np.random.Generator,
    *,
    aspect: str,
    family: str,
    forms: Sequence[str],
) -> Question | None:
    """Ask for one aspect of one object; None where no object can be singled out."""
    found = _only(things, generator, without=aspect)
    if found is None:
        return None
    thing, description = found
    text = _pick(generator, forms).format(phrase(description, generator))
    return Question(text, getattr(thing, aspect), family, (things.index(thing),))


def _what(things: Sequence[SceneObject], generator: np.random.Generator) -> Question | None:
    forms = ("What is the {}?", "What is that {}?", "What do you call the {}?", "Name the {}.")
    return _ask_aspect(things, generator, aspect="name", family="what", forms=forms)


def _color(things: Sequence[SceneObject], generator: np.random.Generator) -> Question | None:
    forms = (
        "What color is the {}?",
        "What is the color of the {}?",
        "Which color does the {} have?",
        "What colour is the {}?",
    )
    return _ask_aspect(things, generator, aspect="color", family="color", forms=forms)


def _size(things: Sequence[SceneObject], generator: np.random.Generator) -> Question | None:
    forms = (
        "What size is the {}?",
        "How big is the {}?",
        "What is the size of the {}?",
        "Is the {} large or small?",
    )
    return _ask_aspect(things, generator, aspect="size", family="size", forms=forms)


def _material(things: Sequence[SceneObject], generator: np.random.Generator) -> Question | None:
    forms = (
        "What is the {} made of?",
        "What material is the {}?",
        "Is the {} metal or plastic?",
        "Which material is the {} made of?",
    )
    return _ask_aspect(things, generator, aspect="material", family="material", forms=forms)


def _count(things: Sequence[SceneObject], generator: np.random.Generator) -> Question:
    """Ask for a number; drawn by its answer first, so that small numbers are not the rule."""
    by_count: dict[int, list[Description]] = {}
    for description in _groups(things, generator):
        by_count.setdefault(matches(things, description), []).append(description)
    counts = sorted(by_count)
    options = by_count[counts[int(generator.integers(len(counts)))]]
    description = options[int(generator.integers(len(options)))]
    forms = (
        "How many {} are there?",
        "How many {} do you see?",
        "How many {} are on the table?",
        "What is the number of {}?",
    )
    text = _pick(generator, forms).format(phrase(description, generator, many=True))
    return Question(text, str(matches(things, description)), "count")


def _groups(things: Sequence[SceneObject], generator: np.random.Generator) -> Iterator[Description]:
    """Draw descriptions of one or two aspects, half of them of objects in the scene."""
    aspects = list(VALUES)
    for number in range(_COUNT_CANDIDATES):
        length = 1 if number % 2 else 2
        chosen = {aspects[int(i)] for i in generator.permutation(len(aspects))[:length]}
        description = {a: _pick(generator, VALUES[a]) for a in aspects if a in chosen}
        if things and number % 4 < 2:
            thing = things[int(generator.integers(len(things)))]
            description = {aspect: getattr(thing, aspect) for aspect in description}
        yield description


def _exist(things: Sequence[SceneObject], generator: np.random.Generator) -> Question | None:
    """Ask whether something is there; the answer is drawn first, so that both are as frequent."""
    wanted = bool(things) and bool(generator.random() < 0.5)
    for _ in range(_EXIST_TRIES):
        if things:
            thing = things[int(generator.integers(len(things)))]
            description = _random_description(thing, generator)
        else:
            description = {aspect: _pick(generator, VALUES[aspect]) for aspect in ("color", "name")}
        if not wanted and things:
            # The nearest miss is the hardest: one aspect of a real object is changed.
            aspect = _pick(generator, list(description))
            description[aspect] = _pick(generator, VALUES[aspect])
        if bool(matches(things, description)) == wanted:
            forms = (
                "Is there {one}?",
                "Are there any {several}?",
                "Do you see {one}?",
                "Is {one} on the table?",
                "Can you see any {several}?",
            )
            one = _with_article(phrase(description, generator))
            several = phrase(description, generator, many=True)
            text = _pick(generator, forms).format(one=one, several=several)
            return Question(text, "yes" if wanted else "no", "exist")
    return None


FAMILIES: dict[str, Callable[[Sequence[SceneObject], np.random.Generator], Question | None]] = {
    "what": _what,
    "color": _color,
    "size": _size,
    "material": _material,
    "count": _count,
    "exist": _exist,
}
"""Question family -> what asks such a question about a scene, or None where it has none to ask."""
