"""Pictures of coloured rectangles with their annotations: the smallest world to learn from."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

OBJECTS = ("square", "bar", "pole")
SHAPES = {"square": (20, 20), "bar": (14, 30), "pole": (30, 14)}  # (height, width)
COLORS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}
GROUPS = {"color": list(COLORS), "size": ["small", "large"]}


def draw(
    generator: np.random.Generator, *, height: int = 160, width: int = 160
) -> tuple[npt.NDArray[np.uint8], list[dict[str, object]]]:
    """Draw 2-4 rectangles that do not touch; return the picture and its annotations."""
    pixels = np.full((height, width, 3), 120, dtype=np.uint8)
    pixels += generator.integers(0, 20, pixels.shape, dtype=np.uint8)
    taken = np.zeros((height, width), dtype=bool)
    annotations: list[dict[str, object]] = []
    for _ in range(int(generator.integers(2, 5))):
        name = OBJECTS[generator.integers(len(OBJECTS))]
        color = list(COLORS)[generator.integers(len(COLORS))]
        size = GROUPS["size"][generator.integers(2)]
        h, w = (int(side * (1.0 if size == "small" else 1.5)) for side in SHAPES[name])
        x, y = int(generator.integers(0, width - w)), int(generator.integers(0, height - h))
        if taken[y : y + h, x : x + w].any():
            continue
        taken[max(0, y - 3) : y + h + 3, max(0, x - 3) : x + w + 3] = True
        pixels[y : y + h, x : x + w] = COLORS[color]
        annotations.append(
            {
                "category_id": OBJECTS.index(name) + 7,
                "bbox": [x, y, w, h],
                "attributes": [size, color],
            }
        )
    return pixels, annotations


def write(folder: Path, name: str, count: int, seed: int) -> Path:
    """Write `count` pictures and `<name>.json`; return the path of the latter."""
    generator = np.random.default_rng(seed)
    content: dict[str, object] = {
        "categories": [{"id": index + 7, "name": name} for index, name in enumerate(OBJECTS)],
        "attribute_groups": GROUPS,
    }
    images, annotations = [], []
    for index in range(count):
        pixels, objects = draw(generator)
        file_name = f"{name}{index}.png"
        Image.fromarray(pixels).save(folder / file_name)
        images.append({"id": index, "file_name": file_name, "height": 160, "width": 160})
        for entry in objects:
            annotations.append(entry | {"id": len(annotations), "image_id": index})
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content | {"images": images, "annotations": annotations}))
    return path
