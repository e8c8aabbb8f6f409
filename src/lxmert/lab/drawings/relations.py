"""Questions about where things are relative to each other."""

import math

from lxmert.lab.drawings.drawing import Drawing, DrawnThing
from lxmert.lab.drawings.phrases import NOUNS, Choices, Made

_CLEAR = 0.8
"""How far apart centers must be, in radii, for one to be left of or above the other."""

_GAP = 0.06
"""How much two distances must differ, as a share of the larger one."""

_RELATIONS = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
_RELATION_WORDS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
}
_DISTANCE_WORDS = {
    "near": ("nearest to", "closest to", "next to"),
    "far": ("farthest from", "furthest from", "most distant from"),
}


def _holds(relation: str, one: DrawnThing, two: DrawnThing, *, grid: bool) -> bool | None:
    """Return whether a relation holds; None if that is not clear. In grids: only neighbors."""
    dx, dy = _RELATIONS[relation]
    if grid:
        return (one.place[0] - two.place[0], one.place[1] - two.place[1]) == (dy, dx)
    along = (one.x - two.x) * dx + (one.y - two.y) * dy
    if abs(along) < _CLEAR * max(one.radius, two.radius):
        return None
    return along > 0


def _holds_in_tower(relation: str, one: DrawnThing, two: DrawnThing) -> bool:
    """Return whether a block is directly above or below another one of the same tower."""
    levels = one.place[0] - two.place[0]
    return one.panel == two.panel and levels == (1 if relation == "above" else -1)


def related(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether one of two things is left of, right of, above or below the other."""
    one, two = choices.unique(drawing), choices.unique(drawing)
    if one is None or two is None or one[1] == two[1] or drawing.layout in ("bars", "towers"):
        return None
    relation = choices.one_of(tuple(_RELATIONS))
    truth = _holds(relation, one[1], two[1], grid=False)
    if truth is None:
        return None
    said = choices.one_of(_RELATION_WORDS[relation])
    first, second = choices.text(one[0]), choices.text(two[0])
    return f"is the {first} {said} the {second}", f"the {first} is {said} the {second}", truth


def some_related(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether some thing is related to some other one; next to it in a grid or a tower."""
    if drawing.layout == "bars" or len(drawing.things) < 2:
        return None
    first, second = (choices.phrase(drawing, present=0.85) for _ in range(2))
    in_tower = drawing.layout == "towers"
    relation = choices.one_of(("above", "below") if in_tower else tuple(_RELATIONS))
    found = [
        _holds_in_tower(relation, one, two)
        if in_tower
        else _holds(relation, one, two, grid=drawing.layout == "grid")
        for one in drawing.things
        for two in drawing.things
        if one != two and first.fits(one) and second.fits(two)
    ]
    if not any(found) and None in found:
        return None
    said = choices.one_of(_RELATION_WORDS[relation])
    text = f"a {choices.text(first)} {said} a {choices.text(second)}"
    return f"{choices.one_of(('is', 'is there'))} {text}", f"there is {text}", any(found)


def neighbor(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask for an attribute of the nearest or farthest thing, or of the things on one side."""
    found = choices.unique(drawing)
    if found is None or len(drawing.things) < 3 or drawing.layout in ("bars", "towers"):
        return None
    phrase, origin = found
    others = [thing for thing in drawing.things if thing != origin]
    how = choices.one_of(("near", "near", "far", *_RELATIONS))
    chosen, words = (
        (_on_side(how, origin, others, grid=drawing.layout == "grid"), _RELATION_WORDS[how])
        if how in _RELATIONS
        else (_by_distance(how, origin, others), _DISTANCE_WORDS[how])
    )
    name = choices.one_of(("color", "shape"))
    values = {getattr(thing, name) for thing in chosen}
    if len(values) != 1:
        return None
    where = f"{choices.one_of(NOUNS)} {choices.one_of(words)} the {choices.text(phrase)}"
    asks = f"what is the {name} of the {where}", f"what {name} is the {where}"
    return choices.one_of(asks), "", values.pop()


def _on_side(
    relation: str, origin: DrawnThing, others: list[DrawnThing], *, grid: bool
) -> list[DrawnThing]:
    """Return the things on one side of another; none if that is not clear of all."""
    sides = [_holds(relation, other, origin, grid=grid) for other in others]
    if None in sides:
        return []
    return [other for other, side in zip(others, sides, strict=True) if side]


def _by_distance(how: str, origin: DrawnThing, others: list[DrawnThing]) -> list[DrawnThing]:
    """Return the nearest or farthest thing; none if two are about equally far."""

    def distance(thing: DrawnThing) -> float:
        return math.hypot(thing.x - origin.x, thing.y - origin.y)

    first, second, *_ = sorted(others, key=distance, reverse=how == "far")
    gap = abs(distance(first) - distance(second))
    return [first] if gap >= _GAP * max(distance(first), distance(second)) else []
