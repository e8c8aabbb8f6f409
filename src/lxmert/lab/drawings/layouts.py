"""Questions about boxes with things, towers of blocks, and bar charts."""

from lxmert.lab.drawings.drawing import Drawing, DrawnThing
from lxmert.lab.drawings.phrases import NUMBERS, Choices, Made, Phrase, pluralize


class _Boxes:
    """The boxes or towers of a drawing, and how they and their things are called."""

    def __init__(self, drawing: Drawing, choices: Choices) -> None:
        self.is_tower = drawing.layout == "towers"
        others = ("box", "square", "frame") if choices.chance(0.2) else ("box",)
        self.name = "tower" if self.is_tower else choices.one_of(others)
        self.drawing, self.choices = drawing, choices
        self.things = [
            [thing for thing in drawing.things if thing.panel == panel]
            for panel in range(len(drawing.boxes))
        ]
        self._noun = choices.one_of(("block", "item")) if self.is_tower else ""

    def phrase(self, *, general: float) -> Phrase:
        """Describe things; blocks by their color only."""
        phrase = self.choices.phrase(self.drawing, present=0.9, general=general)
        return Phrase(color=phrase.color) if self.is_tower else phrase

    def text(self, phrase: Phrase, *, plural: bool = False) -> str:
        """Return the words of a description."""
        return self.choices.text(phrase, plural=plural, noun=self._noun)

    def counts(self, phrase: Phrase) -> list[int]:
        """Return the number of things that a description fits, in each box."""
        return [sum(map(phrase.fits, things)) for things in self.things]


def boxes(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask what a box or a tower contains."""
    if drawing.layout not in ("panels", "towers"):
        return None
    found = _Boxes(drawing, choices)
    kind = choices.random.random()
    if 0.65 <= kind < 0.75:
        phrase = found.phrase(general=0.1)
        ask = f"how many {pluralize(found.name)} have a {found.text(phrase)}"
        return ask, "", sum(map(bool, found.counts(phrase)))
    if 0.75 <= kind < 0.85 and len(found.things) <= 3:
        return _most(found)
    made: tuple[str, bool] | None
    if kind < 0.3:
        made = _amount(found)
    elif kind < 0.5:
        made = _two_kinds(found)
    elif kind < 0.65:
        made = _only(found)
    else:
        made = _end(found) if found.is_tower else _wall(found)
    return made and (f"is there {made[0]}", f"there is {made[0]}", made[1])


def _amount(found: _Boxes) -> tuple[str, bool]:
    """Say that a box has so many things of a kind."""
    phrase, one_of = found.phrase(general=0.1), found.choices.one_of
    counts = found.counts(phrase)
    said = max(1, one_of(counts) + int(one_of((-1, 0, 0, 1))))
    how = one_of(("exactly ", "at least ", ""))
    amount = str(said) if found.choices.chance(0.4) else NUMBERS[min(said, 10)]
    words = f"a {found.name} with {how}{amount} {found.text(phrase, plural=said > 1)}"
    return words, any(c >= said if how == "at least " else c == said for c in counts)


def _two_kinds(found: _Boxes) -> tuple[str, bool]:
    """Say that a box has things of two kinds."""
    one, two = found.phrase(general=0.1), found.phrase(general=0.0)
    words = f"a {found.name} with a {found.text(one)} and a {found.text(two)}"
    return words, any(
        a != b and one.fits(a) and two.fits(b)
        for things in found.things
        for a in things
        for b in things
    )


def _only(found: _Boxes) -> tuple[str, bool]:
    """Say that a box has things of one kind only."""
    phrase = found.phrase(general=0.1)
    words = f"a {found.name} with only {found.text(phrase, plural=True)}"
    return words, any(things and all(map(phrase.fits, things)) for things in found.things)


def _most(found: _Boxes) -> Made | None:
    """Ask which box has the most things of a kind, or the only ones."""
    phrase = found.phrase(general=0.1)
    counts = found.counts(phrase)
    best, second, *_ = sorted(range(len(counts)), key=lambda panel: -counts[panel])
    if counts[best] == counts[second]:
        return None
    names = ("left", "middle", "right") if len(counts) == 3 else ("left", "right")
    ask = f"which {found.name} has the most {found.text(phrase, plural=True)}"
    if counts[second] == 0 and found.choices.chance(0.5):
        ask = f"which {found.name} contains a {found.text(phrase)}"
    return ask, "", names[best]


def _end(found: _Boxes) -> tuple[str, bool]:
    """Say what is at the top or the base of a tower."""
    phrase, is_top = found.phrase(general=0.1), found.choices.chance(0.5)
    where = "top" if is_top else found.choices.one_of(("base", "bottom"))
    ends = (things[-1 if is_top else 0] for things in found.things if things)
    return f"a tower with a {found.text(phrase)} at the {where}", any(map(phrase.fits, ends))


def _wall(found: _Boxes) -> tuple[str, bool] | None:
    """Say that a thing touches the border of its box; None if that is not clear."""
    phrase, one_of = found.phrase(general=0.1), found.choices.one_of
    meant = list(filter(phrase.fits, found.drawing.things))
    is_true = any(thing.wall for thing in meant)
    if not is_true and any(_may_touch(thing, found.things[thing.panel]) for thing in meant):
        return None
    how, wall = one_of(("touching", "close to")), one_of(("wall", "edge", "side"))
    return f"a {found.text(phrase)} {how} the {wall}", is_true


def _may_touch(thing: DrawnThing, mates: list[DrawnThing]) -> bool:
    """Return whether a thing that was not put at a border may seem to touch it.

    The borders are not nearer than the outermost things of the box.
    """
    close = thing.radius * 0.4
    return (
        thing.x - thing.radius < min(t.x - t.radius for t in mates) + close
        or thing.x + thing.radius > max(t.x + t.radius for t in mates) - close
        or thing.y - thing.radius < min(t.y - t.radius for t in mates) + close
        or thing.y + thing.radius > max(t.y + t.radius for t in mates) - close
    )


def chart(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask about the bars of a chart: the tallest, which of two is taller, how many, how tall."""
    if drawing.layout != "bars":
        return None
    bars, bar = drawing.things, choices.one_of(("bar", "column"))
    one, two = (choices.one_of(bars) for _ in range(2))
    first, second = (choices.word(each.color) for each in (one, two))
    is_up = choices.chance(0.5)
    kind = choices.random.random()
    if kind < 0.35:
        how = choices.one_of(("tallest", "highest", "longest") if is_up else ("shortest", "lowest"))
        ends = sorted(bars, key=lambda thing: thing.radius)
        return f"what color is the {how} {bar}", "", ends[-1 if is_up else 0].color
    if kind < 0.7 and one != two:
        how = choices.one_of(("taller", "higher", "longer") if is_up else ("shorter", "lower"))
        said = f"{how} than the {second} {bar}"
        is_true = (one.radius > two.radius) == is_up
        return f"is the {first} {bar} {said}", f"the {first} {bar} is {said}", is_true
    if kind < 0.85:
        return f"how many {bar}s are there", "", len(bars)
    said = "above half of the height"
    is_true = one.radius * 2 > drawing.size[0] / 2
    return f"is the {first} {bar} {said}", f"the {first} {bar} is {said}", is_true
