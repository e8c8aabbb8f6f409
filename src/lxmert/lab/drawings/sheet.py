"""A contact sheet of drawings with some of their questions."""

import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lxmert.files import atomic_path
from lxmert.lab.drawings.drawing import arrange, render
from lxmert.lab.drawings.questions import ask_about

_COLUMNS, _ROWS, _SIDE, _GAP, _LINE, _TEXT_LINES = 4, 3, 190, 16, 16, 8
_PAPER, _INK = (250, 250, 248), (30, 32, 36)


def save_sheet(path: Path, *, seed: int = 0) -> None:
    """Save twelve drawings, each with a few questions and statements and their answers."""
    generator = np.random.default_rng(seed)
    width, height = _SIDE + _GAP, _SIDE + _TEXT_LINES * _LINE + _GAP
    sheet = Image.new("RGB", (_COLUMNS * width + _GAP, _ROWS * height + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            size = (64, 192) if column == _COLUMNS - 1 else (128, 128)
            drawing = arrange(generator, *size)
            image = Image.fromarray(render(generator, drawing))
            image = image.resize((_SIDE, _SIDE * size[0] // size[1]), Image.Resampling.BICUBIC)
            left, top = _GAP + column * width, _GAP + row * height
            sheet.paste(image, (left, top))
            lines: list[str] = []
            for asked in ask_about(drawing, generator, 8, statements=column % 2 == 1):
                wrapped = textwrap.wrap(f"{asked.text} [{asked.answer}]", 31)
                if len(lines) + len(wrapped) < _TEXT_LINES:
                    lines += wrapped
            below = top + image.height + 5
            draw.multiline_text((left, below), "\n".join(lines), fill=_INK, font=font, spacing=3)
    with atomic_path(path) as partial:
        sheet.save(partial, format=Image.registered_extensions()[path.suffix.lower()], quality=85)
