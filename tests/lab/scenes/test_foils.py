"""Every caption is true and every foil false of its image, read back by their words."""

from collections import Counter

import numpy as np
import pytest

from lxmert.lab.scenes.foils import PHENOMENA, make_foils
from lxmert.lab.scenes.vocabulary import HELD_OUT, NUMBERS

from .reading import read, read_all
from .scenes import is_beside, make_scenes, rows_of, select
from .test_captions import SIDES


def holds(text: str, rows) -> bool:  # type: ignore[no-untyped-def]
    """Judge a text by its words, without the generator's own functions."""
    words = text.split()
    if words[0] == "the":
        (first,), (second,) = (select(["find", d], rows) for d in read_all(text))
        (side,) = [SIDES[word] for word in SIDES if word in words]
        return is_beside(rows[first], side, rows[second])
    found = len(select(["find", read(text)], rows))
    return found == NUMBERS.index(words[3]) if words[2] == "exactly" else found >= 1


@pytest.fixture(scope="module")
def made():  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(4)
    return [(scene, make_foils(scene, generator)) for scene in make_scenes(250)]


def test_captions_are_true_and_foils_false(made) -> None:  # type: ignore[no-untyped-def]
    kinds: Counter[str] = Counter()
    for scene, foils in made:
        rows = rows_of(scene.things)
        for phenomenon, caption, foil in foils:
            kinds[phenomenon] += 1
            assert holds(caption, rows), (phenomenon, caption)
            assert not holds(foil, rows), (phenomenon, foil)
            if phenomenon in ("color", "existence"):
                assert len(set(caption.split()) ^ set(foil.split())) <= 6
    assert set(kinds) == set(PHENOMENA)
    assert min(kinds.values()) >= 100


def test_a_text_alone_does_not_tell_whether_it_is_true(made) -> None:  # type: ignore[no-untyped-def]
    """Naive Bayes over words, trained on half of the scenes, is near chance on the rest."""
    half = len(made) // 2
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for _, foils in made[:half]:
        for _, caption, foil in foils:
            counts[True].update(caption.split())
            counts[False].update(foil.split())
    totals = {truth: sum(counter.values()) + 200 for truth, counter in counts.items()}

    def score(text: str) -> float:
        return sum(
            np.log((counts[True][word] + 1) / totals[True])
            - np.log((counts[False][word] + 1) / totals[False])
            for word in text.split()
        )

    wins = [score(c) > score(f) for _, foils in made[half:] for _, c, f in foils]
    assert np.mean(wins) < 0.62


def test_reserved_pairs_of_color_and_name_are_not_mentioned(made) -> None:  # type: ignore[no-untyped-def]
    for _, foils in made:
        for _, *texts in foils:
            for text in texts:
                for description in read_all(text):
                    pair = (description.get("color"), description.get("name"))
                    assert pair not in HELD_OUT
