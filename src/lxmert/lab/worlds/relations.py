"""Worlds whose questions need several things: distances, directions, equality, numbers."""

from collections import Counter
from math import dist
from random import Random

from PIL import Image

from lxmert.lab.worlds.drawing import (
    COLORS,
    QA,
    SHAPES,
    YES_NO,
    Glyph,
    Meaning,
    WorldImage,
    ask,
    extreme,
    paint_all,
    place,
    scene_of,
)

_SIX = ("red", "green", "blue", "orange", "gray", "yellow")
_HALF = 10
_SORT_OF_CLEVR = {
    "single-shape": "what is the shape of the {} object?|which shape has the {} thing?",
    "single-left": "is the {} object on the left half?|is the {} thing in the left half of this?",
    "single-top": "is the {} object in the upper half?|is the {} thing in the top half of this?",
    "relational-near": "what shape is closest to the {} object?|which shape is next to {}?",
    "relational-far": "what shape is furthest from the {} object?|which shape is farthest from {}?",
    "relational-count": "how many things have the shape of the {} object?|how many are of the same "
    "shape as the {} one?",
}
_FEW, _KINDS = ("red", "blue", "green"), ("circle", "square", "star")


def sort_of_clevr(rng: Random) -> WorldImage:
    """Draw six things of six colors, circles and squares, with ten questions of each kind.

    Source: Santoro et al. 2017, section 4.2: the distribution of its scenes and questions.
    """
    side, things = 150, list[Glyph]()
    while len(things) < len(_SIX):
        x, y = (rng.randint(_HALF, side - _HALF) for _ in range(2))
        box = (x - _HALF, y - _HALF, x + _HALF, y + _HALF)
        if all(dist((x, y), other.center) > 3 * _HALF for other in things):
            things.append(Glyph(rng.choice(("circle", "square")), _SIX[len(things)], box))
    image = Image.new("RGB", (side, side), (255, 255, 255))
    paint_all(image, things)
    types = list(_SORT_OF_CLEVR)
    questions = []
    for number in range(20):
        thing, key = rng.choice(things), rng.choice(types[:3] if number < 10 else types[3:])
        answer = _sort_of_answer(key, thing, things, side)
        phrasings, boxes = _SORT_OF_CLEVR[key], (thing.box,)
        questions.append(ask(rng, key, phrasings, answer, thing.color, boxes=boxes))
    return WorldImage(image, scene_of(things, side=side), questions)


def _sort_of_answer(key: str, thing: Glyph, things: list[Glyph], side: int) -> str:
    """Answer a question about a thing."""
    if key == "single-shape":
        return thing.shape
    if key in ("single-left", "single-top"):
        return YES_NO[thing.center[key == "single-top"] < side / 2]
    if key == "relational-count":
        return str(sum(other.shape == thing.shape for other in things))
    order = sorted(things, key=lambda other: dist(other.center, thing.center))
    return order[1 if key == "relational-near" else -1].shape


def relations(rng: Random) -> WorldImage:
    """Draw things of different colors, and ask about pairs and neighbors."""
    boxes = place(rng, rng.randint(4, 7), (2, 2, 142, 142), (16, 26), gap=1.3)
    colors, kinds = rng.sample(list(COLORS), len(boxes)), rng.sample(SHAPES, 4)
    things = [Glyph(rng.choice(kinds), c, box) for c, box in zip(colors, boxes, strict=True)]
    image = Image.new("RGB", (144, 144), (rng.randint(225, 255),) * 3)
    questions = [q for thing in things for q in _about_neighbors(rng, thing, things)]
    for axis, word in ((0, "left of"), (1, "above")):
        for _ in range(6):
            one, other = rng.sample(things, 2)
            if abs(one.center[axis] - other.center[axis]) > 8:
                phrasings = "is the {1} thing {0} the {2} one?|is {1} {0} {2}?"
                words, pair = (word, one.color, other.color), (one.box, other.box)
                holds = one.center[axis] < other.center[axis]
                questions.append(ask(rng, "side", phrasings, holds, *words, boxes=pair))
    return WorldImage(paint_all(image, things), scene_of(things), questions)


def _about_neighbors(rng: Random, thing: Glyph, things: list[Glyph]) -> list[QA]:
    """Return the questions that compare one thing with all others."""
    color, boxes = thing.color, (thing.box,)
    others = [other for other in things if other is not thing]
    twins = [other for other in others if other.shape == thing.shape]
    left = sum(other.center[0] < thing.center[0] for other in others)
    asked: dict[str, tuple[str, str | int]] = {
        "same": (
            "does anything else have the shape of the {0} one?|is any other shaped like {0}?",
            bool(twins),
        ),
        "left-count": (
            "how many things are left of the {0} one?|how many are left of {0}?",
            left,
        ),
    }
    if len(twins) == 1:
        phrasings = "what color is the other thing shaped like the {0} one?"
        asked["twin"] = phrasings, twins[0].color
    if near := extreme(others, lambda other: dist(other.center, thing.center), 8):
        phrasings = "what color is nearest to the {0} thing?|which is next to {0}?"
        asked["nearest"] = phrasings, near.color
    return [
        ask(rng, key, phrasings, answer, color, boxes=boxes)
        for key, (phrasings, answer) in asked.items()
    ]


def counting(rng: Random) -> WorldImage:
    """Draw up to twelve things of three colors and shapes, and ask for numbers."""
    colors, kinds = rng.sample(_FEW, rng.randint(1, 3)), rng.sample(_KINDS, rng.randint(1, 3))
    boxes = place(rng, rng.randint(1, 12), (2, 2, 126, 126), (12, 18), gap=1.15)
    things = [Glyph(rng.choice(kinds), rng.choice(colors), box) for box in boxes]
    phrasings = "how many things are there?|how many things can you see in all?"
    questions = [ask(rng, "count", phrasings, len(things))]
    for axis, (kind, words) in enumerate({"color": _FEW, "shape": _KINDS}.items()):
        counted = Counter((thing.color, thing.shape)[axis] for thing in things)
        named = [f"{word} thing" if kind == "color" else word for word in words]
        for word, name in zip(words, named, strict=True):
            phrasings = "how many {0}s are there?|count the {0}s"
            meaning: Meaning = ("count", word)
            questions.append(ask(rng, "count", phrasings, counted[word], name, meaning=meaning))
        for one, other in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)):
            first, second = counted[words[one]], counted[words[other]]
            pair, about = (named[one], named[other]), (words[one], words[other])
            phrasings = "are there more {0}s than {1}s?|do {0}s outnumber {1}s?"
            meaning = ("more", *about)
            questions.append(ask(rng, "more", phrasings, first > second, *pair, meaning=meaning))
            phrasings = "are there as many {0}s as {1}s?|is the number of {0}s that of {1}s?"
            meaning = ("equal", *about)
            questions.append(ask(rng, "equal", phrasings, first == second, *pair, meaning=meaning))
        best, rival = counted.most_common(2) if len(counted) > 1 else (*counted.items(), ("", 0))
        if best[1] > rival[1]:
            phrasings = "which {0} is most frequent?|what {0} is there most often?"
            questions.append(ask(rng, "most", phrasings, best[0], kind))
    image = Image.new("RGB", (128, 128), (245, 240, 230))
    return WorldImage(paint_all(image, things), scene_of(things), questions)
