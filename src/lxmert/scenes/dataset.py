"""Scenes as a data set on disk, in the formats in which users bring their own data.

A data set is a folder: `images/*.png`; `objects.json`, boxes with attributes in COCO's format;
`questions.jsonl`, a JSON object a line with `question_id`, `image`, `question`, `answer`, `family`
and, where the question singles out one object, its `boxes`;
`captions.jsonl`, with `image` and `caption`. Images are named relative to `images/`.
"""

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lxmert.scenes.language import ask, caption
from lxmert.scenes.picture import SPLITS, Picture, make_picture
from lxmert.scenes.render import SIZE
from lxmert.scenes.vocabulary import ATTRIBUTE_GROUPS, OBJECTS

Record = dict[str, Any]

_RECORDS = "records.jsonl"


def make_dataset(
    folder: Path,
    *,
    split: str,
    count: int,
    seed: int,
    rounds: int,
    captions: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a data set of scenes with questions and captions.

    An interrupted run is taken up where it stopped by the same call; until the data set is
    complete, its folder has `.partial` behind its name.

    Args:
        folder: where to write; must not exist.
        split: `train`, `valid` or `test`; no two splits share a scene.
        count: number of pictures.
        seed: the same seed and arguments give the same files.
        rounds: questions of every family to try for each picture.
        captions: captions for each picture.
        progress: called with the number of pictures done; None for silence.

    Raises:
        ValueError: for an unknown split, or a number that is too small.
        FileExistsError: if the folder exists.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("rounds", rounds, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}: it must be at least {least}")
    if captions < 0:
        raise ValueError(f"captions is {captions}: it must be at least 0")
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: name another folder or remove it first")
    work = folder.with_name(folder.name + ".partial")
    (work / "images").mkdir(parents=True, exist_ok=True)
    arguments: Record = {"split": split, "seed": seed, "rounds": rounds, "captions": captions}
    records = _begin(work / _RECORDS, arguments)
    make = partial(_write_picture, work, **arguments)
    with (
        ProcessPoolExecutor(max_workers=os.cpu_count()) as pool,
        (work / _RECORDS).open("a", encoding="utf-8") as lines,
    ):
        for record in pool.map(make, range(len(records), count), chunksize=16):
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            records.append(record)
            if progress is not None:
                progress(len(records))
    _write_labels(work, records[:count])
    (work / _RECORDS).unlink()
    work.rename(folder)


def _begin(path: Path, arguments: Record) -> list[Record]:
    """Read the records of an interrupted run; the first line says with which arguments it ran.

    Raises:
        ValueError: if they were others.
    """
    if not path.exists() or b"\n" not in path.read_bytes():
        path.write_text(json.dumps(arguments) + "\n", encoding="utf-8")
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows is half a line
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    begun, *records = (json.loads(line) for line in lines)
    if begun != arguments:
        raise ValueError(
            f"{path.parent} was begun with {begun}, not with {arguments}: remove it first"
        )
    return records


def _write_picture(
    folder: Path, index: int, *, split: str, seed: int, rounds: int, captions: int
) -> Record:
    """Make and store one picture; return all that is said about it."""
    picture = make_picture(split, index, seed=seed)
    things = [item.thing for item in picture.objects]
    generator = np.random.default_rng([seed, SPLITS.index(split), index, 1])
    name = f"{split}-{index:06d}.png"
    Image.fromarray(picture.pixels).save(folder / "images" / name)
    return {
        "image": name,
        "objects": _annotations(picture),
        "questions": [vars(question) for question in ask(things, generator, rounds=rounds)],
        "captions": [caption(things, generator) for _ in range(captions)],
    }


def _annotations(picture: Picture) -> list[Record]:
    """Return the objects of a picture as COCO annotations, ids still missing."""
    return [
        {
            "category_id": OBJECTS.index(item.thing.name) + 1,
            "bbox": [
                item.box[0],
                item.box[1],
                item.box[2] - item.box[0],
                item.box[3] - item.box[1],
            ],
            "area": item.pixels,
            "iscrowd": 0,
            "attributes": [item.thing.color, item.thing.size, item.thing.material],
            "visible": round(item.visible, 4),
        }
        for item in picture.objects
    ]


def _corners(annotation: Record) -> list[float]:
    """Return the box of an annotation as `(x1, y1, x2, y2)`."""
    x, y, width, height = annotation["bbox"]
    return [x, y, x + width, y + height]


def _write_labels(folder: Path, records: list[Record]) -> None:
    """Write the three files of labels."""
    objects: Record = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(OBJECTS, start=1)],
        "attribute_groups": ATTRIBUTE_GROUPS,
    }
    with (
        (folder / "questions.jsonl").open("w", encoding="utf-8") as questions,
        (folder / "captions.jsonl").open("w", encoding="utf-8") as captions,
    ):
        for image_id, record in enumerate(records, start=1):
            image = {"file_name": record["image"], "height": SIZE, "width": SIZE}
            objects["images"].append({"id": image_id, **image})
            for annotation in record["objects"]:
                number = len(objects["annotations"]) + 1
                objects["annotations"].append({"id": number, "image_id": image_id, **annotation})
            for number, question in enumerate(record["questions"]):
                row = {
                    "question_id": f"{Path(record['image']).stem}-{number}",
                    "image": record["image"],
                    "question": question["text"],
                    "answer": question["answer"],
                    "family": question["family"],
                }
                if question["about"]:
                    row["boxes"] = [_corners(record["objects"][i]) for i in question["about"]]
                questions.write(json.dumps(row) + "\n")
            for text in record["captions"]:
                captions.write(json.dumps({"image": record["image"], "caption": text}) + "\n")
    (folder / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
