"""Worlds of noise, light and patterns, and of answers that are many and skewed."""

from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from lxmert.lab.worlds.drawing import (
    COLORS,
    QA,
    SHAPES,
    Color,
    Glyph,
    WorldImage,
    ask,
    paint,
    place,
    scene_of,
)

_SIDE = 128
_GROUNDS = ("grass", "water", "sand", "brick", "wood", "gravel")
_PATTERNS = ("plain", "striped", "spotted", "checked", "banded")
_COATS = ("red", "purple", "yellow", "gray")
_LIT = {"left": (1.25, 0.6), "right": (0.6, 1.25)}

Plane = npt.NDArray[np.float64]


def textures(rng: Random) -> WorldImage:
    """Draw a ground of noise in a slanting light, with one to three blurred, patterned things."""
    noise = np.random.default_rng(rng.getrandbits(64))
    ground, light = rng.choice(_GROUNDS), rng.choice(list(_LIT))
    image = Image.fromarray(_bytes(_ground(ground, noise)))
    colors = rng.sample(_COATS, rng.randint(1, 3))
    boxes = place(rng, len(colors), (4, 4, _SIDE - 4, _SIDE - 4), (32, 44), gap=1.1)
    things = [
        Glyph(rng.choice(("circle", "heart", "diamond")), color, box, rng.choice(_PATTERNS[:4]))
        for color, box in zip(colors, boxes, strict=True)
    ]
    for thing in things:
        side = thing.box[2] - thing.box[0]
        paint(image, thing.shape, pattern(thing.look, COLORS[thing.color], side), thing.box)
    shade = np.linspace(*_LIT[light], _SIDE)[None, :, None] * rng.uniform(0.8, 1.1)
    soft = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.0)))
    grain = noise.normal(0, 8, (_SIDE, _SIDE, 3))
    image = Image.fromarray(_bytes(np.asarray(soft) * shade + grain))
    scene = scene_of(things, ground=ground, light=light)
    return WorldImage(image, scene, _about_textures(rng, things, ground, light))


def _about_textures(rng: Random, things: list[Glyph], ground: str, light: str) -> list[QA]:
    asked: dict[str, tuple[str, str | int]] = {
        "ground": ("what is the ground made of?|what are these things lying on?", ground),
        "light": ("from which side does the light come?|which side is brighter?", light),
        "count": ("how many things lie on the ground?|how many things do you see?", len(things)),
    }
    questions = [ask(rng, key, phrasings, right) for key, (phrasings, right) in asked.items()]
    for name in _GROUNDS:
        phrasings = "is this {0}?|is there {0} in the photo?"
        questions.append(ask(rng, "is", phrasings, name == ground, name))
    for name in _PATTERNS[:4]:
        there = any(thing.look == name for thing in things)
        phrasings = "is anything {0}?|can you see a {0} thing?"
        questions.append(ask(rng, "any", phrasings, there, name))
    for thing in things:
        color, boxes = thing.color, (thing.box,)
        phrasings = "which pattern has the {0} thing?|how is {0} patterned?"
        questions.append(ask(rng, "pattern", phrasings, thing.look, color, boxes=boxes))
        phrasings = "what shape is the {0} thing?|which shape has {0}?"
        questions.append(ask(rng, "shape", phrasings, thing.shape, color, boxes=boxes))
    return questions


def skewed(rng: Random) -> WorldImage:
    """Draw two patterned things; ask with 2, 20 and 500 different answers, few of them frequent."""
    boxes = [place(rng, 1, (left, 4, left + 60, 124), (40, 56))[0] for left in (2, 66)]
    things = [
        Glyph(_rare(rng, SHAPES), _rare(rng, tuple(COLORS)), box, _rare(rng, _PATTERNS))
        for box in boxes
    ]
    image = Image.new("RGB", (128, 128), (250, 250, 250))
    questions = []
    for where, thing in zip(("left", "right"), things, strict=True):
        side = thing.box[2] - thing.box[0]
        paint(image, thing.shape, pattern(thing.look, COLORS[thing.color], side), thing.box)
        full = f"{thing.look} {thing.color} {thing.shape}"
        phrasings, about = "what exactly is on the {0}?|describe the {0} thing", (thing.box,)
        questions.append(ask(rng, "of-500", phrasings, full, where, boxes=about))
        answer = f"{thing.color} {'top' if thing.center[1] < 64 else 'bottom'}"
        phrasings = "which color, and where, is the thing on the {0}?|{0}: color and place"
        questions.append(ask(rng, "of-20", phrasings, answer, where, boxes=about))
    phrasings = "do both have the same pattern?|are the two patterned alike?"
    questions.append(ask(rng, "of-2", phrasings, things[0].look == things[1].look))
    return WorldImage(image, scene_of(things), questions)


def _rare(rng: Random, names: tuple[str, ...]) -> str:
    """Draw a name; the n-th is n times rarer than the first."""
    return rng.choices(names, [1 / (number + 1) for number in range(len(names))])[0]


def pattern(look: str, color: Color, side: int) -> Image.Image:
    """Return a square filled with a color and, in a darker shade of it, a pattern."""
    rows, columns = np.indices((side, side)) * 6 // side
    fine = np.indices((side, side)) * 12 // side % 2
    marks = {
        "plain": np.zeros((side, side), dtype=bool),
        "striped": columns % 2 == 1,
        "banded": rows % 2 == 1,
        "spotted": (fine[0] & fine[1]).astype(bool),
        "checked": (rows + columns) % 2 == 1,
    }
    dark = tuple(value * 2 // 5 for value in color)
    return Image.fromarray(np.where(marks[look][:, :, None], dark, color).astype(np.uint8))


def _ground(kind: str, noise: np.random.Generator) -> Plane:
    """Return `[_SIDE, _SIDE, 3]` of a ground, 0-255."""
    rows, columns = np.indices((_SIDE, _SIDE))
    smooth, fine = _cloud(noise, 6), _cloud(noise, 48)
    if kind == "brick":
        shifted = (columns + 16 * (rows // 16 % 2)) % 32
        mortar = (rows % 16 < 2) | (shifted < 2)
        return _tint(np.where(mortar, 1.5, 0.8 + 0.2 * fine), (165, 85, 60))
    waves = np.sin(rows / 3 + 4 * smooth)
    level = {
        "grass": 0.6 + 0.9 * _cloud(noise, 64) * fine,
        "water": 0.85 + 0.18 * waves,
        "sand": 0.85 + 0.15 * fine + 0.08 * smooth,
        "wood": 0.8 + 0.2 * np.sin(columns / 4 + 5 * smooth),
        "gravel": 0.5 + (_cloud(noise, 32) > 0.5) * 0.6 + 0.1 * fine,
    }[kind]
    tints = {"grass": (95, 150, 60), "water": (70, 120, 175), "sand": (220, 195, 150),
             "wood": (170, 125, 80), "gravel": (140, 140, 145)}  # fmt: skip
    return _tint(level, tints[kind])


def _cloud(noise: np.random.Generator, cells: int) -> Plane:
    """Return smooth noise in `[0, 1]`."""
    coarse = Image.fromarray(noise.integers(0, 256, (cells, cells), dtype=np.uint8))
    fine = coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return np.asarray(fine, dtype=np.float64) / 255


def _tint(level: Plane, color: Color) -> Plane:
    tinted: Plane = level[:, :, None] * np.array(color, dtype=np.float64)
    return tinted


def _bytes(values: Plane) -> npt.NDArray[np.uint8]:
    return np.clip(values, 0, 255).astype(np.uint8)
