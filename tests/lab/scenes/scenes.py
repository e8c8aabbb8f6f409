"""Scenes for the tests of texts, and a second way to answer programs, by brute force over files.

`judge` reads a program as it stands in a file, and knows objects as their annotations in
`objects.json`: it shares no code with the generator of the questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lxmert.lab.scenes.descriptions import Scene, Thing
from lxmert.lab.scenes.image import (
    MAX_OBJECTS,
    MIN_OBJECTS,
    SPLITS,
    VisibleObject,
    draw_scene,
    look,
)

Row = Mapping[str, Any]


def make_scenes(count: int, *, split: str = "train", seed: int = 4) -> list[Scene]:
    return [
        Scene(tuple(item.as_thing() for item in see_objects(split, i, seed=seed)), SPLITS[split])
        for i in range(count)
    ]


def see_objects(split: str, index: int, *, seed: int) -> tuple[VisibleObject, ...]:
    """Return the objects of an image without rendering it."""
    _, objects, hits, _ = draw_scene(split, index, seed, MIN_OBJECTS, MAX_OBJECTS)
    return look(objects, hits)


def rows_of(things: Sequence[Thing]) -> list[Row]:
    return [vars(thing) for thing in things]


def judge(program: Sequence[Any], rows: Sequence[Row]) -> str:
    """Answer a program about an image."""
    match program:
        case ["query", aspect, of]:
            chosen = select(of, rows)
            assert len(chosen) == 1, (program, chosen)
            return str(rows[chosen[0]][aspect])
        case ["count", of]:
            return str(len(select(of, rows)))
        case ["exist", of]:
            return "yes" if select(of, rows) else "no"
        case ["where", parts, of]:
            (i,) = select(of, rows)
            true = [part for part in parts if is_within(rows[i], part)]
            assert len(true) == 1, program
            return str(true[0])
        case ["within", part, of]:
            (i,) = select(of, rows)
            return "yes" if is_within(rows[i], part) else "no"
        case ["choose", sides, first, second]:
            (a,), (b,) = select(first, rows), select(second, rows)
            true = [side for side in sides if is_beside(rows[a], side, rows[b])]
            assert len(true) == 1, program
            return str(true[0])
        case ["lies", side, first, second]:
            (a,), (b,) = select(first, rows), select(second, rows)
            return "yes" if is_beside(rows[a], side, rows[b]) else "no"
        case ["same" | "different" as kind, aspect, first, second]:
            (a,), (b,) = select(first, rows), select(second, rows)
            return "yes" if (rows[a][aspect] == rows[b][aspect]) == (kind == "same") else "no"
        case ["share", aspect, first, second]:
            values = {rows[i][aspect] for i in [*select(first, rows), *select(second, rows)]}
            return values.pop() if len(values) == 1 else "none"
        case ["compare", how, first, second]:
            more = len(select(first, rows)) - len(select(second, rows))
            return (
                "yes" if {"more": more > 0, "fewer": more < 0, "equally": more == 0}[how] else "no"
            )
    raise AssertionError(program)


def select(program: Sequence[Any], rows: Sequence[Row]) -> list[int]:
    """Return the numbers of the objects that a part of a program means."""
    match program:
        case ["find", wanted]:
            return [i for i, row in enumerate(rows) if wanted.items() <= row.items()]
        case ["beside", side, of, wanted]:
            (landmark,) = select(of, rows)
            found = select(["find", wanted], rows)
            return [i for i in found if is_beside(rows[i], side, rows[landmark])]
        case ["alike", aspect, of, wanted]:
            (landmark,) = select(of, rows)
            found = select(["find", wanted], rows)
            return [i for i in found if i != landmark and rows[i][aspect] == rows[landmark][aspect]]
    raise AssertionError(program)


def is_beside(row: Row, side: str, other: Row) -> bool:
    return {
        "left": row["across"] < other["across"],
        "right": row["across"] > other["across"],
        "front": row["depth"] < other["depth"],
        "behind": row["depth"] > other["depth"],
    }[side]


def is_within(row: Row, part: str) -> bool:
    return {
        "left": row["across"] < 80,
        "right": row["across"] > 80,
        "front": row["depth"] < 0,
        "back": row["depth"] > 0,
    }[part]


def judge_pair(program: Sequence[Any], left: Sequence[Row], right: Sequence[Row]) -> bool:
    """Tell whether a statement is true of two images."""
    *_, find_left, find_right = program
    here, there = len(select(find_left, left)), len(select(find_right, right))
    match program:
        case ["shows", which, _, _]:
            shown = [here > 0, there > 0]
            outcomes = {"both": all(shown), "either": any(shown), "neither": not any(shown)}
            return outcomes.get(which, shown[0] != shown[1])
        case ["total", how, number, _, _]:
            more = here + there - number
            return {"exactly": more == 0, "at least": more >= 0, "at most": more <= 0}[how]
        case ["sides", how, side, _, _]:
            more = here - there if side == "left" else there - here
            return {"more": more > 0, "fewer": more < 0, "equally": more == 0}[how]
        case ["each", _, _]:
            return here > 0 and there > 0
    raise AssertionError(program)
