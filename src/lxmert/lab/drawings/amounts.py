"""Questions about how many things there are, and which of them are alike."""

from lxmert.lab.drawings.drawing import Drawing
from lxmert.lab.drawings.phrases import NOUNS, NUMBERS, Choices, Made, pluralize


def how_many(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask for the number of things of a kind."""
    wanted = choices.phrase(drawing, present=0.85, general=0.15)
    text = choices.text(wanted, plural=True)
    asks = (
        f"how many {text} are there",
        f"how many {text} are in the {choices.image()}",
        f"what is the number of {text}",
        f"count the {text}",
    )
    return choices.one_of(asks), "", wanted.count(drawing)


def number(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether there are so many things of a kind, exactly, at least, ..."""
    wanted = choices.phrase(drawing, present=0.9)
    counted = wanted.count(drawing)
    said = max(1, counted + int(choices.one_of((-1, 0, 0, 1))))
    how = choices.one_of(("exactly", "exactly", "at least", "at most", "more than"))
    truth = {
        "exactly": counted == said,
        "at least": counted >= said,
        "at most": counted <= said,
        "more than": counted > said,
    }[how]
    digits = choices.chance(0.4) or said >= len(NUMBERS)
    amount = str(said) if digits else NUMBERS[said]
    text, be = choices.text(wanted, plural=said > 1), "are" if said > 1 else "is"
    how = "" if how == "exactly" and choices.chance(0.3) else how + " "
    return f"{be} there {how}{amount} {text}", f"there {be} {how}{amount} {text}", truth


def more(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether there are more things of one kind than of another."""
    first, second = (choices.phrase(drawing, present=0.8, general=0) for _ in range(2))
    if first == second or drawing.layout == "bars":
        return None
    a, b = first.count(drawing), second.count(drawing)
    one, two = choices.text(first, plural=True), choices.text(second, plural=True)
    how = choices.one_of(("more", "more", "fewer", "as many"))
    if how == "as many":
        said = f"as many {one} as {two}"
        return f"are there {said}", f"there are {said}", a == b
    said = f"{how} {one} than {two}"
    return f"are there {said}", f"there are {said}", a > b if how == "more" else a < b


def same(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether two things share an attribute, or how many share one with a thing."""
    one, name = choices.unique(drawing), choices.one_of(("color", "shape"))
    if one is None or drawing.layout in ("bars", "towers"):
        return None
    value, text = getattr(one[1], name), choices.text(one[0])
    others = [thing for thing in drawing.things if thing != one[1]]
    if choices.chance(0.5):
        alike = sum(getattr(other, name) == value for other in others)
        noun = choices.one_of(NOUNS) + "s"
        if choices.chance(0.5):
            return f"how many other {noun} have the same {name} as the {text}", "", alike
        return f"how many {noun} have the {name} of the {text}", "", alike + 1
    two = choices.unique(drawing)
    if two is None or two[1] == one[1]:
        return None
    other = choices.text(two[0])
    return (
        f"do the {text} and the {other} have the same {name}",
        f"the {text} has the same {name} as the {other}",
        getattr(two[1], name) == value,
    )


def every(drawing: Drawing, choices: Choices) -> Made | None:
    """Ask whether all things of a kind have an attribute."""
    wanted = choices.phrase(drawing, present=1.0, general=0.15)
    name = choices.one_of(("color", "shape"))
    if getattr(wanted, name):
        return None
    values = [getattr(thing, name) for thing in drawing.things if wanted.fits(thing)]
    if len(values) < 2:
        return None
    text = choices.text(wanted, plural=True)
    if choices.chance(0.4):
        said, truth = f"the same {name}", len(set(values)) == 1
        return f"do all {text} have {said}", f"all {text} have {said}", truth
    value = choices.one_of(values)
    said = choices.word(value)
    said = said if name == "color" else pluralize(said)
    truth = set(values) == {value}
    all_ = choices.one_of(("all", "all the"))
    return f"are {all_} {text} {said}", f"{all_} {text} are {said}", truth
