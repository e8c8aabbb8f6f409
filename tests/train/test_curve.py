"""The image of a run: round ticks, labels apart, lines where they belong."""

import numpy as np
import pytest

from lxmert.train.curve import apart, draw_curve, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 6000, [0, 2000, 4000, 6000]),
        (0, 3000, [0, 1000, 2000, 3000]),
        (0.34, 1.02, [0.4, 0.6, 0.8, 1.0]),
        (-0.07, 0.11, [-0.05, 0.0, 0.05, 0.1]),
        (7, 7, [7]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_ticks_are_few_and_inside(seed):
    low, span = np.random.default_rng(seed).uniform([-9, 1e-4], [9, 9]).tolist()
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 6
    assert low - 1e-6 <= found[0] <= found[-1] <= low + span + 1e-6


def test_labels_keep_a_distance_and_their_order():
    assert apart([3, 50, 1, 2], 5, lowest=99) == [11, 50, 1, 6]
    assert apart([90, 91], 10, lowest=95) == [85, 95]


def colored(image, color):
    pixels = np.asarray(image).astype(int)
    near = np.abs(pixels - color).max(axis=-1) < 40
    return np.argwhere(near)  # (y, x)


def test_a_falling_loss_goes_down_on_the_left_and_a_rising_score_up_on_the_right():
    log = [{"step": step, "losses": {"qa": 3 - step / 50}} for step in range(10, 101, 10)]
    log += [{"step": step, "metrics": {"score": step / 100, "mark": 0.25}} for step in (50, 100)]
    image = draw_curve(log, total_steps=100, best_metric="score", marks=("mark", "absent"))
    assert image.size == (1200, 460)
    blue = colored(image, (58, 110, 200))
    for half, falls in ((blue[blue[:, 1] < 480], True), (blue[blue[:, 1] > 660], False)):
        # Without the labels, which stand behind the end of the axes.
        line = half[half[:, 1] < half[:, 1].min() + 300]
        start, end = line[line[:, 1].argmin(), 0], line[line[:, 1].argmax(), 0]
        assert (end > start) == falls


def test_a_run_without_validation_says_so():
    log = [{"step": 3, "losses": {"qa": 0.25}}]
    with_one = draw_curve(log, total_steps=3, best_metric="score", marks=())
    assert len(colored(with_one, (58, 110, 200))) > 10
    nothing = draw_curve([], total_steps=3, best_metric="score", marks=())
    assert len(colored(nothing, (58, 110, 200))) == 0
