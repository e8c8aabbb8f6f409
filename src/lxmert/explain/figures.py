"""Draws regions, and answers with the question and the relevant regions, using Pillow."""

import colorsys
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lxmert.explain.cells import are_cells
from lxmert.explain.text import percent, printable
from lxmert.files import write_bytes
from lxmert.schema import Answer, FloatArray

_SIDE = 720
_PANEL = 300
_MARGIN = 24
_FONT = 16
_STRONG, _WEAK = (255, 196, 0), (150, 160, 175)
_PAPER, _INK, _SOFT = (250, 250, 248), (30, 32, 36), (110, 115, 125)
_BAR = (58, 110, 200)

_PADDING = 4
_SMALLEST_FONT = 8

_LARGE_SIDE, _SMALL_FONT, _SMALL_PADDING = 1200, 14, 2
"""Size of the drawing of all regions, in pixels."""

Rectangle = tuple[float, float, float, float]
Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

RELEVANT = 0.1
"""Relevance from which a region is highlighted."""


def encode_image(image: Image.Image, suffix: str, **settings: object) -> bytes:
    """Return an image as the bytes of a file.

    Args:
        image: RGB.
        suffix: sets the format, such as `.png`.
        settings: options of the format.
    """
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[suffix.lower()], **settings)
    return buffer.getvalue()


def save_image(image: Image.Image, path: Path) -> None:
    """Save an image atomically in the format of its suffix.

    On a full disk, Pillow itself would leave a truncated file without an error.
    """
    write_bytes(path, encode_image(image, path.suffix))


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
        question: the question.
        answers: best first.
        boxes: `[regions, 4]` in pixels of the image.
        labels: name of each region.
        relevance: of each region, in `[-1, 1]`; regions of at least `RELEVANT` are highlighted.

    Returns:
        The image, about 720 pixels wide, with a panel on its right.
    """
    answers = [replace(each, answer=printable(each.answer)) for each in answers]
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    image = Image.fromarray(pixels).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )
    _draw_regions(image, boxes * scale, [printable(label) for label in labels], relevance)
    canvas = Image.new("RGB", (image.width + _PANEL, max(image.height, 360)), _PAPER)
    canvas.paste(image, (0, 0))
    _draw_panel(canvas, image.width + _MARGIN, printable(question), answers)
    return canvas


def _draw_regions(
    image: Image.Image, boxes: FloatArray, labels: Sequence[str], relevance: Sequence[float]
) -> None:
    """Draw all boxes, then all labels, the most relevant on top."""
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT)
    order = np.argsort(relevance).tolist()
    colors = [_STRONG if score >= RELEVANT else _WEAK for score in relevance]
    for index in order:
        width = 4 if colors[index] == _STRONG else 2
        draw.rectangle(tuple(boxes[index].tolist()), outline=colors[index], width=width)
    taken: list[Rectangle] = []
    regions = [tuple(box) for box in boxes.tolist()]
    cells = are_cells(boxes, (image.height, image.width))
    for index in order:
        if not cells:
            label = _shorten(draw, labels[index], font, image.width - 2 * _PADDING)
            spot = _find_spot(draw, font, label, regions[index], taken, regions)
            taken.append(spot)
            _draw_tag(draw, label, font, spot, _PADDING, colors[index], _INK)
        elif colors[index] == _STRONG:
            _name_cell(draw, labels[index], regions[index], _FONT, _STRONG, _INK)


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: Font,
    spot: Rectangle,
    padding: int,
    fill: Color,
    ink: Color,
) -> None:
    """Write a name of one or more lines into a filled rectangle."""
    draw.rectangle(spot, fill=fill)
    left, top, _, _ = draw.textbbox((0, 0), text, font=font)
    draw.text((spot[0] + padding - left, spot[1] + padding - top), text, fill=ink, font=font)


def _name_cell(
    draw: ImageDraw.ImageDraw, text: str, box: Rectangle, largest: int, fill: Color, ink: Color
) -> None:
    """Write a name inside its cell, smaller or in several lines if necessary, or not at all.

    Outside, it would look like the name of another cell.
    """
    x, y = box[0] + _SMALL_PADDING, box[1] + _SMALL_PADDING
    for size in range(largest, _SMALLEST_FONT - 1, -1):
        font = ImageFont.load_default(size)
        for lines in (text, text.replace(" ", "\n")):
            width, height = _measure(draw, font, lines)
            if x + width < box[2] and y + height < box[3]:
                spot = (x, y, x + width, y + height)
                _draw_tag(draw, lines, font, spot, _SMALL_PADDING, fill, ink)
                return


def _shorten(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    """Truncate a text to at most `width` pixels."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1]
    return f"{text.rstrip()}..." if text else ""


def _find_spot(
    draw: ImageDraw.ImageDraw,
    font: Font,
    text: str,
    box: Rectangle,
    labels: Sequence[Rectangle],
    boxes: Sequence[Rectangle],
) -> Rectangle:
    """Find the label position with the least overlap: above, below or inside, left or right.

    Overlap with another label counts ten times as much as overlap with a region.
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
    """Return the area of the intersection of two rectangles."""
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
        share = percent(answer.score)
        end = width - draw.textlength(share, small)
        name = _shorten(draw, answer.answer, small, end - _PADDING)
        draw.text((x, y), name, fill=_INK if rank == 0 else _SOFT, font=small)
        draw.text((x + end, y), share, fill=_SOFT, font=small)
        draw.rectangle((x, y + 24, x + width, y + 30), fill=(228, 230, 234))
        draw.rectangle((x, y + 24, x + max(2, width * answer.score), y + 30), fill=_BAR)
        y += 46
    note = "Yellow: relevant regions. Without one of them, the answer is less probable."
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
            lines.append(_shorten(draw, word, font, width))
    return lines


def draw_regions(
    pixels: npt.NDArray[np.uint8], boxes: FloatArray, *, labels: Sequence[str]
) -> Image.Image:
    """Draw overlapping regions, each with a label in its own color.

    Args:
        pixels: `[height, width, 3]` uint8 RGB.
        boxes: `[regions, 4]` in pixels of the image, the most important first.
        labels: name of each region.

    Returns:
        The drawing, with a longer side of 1,200 pixels.
    """
    height, width = pixels.shape[:2]
    scale = _LARGE_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_SMALL_FONT)
    rectangles: list[Rectangle] = [tuple(box) for box in (boxes * scale).tolist()]
    colors = [_color(index) for index in range(len(rectangles))]
    # Less important regions first, so that the others are on top; labels of small regions last.
    for index in sorted(range(len(boxes)), key=lambda index: -_area(rectangles[index])):
        draw.rectangle(rectangles[index], outline=_INK, width=4)
        draw.rectangle(_shrink(rectangles[index]), outline=colors[index], width=2)
    tags: list[Rectangle] = []
    cells = are_cells(boxes, (height, width))
    for index, label in enumerate(map(printable, labels)):
        ink = _contrast(colors[index])
        if cells:
            _name_cell(draw, label, rectangles[index], _SMALL_FONT, colors[index], ink)
            continue
        tag = _find_edge(image.size, _measure(draw, font, label), rectangles[index], tags)
        tags.append(tag)
        _draw_tag(draw, label, font, tag, _SMALL_PADDING, colors[index], ink)
        draw.rectangle(tag, outline=_INK)
    return image


def _contrast(color: Color) -> Color:
    """Return black or white text color, whichever is readable on a color."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return _INK if luminance > 125 else _PAPER


def _color(index: int) -> Color:
    """Return a light color that differs from those of the previous indices."""
    hue = index * 0.618034 % 1.0  # golden ratio: each hue falls into the widest gap
    light = colorsys.hls_to_rgb(hue, 0.68 if index % 2 else 0.58, 0.95)
    red, green, blue = (round(255 * part) for part in light)
    return (red, green, blue)


def _shrink(box: Rectangle) -> Rectangle:
    """Return the box reduced by one pixel on each side, if it is large enough."""
    x1, y1, x2, y2 = box
    inset = 1.0 if min(x2 - x1, y2 - y1) > 4 else 0.0
    return (x1 + inset, y1 + inset, x2 - inset, y2 - inset)


def _area(box: Rectangle) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _measure(draw: ImageDraw.ImageDraw, font: Font, text: str) -> tuple[float, float]:
    """Return width and height of a label with this text."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    return right - left + 2 * _SMALL_PADDING, bottom - top + 2 * _SMALL_PADDING


def _find_edge(
    size: tuple[int, int], tag: tuple[float, float], box: Rectangle, tags: Sequence[Rectangle]
) -> Rectangle:
    """Find the position on the edge of its box where a label overlaps previous labels least.

    Ties are resolved by order, starting at the upper left corner.
    """
    (width, height), (x1, y1, x2, y2) = tag, box
    across = [x1 + (x2 - width - x1) * step / 8 for step in range(9)] if x2 - width > x1 else [x1]
    down = [y1 + (y2 - height - y1) * step / 8 for step in range(9)] if y2 - height > y1 else [y1]
    spots = [(x, y) for y in (y1 - height, y1, y2 - height, y2) for x in across]
    spots += [(x, y) for y in down for x in (x1, x2 - width, x1 - width, x2)]
    rightmost, lowest = max(0.0, size[0] - 1 - width), max(0.0, size[1] - 1 - height)
    rectangles = []
    for left, top in spots:
        x, y = min(max(left, 0.0), rightmost), min(max(top, 0.0), lowest)
        rectangles.append((x, y, x + width, y + height))
    return min(rectangles, key=lambda spot: sum(_overlap(spot, other) for other in tags))
