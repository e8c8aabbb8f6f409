"""The figure of a training run: losses and validation metrics by step."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

_LOG_FROM = 30.0
"""Losses that fall by more than this factor are drawn on a logarithmic scale."""


def draw_curve(
    log: Iterable[Mapping[str, Any]], *, total_steps: int, metric: str, baselines: Sequence[str]
) -> Figure:
    """Draw the losses on the left, and a validation metric with its baselines on the right.

    Args:
        log: the lines of `log.jsonl`, as `RunLog` describes them.
        total_steps: steps of the run, the upper limit of both axes.
        metric: the validation metric.
        baselines: other metrics to compare with; those that were not measured are left out.

    Returns:
        A figure of 1200 x 460 pixels at 100 dots per inch.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses: dict[str, list[tuple[int, float]]] = {}
    metrics: dict[str, list[tuple[int, float]]] = {}
    for line in log:
        for values, found in (("losses", losses), ("metrics", metrics)):
            for name, value in line.get(values, {}).items():
                found.setdefault(name, []).append((line["step"], value))
    for name, points in losses.items():
        left.plot(*zip(*points, strict=True), label=name)
    for name in (metric, *baselines):
        if name in metrics:
            style = "o-" if name == metric else "--"
            right.plot(*zip(*metrics[name], strict=True), style, label=name.replace("_", " "))
    heights = [value for points in losses.values() for _, value in points]
    if heights and max(heights) > _LOG_FROM * min(heights) > 0:
        left.set_yscale("log")
    for axis, title in ((left, "Loss"), (right, "Validation")):
        axis.set(title=title, xlabel="step", xlim=(0, max(1, total_steps)))
        if axis.lines:
            axis.legend()
        axis.grid(alpha=0.3)
    return figure
