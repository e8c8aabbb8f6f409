"""Questions about one thing of a drawing, or about whether there is one."""

from collections.abc import Callable

from lxmert.lab.drawings.drawing import Drawing, DrawnThing
from lxmert.lab.drawings.phrases import Choices, Made


def attribute(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask for the color, shape or size of a thing."""
    name = choices.one_of(("color", "color", "shape", "shape", "size"))
    if drawing.layout in ("towers", "bars"):
        return None
    found = choices.unique(drawing, name)
    if found is None or not getattr(found[1], name):
        return None
    text = choices.text(found[0])
    asks = [
        f"what is the {name} of the {text}",
        f"which {name} has the {text}",
        f"what {name} is the {text}",
    ]
    if name == "color" and choices.chance(0.3):
        asks = [ask.replace("color", "colour") for ask in asks]
    return choices.one_of(asks), "", str(getattr(found[1], name))


def verify(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether a thing has a color or shape."""
    name = choices.one_of(("color", "shape"))
    found = choices.unique(drawing, name)
    if found is None or drawing.layout in ("towers", "bars"):
        return None
    truth = getattr(found[1], name)
    said = truth if choices.chance(0.5) else choices.one_of(getattr(drawing, name + "s"))
    value = choices.word(said)
    value = value if name == "color" else f"a {value}"
    text = choices.text(found[0])
    return f"is the {text} {value}", f"the {text} is {value}", said == truth


def place(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask for the corner, half or side where a thing is, or whether it is there."""
    found = choices.unique(drawing)
    if found is None or drawing.layout == "bars":
        return None
    height, width = drawing.size
    x, y, text = found[1].x / width - 0.5, found[1].y / height - 0.5, choices.text(found[0])
    is_across = choices.chance(0.5)
    value = x if is_across else y
    low, high = ("left", "right") if is_across else ("top", "bottom")
    if abs(value) < 0.02:
        return None
    if choices.chance(0.35):
        corner = f"{'top' if y < 0 else 'bottom'} {'left' if x < 0 else 'right'}"
        asks = f"where is the {text}", f"in which corner is the {text}"
        return (choices.one_of(asks), "", corner) if min(abs(x), abs(y)) >= 0.04 else None
    if choices.chance(0.3):
        side = "side" if is_across else "half"
        ask = choices.one_of((f"on which {side} is the {text}", f"in which half is the {text}"))
        return ask + ("" if is_across else " top or bottom"), "", low if value < 0 else high
    word = choices.one_of((low, high))
    where = _across(word, choices) if is_across else _along(word, choices)
    return f"is the {text} {where}", f"the {text} is {where}", (word == low) == (value < 0)


def _across(word: str, choices: Choices) -> str:
    """Return words for the left or right half."""
    image = choices.image()
    return choices.one_of(
        (f"on the {word} side of the {image}", f"on the {word}", f"in the {word} half")
    )


def _along(word: str, choices: Choices) -> str:
    """Return words for the top or bottom half."""
    said = choices.one_of((word, {"top": "upper", "bottom": "lower"}[word]))
    return choices.one_of((f"in the {said} half of the {choices.image()}", f"in the {said} part"))


def exists(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether there is a thing of a kind, or none."""
    wanted = choices.phrase(drawing, present=0.5, general=0)
    text, number = choices.text(wanted), wanted.count(drawing)
    if choices.chance(0.2):
        return (
            f"are there no {(many := choices.text(wanted, plural=True))}",
            f"there is no {text}" if choices.chance(0.5) else f"there are no {many}",
            not number,
        )
    ask = choices.one_of((f"is there a {text}", f"do you see a {text}", f"can you find a {text}"))
    return ask, f"there is a {text}", number > 0


_EXTREMES: tuple[tuple[tuple[str, ...], Callable[[DrawnThing], float]], ...] = (
    (("leftmost", "most left"), lambda thing: thing.x),
    (("rightmost", "most right"), lambda thing: -thing.x),
    (("topmost", "highest"), lambda thing: thing.y),
    (("lowest", "bottommost"), lambda thing: -thing.y),
    (("largest", "biggest"), lambda thing: -3 * thing.radius),
    (("smallest",), lambda thing: 3 * thing.radius),
)
"""Words for an extreme, and the number that is smallest for that thing."""


def extreme(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask for an attribute of the leftmost, highest, ... or largest thing."""
    if len(drawing.things) < 2 or drawing.layout in ("bars", "towers"):
        return None
    wanted = choices.phrase(drawing, general=0.5)
    some = [thing for thing in drawing.things if wanted.fits(thing)]
    how, key = choices.one_of(_EXTREMES)
    order = sorted(some, key=key)
    if len(order) < 2 or abs(key(order[0]) - key(order[1])) < 0.5 * order[0].radius:
        return None
    name = choices.one_of(("color", "shape"))
    if getattr(wanted, name):
        return None
    ask = f"what is the {name} of the {choices.one_of(how)} {choices.text(wanted)}"
    return ask, "", getattr(order[0], name)
