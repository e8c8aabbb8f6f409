"""Worlds of colored things: one of them, many, tiny ones, few images, long sentences."""

from collections.abc import Callable
from functools import partial
from random import Random

from PIL import Image

from lxmert.lab.worlds.drawing import (
    COLORS,
    QA,
    SHAPES,
    Glyph,
    WorldImage,
    ask,
    extreme,
    one_of,
    paint_all,
    place,
    scene_of,
)

_BASIC = ("circle", "square", "triangle")
_ENDS: dict[str, Callable[[Glyph], float]] = {
    "leftmost": lambda thing: thing.center[0],
    "rightmost": lambda thing: -thing.center[0],
    "highest": lambda thing: thing.center[1],
    "lowest": lambda thing: -thing.center[1],
}

_OPENINGS = (
    "in this drawing, which a child made on a rainy afternoon and which hangs above my desk,|"
    "a friend of mine sent me this sheet of paper with several figures on it, and although i have "
    "looked at it for a long time i am not sure about one thing, so please help me:|"
    "before you answer, take your time and look at every single one of the figures here, large or "
    "small, because one of them matters to me more than the rest, and then say"
)
_ASIDES = (
    "leaving aside the {0} {1} if there should be any,|"
    "never mind whether there is a {0} {1} or how many figures there are altogether,|"
    "and please do not be led astray by a {0} {1} or by whatever else may lie around it,"
)


def one_thing(rng: Random) -> WorldImage:
    """Draw one thing on a plain ground."""
    shades = [rng.randint(200, 255) for _ in range(3)]
    colors = list(COLORS)[:8]
    thing = Glyph(
        rng.choice(_BASIC), rng.choice(colors), place(rng, 1, (0, 0, 64, 64), (14, 44))[0]
    )
    image = paint_all(Image.new("RGB", (64, 64), (shades[0], shades[1], shades[2])), [thing])
    which = one_of(rng, "thing|shape|object|{}", thing.shape)
    phrasings = "what shape is this?|which shape is in the image?"
    questions = [ask(rng, "shape", phrasings, thing.shape)]
    phrasings = "what color is the {0}?|which color does the {0} have?"
    questions.append(ask(rng, "color", phrasings, thing.color, which, meaning=("color",)))
    for key, names in (("is-shape", _BASIC), ("is-color", colors)):
        for name in names:
            what = name if key == "is-shape" else f"{name} shape"
            there = name in (thing.shape, thing.color)
            phrasings = "is there a {0}?|does the image contain a {0}?"
            questions.append(ask(rng, key, phrasings, there, what, meaning=(key, name)))
            phrasings, meaning = "is there no {0}?|is a {0} not in the image?", (f"not-{key}", name)
            questions.append(ask(rng, key, phrasings, not there, what, meaning=meaning))
    return WorldImage(image, scene_of([thing]), questions)


def many_things(
    rng: Random,
    *,
    side: int = 128,
    sizes: tuple[int, int] = (14, 26),
    most: int = 8,
    colors: int = 10,
    shapes: int = 10,
    phrase: Callable[[Random, str], str] = lambda rng, text: text,  # noqa: ARG005
) -> WorldImage:
    """Draw things of different colors, and ask for shapes, colors and places.

    Args:
        rng: decides everything.
        side: height and width of the image.
        sizes: range of the things' sizes.
        most: the largest number of things.
        colors: number of colors.
        shapes: number of shapes.
        phrase: turns a question into the final text.
    """
    boxes = place(rng, rng.randint(3, most), (2, 2, side - 2, side - 2), sizes, gap=1.3)
    chosen = rng.sample(list(COLORS)[:colors], len(boxes))
    things = [
        Glyph(rng.choice(SHAPES[:shapes]), color, box)
        for color, box in zip(chosen, boxes, strict=True)
    ]
    image = paint_all(Image.new("RGB", (side, side), (rng.randint(225, 255),) * 3), things)
    questions = [question for thing in things for question in _about(rng, thing, things, side)]
    for name, value in _ENDS.items():
        if end := extreme(things, value, side / 20):
            phrasings = "what color is the {0} thing?|which color is {0}?"
            questions.append(ask(rng, "end", phrasings, end.color, name, boxes=(end.box,)))
    for _ in range(4):
        color, shape = rng.choice(list(COLORS)[:colors]), rng.choice(SHAPES[:shapes])
        there = any((thing.color, thing.shape) == (color, shape) for thing in things)
        questions.append(_exists(rng, color, shape, there=there))
    final = [question._replace(text=phrase(rng, question.text)) for question in questions]
    return WorldImage(image, scene_of(things, side=side), final)


def _about(rng: Random, thing: Glyph, things: list[Glyph], side: int) -> list[QA]:
    """Return the questions about one of the things."""
    color, boxes = thing.color, (thing.box,)
    phrasings = "what is the {0} thing?|what shape is {0}?"
    questions = [ask(rng, "shape", phrasings, thing.shape, color, boxes=boxes)]
    if sum(other.shape == thing.shape for other in things) == 1:
        phrasings = "what color is the {0}?|which color does the {0} have?"
        questions.append(ask(rng, "color", phrasings, color, thing.shape, boxes=boxes))
    x, y = (value / side - 0.5 for value in thing.center)
    if min(abs(x), abs(y)) > 0.05:
        phrasings = "where is the {0} thing?|in which corner is {0}?"
        answer = f"{'top' if y < 0 else 'bottom'} {'left' if x < 0 else 'right'}"
        questions.append(ask(rng, "place", phrasings, answer, color, boxes=boxes))
    return [*questions, _exists(rng, color, thing.shape, there=True)]


def _exists(rng: Random, color: str, shape: str, *, there: bool) -> QA:
    phrasings = "is there a {0} {1}?|can you see a {0} {1}?"
    return ask(rng, "exists", phrasings, there, color, shape)


def _at_length(rng: Random, text: str) -> str:
    """Return a question in a sentence of thirty words or more, with another thing named in it."""
    aside = one_of(rng, _ASIDES, rng.choice(list(COLORS)), rng.choice(SHAPES))
    return f"{one_of(rng, _OPENINGS)} {aside} {text}"


tiny_things = partial(many_things, side=640, sizes=(9, 11), most=6, colors=6, shapes=4)
long_sentences = partial(many_things, most=6, phrase=_at_length)
