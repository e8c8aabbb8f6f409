"""A contact sheet of a dataset: scenes with their boxes and some of their texts."""

import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lxmert.files import atomic_path, parse_json, read_json_object
from lxmert.images import read_image
from lxmert.lab.scenes.descriptions import pick, shuffled

Record = dict[str, Any]

_SCALE, _COLUMNS = 2, 4
_GAP, _LINE, _FONT, _WRAP = 10, 17, 14, 44
_TEXT_LINES = 10
"""Height of the area below an image, for its name and texts."""
_QUESTIONS = 4
_USUAL = 12
"""Default number of scenes."""

_PAPER, _INK, _SOFT, _FRAME = (250, 250, 248), (30, 32, 36), (89, 96, 105), (255, 255, 255)

Box = tuple[float, float, float, float]
"""`(x, y, width, height)` in pixels, as in COCO format."""

_REMEDY = "make the dataset again"
_DAMAGE = (ValueError, TypeError, LookupError)
"""Exceptions raised by reading a file of an unexpected form."""


def draw_sheet(folder: Path, *, count: int | None, seed: int) -> Image.Image:
    """Draw some scenes of a dataset.

    Args:
        folder: as written by `make_dataset`.
        count: number of scenes, at least 1; None: 12, or all if there are fewer.
        seed: selects scenes and texts, at least 0.

    Raises:
        FileNotFoundError: if the folder has no dataset.
        OSError: if an image cannot be read.
        ValueError: if there are too few scenes, the dataset is damaged, or the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected at least 0")
    boxes = _read_boxes(folder)
    count = min(_USUAL, len(boxes)) if count is None else count
    if not 1 <= count <= len(boxes):
        raise ValueError(f"count is {count}, expected 1 to {len(boxes)}, the scenes in {folder}")
    generator = np.random.default_rng(seed)
    chosen = shuffled(generator, list(boxes))[:count]
    texts = _read_texts(folder, set(chosen))
    cells = []
    for name in chosen:
        image = _draw_scene(folder / "images" / name, boxes[name])
        cells.append(_with_text(image, name, _choose_texts(texts[name], generator)))
    return _arrange(cells)


def save_sheet(folder: Path, path: Path, *, count: int | None, seed: int) -> None:
    """Save the contact sheet atomically.

    Raises:
        ValueError: if its path is among the images of the dataset.
    """
    if path.absolute().parent.resolve() == (folder / "images").resolve():
        raise ValueError(f"{path} is among the images of the dataset: name another folder")
    sheet = draw_sheet(folder, count=count, seed=seed)
    with atomic_path(path) as partial:
        sheet.save(partial, format=Image.registered_extensions()[path.suffix.lower()])


def _read_boxes(folder: Path) -> dict[str, list[Box]]:
    """Return the boxes of each image by image name.

    Raises:
        FileNotFoundError: if the folder has no dataset.
        ValueError: if the file is damaged or lists no images.
    """
    path = folder / "objects.json"
    if not path.is_file():
        remedy = "name its folder"
        if not folder.exists():
            remedy = f"make one with lxmert lab make qa -o {folder}"
        partial = Path(f"{folder.resolve()}.partial")
        if partial.is_dir():
            remedy = f"{partial} is incomplete: rerun its command to resume"
        raise FileNotFoundError(
            f"{folder} has no objects.json, expected a dataset of lxmert lab make: {remedy}"
        )
    content: Record = read_json_object(path, remedy=_REMEDY)
    try:
        boxes: dict[int, list[Box]] = {image["id"]: [] for image in content["images"]}
        names: dict[str, int] = {image["file_name"]: image["id"] for image in content["images"]}
        for annotation in content["annotations"]:
            x, y, width, height = map(float, annotation["bbox"])
            boxes[annotation["image_id"]].append((x, y, width, height))
    except _DAMAGE as problem:
        raise ValueError(f"{path} is damaged ({problem!r}): {_REMEDY}") from problem
    if not names:
        raise ValueError(f"{path} lists no images: {_REMEDY}")
    return {name: boxes[number] for name, number in names.items()}


def _read_texts(folder: Path, names: set[str]) -> dict[str, dict[str, list[str]]]:
    """Return the texts about some images, by kind or question type."""
    texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in ("questions.jsonl", "captions.jsonl", "pairs.jsonl"):
        if (folder / file).is_file():
            for name, kind, text in _read_lines(folder / file):
                if name in names:
                    texts[name][kind].append(text)
    return texts


def _read_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield image, kind or question type, and text of each line.

    Raises:
        ValueError: if the file is damaged.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [parse_json(line, str(path), remedy=_REMEDY) for line in lines]
    try:
        for row in rows:
            if "caption" in row:
                yield row["image"], "caption", row["caption"]
            elif "images" in row:
                left, right = row["images"]
                yield left, "pair", f"[left of {right}] {row['question']} {row['answer']}"
            else:
                yield row["image"], row["question_type"], f"{row['question']} {row['answer']}"
    except _DAMAGE as problem:
        raise ValueError(f"{path} is damaged ({problem!r}): {_REMEDY}") from problem


def _choose_texts(texts: dict[str, list[str]], generator: np.random.Generator) -> list[str]:
    """Choose a few texts of different question types."""
    question_types = shuffled(generator, sorted(texts))[:_QUESTIONS]
    return [pick(generator, texts[question_type]) for question_type in question_types]


def _draw_scene(path: Path, boxes: list[Box]) -> Image.Image:
    """Enlarge an image and draw its boxes."""
    try:
        scene = Image.fromarray(read_image(path))
    except ValueError as problem:
        raise OSError(f"{path} cannot be read ({problem}): {_REMEDY}") from problem
    scene = scene.resize((scene.width * _SCALE, scene.height * _SCALE))
    draw = ImageDraw.Draw(scene)
    for x, y, width, height in boxes:
        corners = [_SCALE * side for side in (x, y, x + width, y + height)]
        draw.rectangle(corners, outline=_FRAME)
    return scene


def _with_text(image: Image.Image, name: str, texts: list[str]) -> Image.Image:
    """Write name and texts below an image, as far as they fit."""
    cell = Image.new("RGB", (image.width, image.height + _TEXT_LINES * _LINE + _GAP), _PAPER)
    cell.paste(image)
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(_FONT)
    lines = [name]
    for text in texts:
        wrapped = textwrap.wrap(text, _WRAP, subsequent_indent="   ")
        if len(lines) + len(wrapped) <= _TEXT_LINES:
            lines += wrapped
    for number, line in enumerate(lines):
        place = (2, image.height + 4 + number * _LINE)
        draw.text(place, line, fill=_INK if number else _SOFT, font=font)
    return cell


def _arrange(cells: list[Image.Image]) -> Image.Image:
    """Arrange cells of equal size row by row."""
    width, height = cells[0].width + _GAP, cells[0].height + _GAP
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet.paste(cell, (_GAP + column * width, _GAP + row * height))
    return sheet
