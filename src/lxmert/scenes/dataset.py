"""Scenes as a data set on disk, in the formats in which users bring their own data.

A data set is a folder: `images/*.png`; `objects.json`, boxes with attributes in COCO's format;
`questions.jsonl`, a JSON object a line with `question_id`, `image`, `question`, `answer`, `family`;
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

    Pictures that are there from an interrupted run with the same arguments are made again, as
    their labels are needed; the folder gets its name when it is complete.

    Args:
        folder: where to write; must not exist.
        split: `train`, `valid` or `test`; no two splits share a scene.
        count: number of pictures.
        seed: the same seed and arguments give the same files.
        rounds: questions of every family to try for each picture.
        captions: captions for each picture.
        progress: called with the number of pictures done; None for silence.

    Raises:
        ValueError: for an unknown split or a count below 1.
        FileExistsError: if the folder exists.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if count < 1:
        raise ValueError(f"{count} pictures were asked for: at least 1 is needed")
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: name another folder or remove it first")
    partial_folder = folder.with_name(folder.name + ".partial")
    (partial_folder / "images").mkdir(parents=True, exist_ok=True)
    write = partial(
        _write_picture, partial_folder, split, seed=seed, rounds=rounds, captions=captions
    )
    records = []
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for record in pool.map(write, range(count), chunksize=16):
            records.append(record)
            if progress is not None:
                progress(len(records))
    _write_labels(partial_folder, records)
    partial_folder.rename(folder)


def _write_picture(
    folder: Path, split: str, index: int, *, seed: int, rounds: int, captions: int
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
                questions.write(json.dumps(row) + "\n")
            for text in record["captions"]:
                captions.write(json.dumps({"image": record["image"], "caption": text}) + "\n")
    (folder / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
