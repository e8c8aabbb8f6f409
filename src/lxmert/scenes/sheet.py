"""A contact sheet of a data set: scenes with their boxes and some of what is said about them."""

import json
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lxmert.scenes.descriptions import pick, shuffled

Record = dict[str, Any]

_SCALE, _COLUMNS = 2, 4
_GAP, _LINE, _FONT, _WRAP = 10, 17, 14, 44
_TEXT_LINES = 9
_QUESTIONS = 4
_USUAL = 12
"""Scenes where nobody says how many."""

_PAPER, _INK, _FRAME = (250, 250, 248), (30, 32, 36), (255, 255, 255)


def draw_sheet(folder: Path, *, count: int | None, seed: int) -> Image.Image:
    """Draw some scenes of a data set.

    Args:
        folder: as `make_dataset` writes it.
        count: number of scenes, at least 1; None: 12, or all where there are fewer.
        seed: decides which scenes and texts.

    Raises:
        FileNotFoundError: if the folder holds no data set.
        ValueError: if it holds fewer scenes.
    """
    path = folder / "objects.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no objects.json; expected a data set: make one with "
            f"lxmert scenes make qa -o {folder}"
        )
    content: Record = json.loads(path.read_text(encoding="utf-8"))
    images = content["images"]
    count = min(_USUAL, len(images)) if count is None else count
    if not 1 <= count <= len(images):
        raise ValueError(f"count is {count}: {folder} has 1 to {len(images)} scenes to show")
    generator = np.random.default_rng(seed)
    chosen = shuffled(generator, images)[:count]
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for annotation in content["annotations"]:
        boxes[annotation["image_id"]].append(annotation["bbox"])
    texts = _read_texts(folder, {image["file_name"] for image in chosen})
    cells = []
    for image in chosen:
        name = image["file_name"]
        picture = _draw_scene(folder / "images" / name, boxes[image["id"]])
        cells.append(_with_text(picture, _choose_texts(texts[name], generator)))
    return _arrange(cells)


def _read_texts(folder: Path, names: set[str]) -> dict[str, dict[str, list[str]]]:
    """Return what is said about some pictures, by kind or family."""
    texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in ("questions.jsonl", "captions.jsonl", "pairs.jsonl"):
        if not (folder / file).is_file():
            continue
        for row in map(json.loads, (folder / file).read_text(encoding="utf-8").splitlines()):
            if "caption" in row and row["image"] in names:
                texts[row["image"]]["caption"].append(row["caption"])
            elif row.get("image") in names:
                text = f"{row['question']} {row['answer']}"
                texts[row["image"]][row["family"]].append(text)
            elif "images" in row and row["images"][0] in names:
                text = f"[with {row['images'][1]}] {row['question']} {row['answer']}"
                texts[row["images"][0]]["pair"].append(text)
    return texts


def _choose_texts(texts: dict[str, list[str]], generator: np.random.Generator) -> list[str]:
    """Choose a few texts, each of another family."""
    families = shuffled(generator, sorted(texts))[:_QUESTIONS]
    return [pick(generator, texts[family]) for family in families]


def _draw_scene(path: Path, boxes: list[list[float]]) -> Image.Image:
    """Enlarge a picture and draw its boxes."""
    picture = Image.open(path).convert("RGB")
    picture = picture.resize((picture.width * _SCALE, picture.height * _SCALE))
    draw = ImageDraw.Draw(picture)
    for x, y, width, height in boxes:
        corners = [_SCALE * side for side in (x, y, x + width, y + height)]
        draw.rectangle(corners, outline=_FRAME)
    return picture


def _with_text(picture: Image.Image, texts: list[str]) -> Image.Image:
    """Write texts below a picture, as many as there is room for."""
    cell = Image.new("RGB", (picture.width, picture.height + _TEXT_LINES * _LINE + _GAP), _PAPER)
    cell.paste(picture)
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(_FONT)
    lines: list[str] = []
    for text in texts:
        wrapped = textwrap.wrap(text, _WRAP, subsequent_indent="   ")
        if len(lines) + len(wrapped) <= _TEXT_LINES:
            lines += wrapped
    for number, line in enumerate(lines):
        draw.text((2, picture.height + 4 + number * _LINE), line, fill=_INK, font=font)
    return cell


def _arrange(cells: list[Image.Image]) -> Image.Image:
    """Put cells of one size side by side, row by row."""
    width, height = cells[0].width + _GAP, cells[0].height + _GAP
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet.paste(cell, (_GAP + column * width, _GAP + row * height))
    return sheet
