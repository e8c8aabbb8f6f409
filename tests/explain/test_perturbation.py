"""Areas and what is left, by hand, by rational numbers and by brute force."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from lxmert.explain.perturbation import SHARES, area_under, keep, number_kept, rank


def test_the_area_of_curves_known_from_school() -> None:
    assert area_under((0, 1), (0.5, 0.5)) == pytest.approx(50)
    assert area_under((0, 1), (1, 0)) == pytest.approx(50)
    # 0.5 * (1 + .5) / 2 + 0.5 * (.5 + 0) / 2
    assert area_under((0, 0.5, 1), (1, 0.5, 0)) == pytest.approx(50)
    # .25 * .9 + .75 * .45
    assert area_under((0, 0.25, 1), (1, 0.8, 0.1)) == pytest.approx(100 * (0.225 + 0.3375))
    assert area_under(SHARES, [1] * 9) == pytest.approx(100)


def test_the_area_is_that_under_straight_lines_at_many_points() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        accuracies = generator.random(9)
        points = (np.arange(100_000) + 0.5) / 100_000
        expected = 100 * np.interp(points, SHARES, accuracies).mean()
        assert area_under(SHARES, accuracies.tolist()) == pytest.approx(expected, abs=1e-4)


def test_as_many_are_kept_as_exact_arithmetic_says() -> None:
    """In floating point, (1 - 0.8) * 5 is 0.99..., and the published code then keeps none of 5."""
    exact = [Fraction(str(share)) for share in SHARES]
    for total in range(101):
        for share, fraction in zip(SHARES, exact, strict=True):
            assert number_kept(total, share) == floor((1 - fraction) * total), (total, share)
    assert [number_kept(5, share) for share in SHARES] == [5, 3, 2, 1, 1, 0, 0, 0, 0]


def test_what_is_left_by_hand() -> None:
    """Of five removable positions 1 to 5, the order of relevance is 3, 1, 5, 2, 4."""
    relevance = np.array([9, 4, -1, 5, -8, 3.25, 9], dtype=np.float32)
    removable = np.array([False, True, True, True, True, True, False])
    kept = keep(relevance, removable, np.random.default_rng(1))
    left = [[np.flatnonzero(mask).tolist() for mask in direction] for direction in kept]
    assert left[0] == [[1, 2, 3, 4, 5], [2, 4, 5], [2, 4], [4], [4], [], [], [], []]
    assert left[1] == [[1, 2, 3, 4, 5], [1, 3, 5], [1, 3], [3], [3], [], [], [], []]


def test_less_is_left_at_each_share_and_directions_keep_opposite_ends() -> None:
    generator = np.random.default_rng(4)
    for _ in range(100):
        length = int(generator.integers(0, 40))
        relevance = generator.normal(size=length).astype(np.float32)
        removable = generator.random(length) < 0.7
        kept = keep(relevance, removable, generator)
        assert kept.shape == (2, 9, length)
        assert not kept[..., ~removable].any()
        assert (kept[:, 0] == removable).all()
        assert not kept[:, -1].any()
        for direction, sign in zip(kept, (-1, 1), strict=True):
            for fewer, more in zip(direction[1:], direction[:-1], strict=True):
                assert not (fewer & ~more).any()
            for mask in direction:
                gone = removable & ~mask
                if gone.any() and mask.any():
                    assert (sign * relevance[mask]).min() >= (sign * relevance[gone]).max()


def test_equals_are_ordered_by_chance_not_by_place() -> None:
    """A stable sort kept the detector's order where a method gives zero to most regions."""
    relevance = np.array([0, 0, 2, 0], dtype=np.float32)
    orders = [rank(relevance, np.random.default_rng(seed)).tolist() for seed in range(200)]
    assert all(order[0] == 2 for order in orders)
    counts = np.bincount([order[1] for order in orders], minlength=4)
    assert counts[[0, 1, 3]].min() > 40
    assert orders[7] == rank(relevance, np.random.default_rng(7)).tolist()
