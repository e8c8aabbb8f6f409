"""The boxes of questions as annotations in COCO's format, on which a detector can be trained."""

from pathlib import Path

from lxmert.data.coco import read_coco
from lxmert.data.image_folder import ImageFolder
from lxmert.data.readers import read_located_questions
from lxmert.files import atomic_path, write_json
from lxmert.images import image_size

CATEGORY = "object"
"""The only class: a question does not say what is in its box."""

Box = tuple[float, ...]


def write_question_boxes(data: Path, images: Path, output: Path) -> tuple[int, int]:
    """Write the boxes of all questions about one image, each box once, in COCO's format.

    Args:
        data: file of questions, some of them with `boxes`.
        images: image folder.
        output: JSON file to write, checked as a recipe `detector` reads it.

    Returns:
        The numbers of images and of boxes.

    Raises:
        FileNotFoundError: if the file, the folder or an image does not exist.
        ValueError: if a line cannot be used, no line has boxes, or a box is outside of its image.
    """
    folder, by_image = ImageFolder(images), dict[str, dict[Box, None]]()
    for question in read_located_questions(data):
        if len(question.boxes) and len(question.example.image_ids) == 1:
            match = folder.match(question.example.image_ids[0])
            if match.name is None:
                raise FileNotFoundError(f"{data}: {match.detail}; check the images")
            boxes = by_image.setdefault(match.name, {})
            boxes.update(dict.fromkeys(map(tuple, question.boxes.tolist())))
    if not by_image:
        raise ValueError(
            f"{data} has no question with boxes, expected some lines with 'boxes', such as "
            "[[10, 20, 50, 60]] in pixels: add them"
        )
    content = _to_coco(images, by_image)
    with atomic_path(output) as partial:
        write_json(partial, content)
        read_coco(partial, image_folder=images)
    return len(by_image), sum(map(len, by_image.values()))


def _to_coco(images: Path, by_image: dict[str, dict[Box, None]]) -> dict[str, object]:
    """Return the content of the file."""
    entries: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, (name, boxes) in enumerate(by_image.items(), start=1):
        height, width = image_size(images / name)
        entries.append({"id": number, "file_name": name, "height": height, "width": width})
        annotations += [
            {
                "id": len(annotations) + place,
                "image_id": number,
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for place, (x1, y1, x2, y2) in enumerate(boxes, start=1)
        ]
    categories = [{"id": 1, "name": CATEGORY}]
    return {"images": entries, "categories": categories, "annotations": annotations}
