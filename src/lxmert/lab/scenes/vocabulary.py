"""The words of the miniature world: object classes and attributes, their plurals, phrasings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lxmert.files import read_toml

OBJECTS = (
    "apple",
    "ball",
    "book",
    "bottle",
    "bowl",
    "box",
    "can",
    "candle",
    "clock",
    "cone",
    "hat",
    "lamp",
    "mug",
    "plate",
    "stool",
    "vase",
)

COLORS = {
    "red": (0.80, 0.07, 0.07),
    "orange": (0.95, 0.42, 0.03),
    "yellow": (0.93, 0.82, 0.06),
    "green": (0.08, 0.52, 0.12),
    "blue": (0.06, 0.18, 0.80),
    "purple": (0.45, 0.09, 0.58),
    "white": (0.90, 0.90, 0.90),
    "black": (0.035, 0.035, 0.04),
}
"""Color name -> linear RGB reflectance in `[0, 1]`."""

SIZES = {"small": 0.70, "large": 1.15}
"""Size name -> mean scale of the object's shape."""

MATERIALS = ("metal", "plastic")

ATTRIBUTE_GROUPS = {"color": tuple(COLORS), "size": tuple(SIZES), "material": MATERIALS}
"""Attributes of an object that can be asked for, with their possible values."""

FORMS: Mapping[str, Mapping[str, Sequence[str]]] = read_toml(
    Path(__file__).with_name("phrasings.toml")
)
"""Kind of text -> its variants -> their phrasings, which are equally likely."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")

Pairs = frozenset[tuple[str, str]]
"""Pairs of color and object name."""

HELD_OUT: Pairs = frozenset(
    (tuple(COLORS)[(3 * number + 2) % len(COLORS)], name) for number, name in enumerate(OBJECTS)
)
"""One color per object, and two objects per color, that only the split `compositional` shows."""

SEEN: Pairs = frozenset((color, name) for color in COLORS for name in OBJECTS) - HELD_OUT
"""The pairs of all other splits."""


def plural(noun: str) -> str:
    """Return the plural of an object name."""
    return noun + ("es" if noun.endswith("x") else "s")
