"""The figure of a run: losses on the left, the validation metric and its baselines on the right."""

import pytest

from lxmert.train.curve import draw_curve


def test_losses_and_metrics_are_drawn_by_step():
    log = [{"step": step, "losses": {"qa": 3 - step / 50}} for step in (50, 100)]
    log += [{"step": step, "metrics": {"score": step / 100, "base": 0.25}} for step in (50, 100)]
    figure = draw_curve(log, total_steps=100, metric="score", baselines=("base", "absent"))
    assert tuple(figure.get_size_inches() * 100) == pytest.approx((1200, 460))
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["qa"]
    assert left.lines[0].get_ydata() == pytest.approx([2, 1])
    assert [line.get_label() for line in right.lines] == ["score", "base"]
    assert right.lines[0].get_xdata() == pytest.approx([50, 100])
    assert left.get_xlim() == right.get_xlim() == (0, 100)


@pytest.mark.parametrize(("end", "scale"), [(1.0, "linear"), (0.01, "log"), (-1.0, "linear")])
def test_losses_that_fall_far_are_drawn_on_a_logarithmic_scale(end, scale):
    log = [{"step": 1, "losses": {"qa": 3.0}}, {"step": 2, "losses": {"qa": end}}]
    figure = draw_curve(log, total_steps=2, metric="score", baselines=())
    assert figure.axes[0].get_yscale() == scale


def test_an_empty_log_gives_empty_axes():
    figure = draw_curve([], total_steps=3, metric="score", baselines=())
    assert [len(axis.lines) for axis in figure.axes] == [0, 0]
