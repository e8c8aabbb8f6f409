"""Every caption is true of its image, read back by its words."""

from collections import Counter

import numpy as np

from lxmert.lab.scenes.captions import caption

from .reading import read, read_all
from .scenes import is_beside, make_scenes, rows_of, select

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
SIDES = {"left": "left", "right": "right", "front": "front", "nearer": "front",
         "behind": "behind", "farther": "behind"}  # fmt: skip


def test_captions_are_true() -> None:
    generator = np.random.default_rng(4)
    kinds: Counter[str] = Counter()
    for scene in make_scenes(150):
        rows = rows_of(scene.things)
        for _ in range(3):
            text = caption(scene.things, generator)
            for frame in ("an image of ", "we see ", "look at "):
                text = text.removeprefix(frame)
            text = text.removesuffix(" on a table")
            side = [SIDES[word] for word in SIDES if word in text.split()]
            if side or "of the same" in text:
                firsts, seconds = (select(["find", d], rows) for d in read_all(text))
                aspect = text.split()[-1]
                kinds["placed" if side else "shared"] += 1
                assert any(
                    is_beside(rows[a], side[0], rows[b])
                    if side
                    else a != b and rows[a][aspect] == rows[b][aspect]
                    for a in firsts
                    for b in seconds
                ), text
                continue
            kinds["listed"] += 1
            reported: list[int] = []
            for part in text.replace(" and ", ", ").split(", "):
                first = part.split()[0]
                expected = 1 if first in ("a", "an") else NUMBERS[first]
                group = select(["find", read(part)], rows)
                assert len(group) == expected, (text, part)
                reported += group
            # Groups were drawn one by one: "four metallic objects and four metal items" of four.
            assert len(reported) == len(set(reported)), text
    assert min(kinds[kind] for kind in ("listed", "placed", "shared")) >= 20


def test_an_empty_table_can_be_captioned() -> None:
    assert "empty table" in caption([], np.random.default_rng(4))
