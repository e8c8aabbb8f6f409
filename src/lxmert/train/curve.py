"""The image of a training run: its losses, and what the validation split says, over the steps."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Points = list[tuple[float, float]]
"""(step, value) in the order of the steps."""

_SCALE = 2
"""The image is drawn larger and then reduced, which makes lines smooth."""

_WIDTH, _HEIGHT, _GAP = 1200, 460, 20
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 112, 52, 44
_FONT, _TITLE = 14, 17
_PAPER, _INK, _SOFT, _GRID = (250, 250, 248), (30, 32, 36), (110, 115, 125), (226, 227, 230)
_COLORS = ((58, 110, 200), (214, 96, 40), (44, 140, 90), (150, 80, 170), (120, 120, 30))
_MOST_TICKS = 5
_LOG_FROM = 30.0
"""Losses that fall by more than this factor are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Line:
    """A line of a panel.

    Attributes:
        name: written at its end.
        points: where it goes through; none of them infinite.
        dashed: whether it is a mark to compare with.
    """

    name: str
    points: Points
    dashed: bool = False


def draw_curve(
    log: Iterable[Mapping[str, Any]], *, total_steps: int, best_metric: str, marks: Sequence[str]
) -> Image.Image:
    """Draw the losses on the left and a metric of the validation split on the right.

    Args:
        log: the lines of `log.jsonl`, as `Report` describes them.
        total_steps: steps of the run, where the axes end.
        best_metric: the metric to draw.
        marks: other metrics to draw as marks to compare with, where they are there.

    Returns:
        1200 x 460 pixels.
    """
    losses: dict[str, Points] = {}
    metrics: dict[str, Points] = {}
    for line in log:
        for name, value in line.get("losses", {}).items():
            losses.setdefault(name, []).append((line["step"], value))
        for name, value in line.get("metrics", {}).items():
            metrics.setdefault(name, []).append((line["step"], value))
    left = [Line(name, points) for name, points in losses.items()]
    names = [name for name in (best_metric, *marks) if name in metrics]
    right = [Line(name, metrics[name], dashed=name != best_metric) for name in names]
    canvas = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), _PAPER)
    width = (_WIDTH - _GAP) // 2
    _Panel(canvas, 0, width, total_steps).draw("loss by step", left, log_scale=_falls_far(left))
    right_start = width + _GAP
    _Panel(canvas, right_start, width, total_steps).draw("validation by step", right)
    return canvas.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)


def _falls_far(lines: Sequence[Line]) -> bool:
    values = [value for line in lines for _, value in line.points]
    return bool(values) and min(values) > 0 and max(values) > _LOG_FROM * min(values)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high`, at most six, the steps between them 1, 2 or 5."""
    span = high - low
    if span <= 0:
        return [low]
    size = 10.0 ** math.floor(math.log10(span))
    steps = [size * factor for factor in (0.1, 0.2, 0.5, 1, 2, 5)]
    step = next(step for step in steps if span / step <= _MOST_TICKS)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


class _Panel:
    """A pair of axes on a part of the canvas."""

    def __init__(self, canvas: Image.Image, left: int, width: int, total_steps: int) -> None:
        self._pen = ImageDraw.Draw(canvas)
        self._font = ImageFont.load_default(_FONT * _SCALE)
        self._title_font = ImageFont.load_default(_TITLE * _SCALE)
        self._x = left + _LEFT, left + width - _RIGHT
        self._y = _HEIGHT - _BOTTOM, _TOP
        self._steps = max(1, total_steps)
        self._range = 0.0, 1.0
        self._log_scale = False

    def draw(self, title: str, lines: Sequence[Line], *, log_scale: bool = False) -> None:
        """Draw everything."""
        self._text((self._x[0], 16), title, _INK, self._title_font, "la")
        values = [value for line in lines for _, value in line.points]
        if not values:
            self._text((self._x[0], self._y[1]), "nothing was measured", _SOFT, self._font, "la")
            return
        self._log_scale = log_scale
        low, high = min(map(self._scaled, values)), max(map(self._scaled, values))
        room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        self._range = low - room, high + room
        self._axes()
        ends = apart(
            [self._place(*line.points[-1])[1] for line in lines], _FONT + 3, lowest=self._y[0] - 6
        )
        for number, (line, end) in enumerate(zip(lines, ends, strict=True)):
            color = _SOFT if line.dashed else _COLORS[number % len(_COLORS)]
            self._line(line, color)
            self._text((self._x[1] + 8, end), _shorten(line.name), color, self._font, "lm")

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._log_scale else value

    def _place(self, step: float, value: float) -> tuple[float, float]:
        """Return where a point lies on the image, before it is enlarged."""
        (left, right), (bottom, top), (low, high) = self._x, self._y, self._range
        across, up = step / self._steps, (self._scaled(value) - low) / (high - low)
        return left + across * (right - left), bottom + up * (top - bottom)

    def _axes(self) -> None:
        low, high = self._range
        marks = [10.0**tick if self._log_scale else tick for tick in ticks(low, high)]
        for mark in marks:
            y = self._place(0, mark)[1]
            self._stroke([(self._x[0], y), (self._x[1], y)], _GRID, 1)
            self._text((self._x[0] - 8, y), f"{mark:.3g}", _SOFT, self._font, "rm")
        for step in ticks(0, self._steps):
            x = self._place(step, marks[0])[0]
            self._text((x, self._y[0] + 10), f"{step:,.0f}", _SOFT, self._font, "ma")
        self._stroke([(self._x[0], self._y[0]), (self._x[1], self._y[0])], _SOFT, 1)

    def _line(self, line: Line, color: tuple[int, int, int]) -> None:
        points = [self._place(*point) for point in line.points]
        if line.dashed:
            (left, right), y = self._x, points[-1][1]
            for start in range(int(left), int(right), 12):
                self._stroke([(start, y), (min(start + 6, right), y)], color, 1.5)
            return
        if len(points) > 1:
            self._stroke(points, color, 2)
        for x, y in points if len(points) <= 40 else points[-1:]:
            self._dot(x, y, color)

    def _stroke(self, points: Points, color: tuple[int, int, int], width: float) -> None:
        enlarged = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._pen.line(enlarged, fill=color, width=round(width * _SCALE), joint="curve")

    def _dot(self, x: float, y: float, color: tuple[int, int, int]) -> None:
        box = [(x - 2.5) * _SCALE, (y - 2.5) * _SCALE, (x + 2.5) * _SCALE, (y + 2.5) * _SCALE]
        self._pen.ellipse(box, fill=color)

    def _text(
        self, place: tuple[float, float], text: str, color: tuple[int, int, int], font: Any, at: str
    ) -> None:
        self._pen.text((place[0] * _SCALE, place[1] * _SCALE), text, color, font, anchor=at)


def apart(places: Sequence[float], distance: float, *, lowest: float) -> list[float]:
    """Move places until no two are closer than a distance, and none is below `lowest`."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, index in pairwise(order):
        moved[index] = max(places[index], moved[before] + distance)
    limit = lowest
    for index in reversed(order):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - distance
    return moved


def _shorten(name: str) -> str:
    text = name.replace("_", " ")
    return text if len(text) <= 14 else f"{text[:13]}…"
