"""Worlds of charts and plans: bars on an axis, rooms with doors."""

from itertools import combinations
from random import Random

from PIL import Image, ImageDraw, ImageFont

from lxmert.lab.worlds.drawing import COLORS, QA, SHAPES, WorldImage, ask, paint

_TOP, _UNIT, _BASE = 10, 11, 130
_ROOMS = ("kitchen", "bedroom", "bathroom", "office", "hall", "nursery")
_FLOORS = ((250, 225, 190), (205, 215, 245), (190, 235, 235), (220, 240, 200), (240, 240, 225),
           (250, 210, 225))  # fmt: skip
_CORNERS = {"top left": (0, 1), "top right": (2, 1), "bottom left": (0, 3), "bottom right": (2, 3)}
"""Corner -> the sides of a room that are those of the flat."""
_MARGIN, _CELL = 8, 32

Room = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in cells."""


def bars(rng: Random) -> WorldImage:
    """Draw a bar chart of three to six colors with values from 1 to 10."""
    colors = rng.sample(list(COLORS), rng.randint(3, 6))
    values = {color: rng.randint(1, _TOP) for color in colors}
    image = Image.new("RGB", (180, 140), (255, 255, 255))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(10)
    for value in range(0, _TOP + 1, 2):
        y = _BASE - value * _UNIT
        draw.line((24, y, 176, y), fill=(205, 205, 205) if value else (0, 0, 0))
        draw.text((18, y), str(value), fill=(0, 0, 0), font=font, anchor="rm")
    width = rng.randint(10, 20)
    for number, color in enumerate(colors):
        x = 30 + number * 24
        draw.rectangle((x, _BASE - values[color] * _UNIT, x + width, _BASE - 1), fill=COLORS[color])
    return WorldImage(image, {"bars": values}, _about_bars(rng, values))


def _about_bars(rng: Random, values: dict[str, int]) -> list[QA]:
    order = sorted(values, key=lambda color: values[color])
    phrasings = "how many bars are there?|how many bars does the chart have?"
    questions = [ask(rng, "count", phrasings, len(values))]
    for limit in range(2, 10):
        above = sum(value > limit for value in values.values())
        phrasings = "how many bars are higher than {0}?|how many exceed {0}?"
        questions.append(ask(rng, "above", phrasings, above, limit))
    ends = (("highest", order[-1], order[-2]), ("lowest", order[0], order[1]))
    for word, color, second in ends:
        if values[color] != values[second]:
            phrasings = "which color is the {0} bar?|what color has the {0} value?"
            questions.append(ask(rng, "end", phrasings, color, word))
    for color, value in values.items():
        phrasings = "what is the value of the {0} bar?|how high is {0}?"
        questions.append(ask(rng, "value", phrasings, value, color))
    for pair in rng.sample(list(combinations(values, 2)), 3):
        one, other = rng.sample(pair, 2)
        phrasings = "is the {0} bar higher than the {1} one?|is {0} more than {1}?"
        is_higher = values[one] > values[other]
        questions.append(ask(rng, "higher", phrasings, is_higher, one, other))
    return questions


def floor_plan(rng: Random) -> WorldImage:
    """Draw a flat of three to six rooms with doors in some of the walls between them."""
    areas = _split(rng, rng.randint(3, 6))
    rooms = dict(zip(rng.sample(_ROOMS, len(areas)), areas, strict=True))
    image = Image.new("RGB", (2 * _MARGIN + 5 * _CELL,) * 2, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for name, area in rooms.items():
        x1, y1, x2, y2 = (_MARGIN + _CELL * value for value in area)
        kind = _ROOMS.index(name)
        draw.rectangle((x1, y1, x2, y2), fill=_FLOORS[kind], outline=(40, 40, 40), width=3)
        x, y = rng.randint(x1 + 8, x2 - 20), rng.randint(y1 + 8, y2 - 20)
        paint(image, SHAPES[kind], (90, 90, 90), (x, y, x + 12, y + 12))
    doors = []
    for one, other in combinations(rooms, 2):
        wall = _shared(rooms[one], rooms[other])
        if wall and rng.random() < 0.5:
            doors.append((one, other))
            x, y = (_MARGIN + round(_CELL * value) for value in wall)
            draw.rectangle((x - 6, y - 6, x + 6, y + 6), fill=(170, 95, 30))
    scene = {"rooms": rooms, "doors": doors}
    return WorldImage(image, scene, _about_rooms(rng, rooms, doors))


def _split(rng: Random, count: int) -> list[Room]:
    """Cut a square of five by five cells into rooms, the largest of them each time."""
    rooms = [(0, 0, 5, 5)]
    while len(rooms) < count:
        x1, y1, x2, y2 = rooms.pop(max(range(len(rooms)), key=lambda i: _area(rooms[i])))
        if x2 - x1 > y2 - y1 or (x2 - x1 == y2 - y1 and rng.random() < 0.5):
            cut = rng.randint(x1 + 1, x2 - 1)
            rooms += [(x1, y1, cut, y2), (cut, y1, x2, y2)]
        else:
            cut = rng.randint(y1 + 1, y2 - 1)
            rooms += [(x1, y1, x2, cut), (x1, cut, x2, y2)]
    return rooms


def _area(room: Room) -> int:
    return (room[2] - room[0]) * (room[3] - room[1])


def _shared(one: Room, other: Room) -> tuple[float, float] | None:
    """Return the middle of the wall between two rooms, in cells."""
    low = [max(one[axis], other[axis]) for axis in (0, 1)]
    high = [min(one[axis + 2], other[axis + 2]) for axis in (0, 1)]
    lengths = [high[axis] - low[axis] for axis in (0, 1)]
    if min(lengths) != 0 or max(lengths) < 1:
        return None
    return (low[0] + high[0]) / 2, (low[1] + high[1]) / 2


def _about_rooms(rng: Random, rooms: dict[str, Room], doors: list[tuple[str, str]]) -> list[QA]:
    phrasings = "how many rooms are there?|how many rooms does the flat have?"
    questions = [ask(rng, "count", phrasings, len(rooms))]
    order = sorted(rooms, key=lambda name: _area(rooms[name]))
    if _area(rooms[order[-1]]) > _area(rooms[order[-2]]):
        phrasings = "which room is the largest?|what is the biggest room?"
        questions.append(ask(rng, "largest", phrasings, order[-1]))
    for corner, sides in _CORNERS.items():
        name = next(n for n, area in rooms.items() if all(area[s] == (0, 5)[s > 1] for s in sides))
        phrasings = "which room is in the {0} corner?|what is at the {0}?"
        questions.append(ask(rng, "corner", phrasings, name, corner))
    for name in rooms:
        number = sum(name in door for door in doors)
        phrasings = "how many doors does the {0} have?|how many doors lead to the {0}?"
        questions.append(ask(rng, "doors", phrasings, number, name))
    for name in _ROOMS:
        phrasings = "is there a {0}?|does the flat have a {0}?"
        questions.append(ask(rng, "exists", phrasings, name in rooms, name))
    for one, other in combinations(rooms, 2):
        phrasings = (
            "is there a door between the {0} and the {1}?|"
            "can one go from the {0} straight to the {1}?"
        )
        meaning = ("joined", *sorted((one, other)))
        is_joined = (one, other) in doors
        questions.append(ask(rng, "joined", phrasings, is_joined, one, other, meaning=meaning))
    return questions
