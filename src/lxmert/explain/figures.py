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
        (round(width * scale), round(height * scale)), Image.Resampling.LANCZOS
    )
    _draw_regions(picture, boxes * scale, labels, relevance)
    canvas = Image.new("RGB", (picture.width + _PANEL, max(picture.height, 360)), _PAPER)
    canvas.paste(picture, (0, 0))
    _draw_panel(canvas, picture.width + _MARGIN, question, answers)
    return canvas


def _draw_regions(
    picture: Image.Image, boxes: FloatArray, labels: Sequence[str], relevance: Sequence[float]
) -> None:
    """Draw boxes and labels, the most relevant last, so that they lie on top."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_FONT)
    taken: list[tuple[float, float, float, float]] = []
    for index in np.argsort(relevance):
        x1, y1, x2, y2 = (float(side) for side in boxes[index])
        strong = relevance[index] >= RELEVANT
        color = _STRONG if strong else _WEAK
        draw.rectangle((x1, y1, x2, y2), outline=color, width=4 if strong else 2)
        _draw_label(draw, font, labels[index], (x1, y1, x2, y2), color, taken)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    box: tuple[float, float, float, float],
    color: tuple[int, int, int],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Put a label where it fits: above its box, below it, or inside; clear of other labels."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 8, bottom - top + 8
    x = min(max(box[0], 0), draw.im.size[0] - width)
    places = [box[1] - height, box[3], box[1] + 2, box[3] - height - 2]
    spots = [(x, y, x + width, y + height) for y in places]
    inside = [s for s in spots if s[1] >= 0 and s[3] <= draw.im.size[1]] or spots
    spot = next((s for s in inside if not any(_overlap(s, t) for t in taken)), inside[0])
    taken.append(spot)
    draw.rectangle(spot, fill=color)
    draw.text((spot[0] + 4 - left, spot[1] + 4 - top), text, fill=_INK, font=font)


def _overlap(
    first: tuple[float, float, float, float], second: tuple[float, float, float, float]
) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


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
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
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
