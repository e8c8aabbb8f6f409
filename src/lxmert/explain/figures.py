"""A picture of an answer: the image with its regions drawn on it, and what was asked and said."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lxmert.schema import Answer, FloatArray

_SIDE = 720
_PANEL = 300
_MARGIN = 24
_FONT = 16
_STRONG, _WEAK = (255, 196, 0), (150, 160, 175)
_PAPER, _INK, _SOFT = (250, 250, 248), (30, 32, 36), (110, 115, 125)
_BAR = (58, 110, 200)

_PADDING = 4

Rectangle = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

RELEVANT = 0.1
"""Relevance from which a region is drawn as one that the answer rests on."""


def draw_answer(
    pixels: npt.NDArray[np.uint8],
    *,
    question: str,
    answers: Sequence[Answer],
    boxes: FloatArray,
    labels: Sequence[str],
    relevance: Sequence[float],
) -> Image.Image:
    """Draw regions, question and ranked answers.

    Args:
        pixels: `[height, width, 3]` uint8 RGB.
        question: what was asked.
        answers: best first.
        boxes: `[regions, 4]` in pixels of the image.
        labels: name of each region.
        relevance: of each region, in `[-1, 1]`; those of at least `RELEVANT` stand out.

    Returns:
        The drawing, about 720 pixels wide at its image, with a panel on the right.
    """
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    picture = Image.fromarray(pixels).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )
    _draw_regions(picture, boxes * scale, labels, relevance)
    canvas = Image.new("RGB", (picture.width + _PANEL, max(picture.height, 360)), _PAPER)
    canvas.paste(picture, (0, 0))
    _draw_panel(canvas, picture.width + _MARGIN, question, answers)
    return canvas


def _draw_regions(
    picture: Image.Image, boxes: FloatArray, labels: Sequence[str], relevance: Sequence[float]
) -> None:
    """Draw all boxes, then all labels, the most relevant last, so that they lie on top."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_FONT)
    order = np.argsort(relevance).tolist()
    colors = [_STRONG if score >= RELEVANT else _WEAK for score in relevance]
    for index in order:
        width = 4 if colors[index] == _STRONG else 2
        draw.rectangle(tuple(boxes[index].tolist()), outline=colors[index], width=width)
    taken: list[Rectangle] = []
    regions = [tuple(box) for box in boxes.tolist()]
    for index in order:
        spot = _find_spot(draw, font, labels[index], regions[index], taken, regions)
        taken.append(spot)
        draw.rectangle(spot, fill=colors[index])
        left, top, _, _ = draw.textbbox((0, 0), labels[index], font=font)
        place = (spot[0] + _PADDING - left, spot[1] + _PADDING - top)
        draw.text(place, labels[index], fill=_INK, font=font)


def _find_spot(
    draw: ImageDraw.ImageDraw,
    font: Font,
    text: str,
    box: Rectangle,
    labels: Sequence[Rectangle],
    boxes: Sequence[Rectangle],
) -> Rectangle:
    """Find where a label hides least: above, below or inside its box, at its left or right side.

    Covering another label counts ten times as much as covering a region.
    """
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * _PADDING, bottom - top + 2 * _PADDING
    x1, y1, x2, y2 = box
    rightmost, lowest = draw.im.size[0] - width, draw.im.size[1] - height
    spots = [
        (x, y, x + width, y + height)
        for y in (y1 - height, y2, y1 + 2, y2 - height - 2)
        for x in (min(max(x1, 0), rightmost), max(min(x2, draw.im.size[0]) - width, 0))
        if 0 <= y <= lowest
    ]
    spots = spots or [(max(min(x1, rightmost), 0), 0, max(min(x1, rightmost), 0) + width, height)]
    return min(
        spots,
        key=lambda spot: (
            10 * sum(_overlap(spot, label) for label in labels)
            + sum(_overlap(spot, region) for region in boxes)
        ),
    )


def _overlap(first: Rectangle, second: Rectangle) -> float:
    """Return the area that two rectangles share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def _draw_panel(canvas: Image.Image, x: int, question: str, answers: Sequence[Answer]) -> None:
    """Write the question and draw the answers as bars."""
    draw = ImageDraw.Draw(canvas)
    large, small = ImageFont.load_default(22), ImageFont.load_default(_FONT)
    width = canvas.width - x - _MARGIN
    y = _MARGIN
    for line in _wrap(draw, question, large, width):
        draw.text((x, y), line, fill=_INK, font=large)
        y += 30
    y += 18
    for rank, answer in enumerate(answers):
        if y > canvas.height - 100:
            break
        draw.text((x, y), answer.answer, fill=_INK if rank == 0 else _SOFT, font=small)
        percent = f"{answer.score:.0%}" if answer.score >= 0.005 else "<1%"
        draw.text((x + width - draw.textlength(percent, small), y), percent, fill=_SOFT, font=small)
        draw.rectangle((x, y + 24, x + width, y + 30), fill=(228, 230, 234))
        draw.rectangle((x, y + 24, x + max(2, width * answer.score), y + 30), fill=_BAR)
        y += 46
    note = "Yellow: regions the answer rests on; without one, the answer is less probable."
    for offset, line in enumerate(_wrap(draw, note, ImageFont.load_default(13), width)):
        place = (x, canvas.height - 60 + 18 * offset)
        draw.text(place, line, fill=_SOFT, font=ImageFont.load_default(13))


def _wrap(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: Font,
    width: float,
) -> list[str]:
    """Break a text into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
