"""Writes scenes as a dataset in the formats of custom data.

A dataset is a folder: `images/*.png`; `objects.json`, boxes with attributes in COCO format; and
texts about the images in JSON Lines files:

questions.jsonl  `question_id`, `image`, `question`, `answer`, `question_type`, `program`; for
                 questions about an attribute of a single object also its box as `boxes`
captions.jsonl   `image`, `caption`
foils.jsonl      `foil_id`, `image`, `caption`, `foil`, `phenomenon`
pairs.jsonl      `question_id`, `images` (left, right), `question`, `answer` (`true` or `false`),
                 `question_type`, `program`; four consecutive lines share a statement, and the
                 first two parts and the last part of their ids: `train-17-0-0` to `train-17-3-0`

vocab.txt        BERT's special tokens and every word of such texts: a tokenizer's word list

Image names are relative to `images/`. A box is `(x1, y1, x2, y2)`, except in COCO format.
"""

import errno
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lxmert.files import resume_log
from lxmert.lab.scenes.captions import caption
from lxmert.lab.scenes.descriptions import Scene, Thing, fits
from lxmert.lab.scenes.foils import make_foils
from lxmert.lab.scenes.image import (
    SPLITS,
    SceneImage,
    VisibleObject,
    check_objects,
    make_image,
)
from lxmert.lab.scenes.layout import MAX_OBJECTS, MIN_OBJECTS
from lxmert.lab.scenes.programs import Find, Query, Question, written
from lxmert.lab.scenes.questions import FEWEST_THINGS, QUESTION_TYPES, ask
from lxmert.lab.scenes.render import SIZE
from lxmert.lab.scenes.statements import MIN_IMAGES, make_group
from lxmert.lab.scenes.vocabulary import ATTRIBUTE_GROUPS, OBJECTS
from lxmert.lab.scenes.words import SPECIAL_TOKENS, all_words
from lxmert.locks import FolderLock
from lxmert.workers import end_with_parent

Record = dict[str, Any]

KINDS = {
    "qa": "questions.jsonl",
    "captions": "captions.jsonl",
    "pairs": "pairs.jsonl",
    "foils": "foils.jsonl",
}
"""Kind of texts -> its file."""

SETTINGS = {"rounds": "qa", "question_types": "qa", "captions": "captions", "groups": "pairs"}
"""Setting of `SceneSettings` -> the only kind of texts that it affects."""

_RECORDS = "records.jsonl"
_LARGEST_SEED = 2**32 - 1

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneSettings:
    """Settings of a dataset.

    Attributes:
        kinds: keys of `KINDS`.
        split: key of `SPLITS`; no two splits share a scene.
        count: number of images.
        seed: the same seed and settings give the same files.
        rounds: questions of every question type to try for each image.
        question_types: keys of `QUESTION_TYPES`; a repeated one is asked more often.
        captions: captions for each image.
        groups: statements, each about four pairs of images.
        fewest: minimum number of objects on a table.
        most: maximum number of objects on a table.

    Raises:
        ValueError: for an unknown name, or a number out of range; settings of kinds that are not
            made are not checked.
    """

    kinds: tuple[str, ...]
    split: str
    count: int
    seed: int = 2019
    rounds: int = 6
    question_types: tuple[str, ...] = tuple(QUESTION_TYPES)
    captions: int = 4
    groups: int = 1000
    fewest: int = MIN_OBJECTS
    most: int = MAX_OBJECTS

    def __post_init__(self) -> None:
        _check_names("kind", self.kinds, KINDS)
        _check_names("split", (self.split,), SPLITS)
        _check_names("question type", self.question_types, QUESTION_TYPES)
        least = {"count": 1, "seed": 0, "rounds": 1, "captions": 1, "groups": 1}
        if "pairs" in self.kinds:
            least["count"] = MIN_IMAGES
        for name, minimum in least.items():
            is_used = SETTINGS.get(name) in (None, *self.kinds)
            if is_used and getattr(self, name) < minimum:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected at least {minimum}"
                    + (" for pairs" if minimum == MIN_IMAGES else "")
                )
        if self.seed > _LARGEST_SEED:  # beyond 32 bits, splits would repeat scenes of other splits
            raise ValueError(f"seed is {self.seed}, expected at most {_LARGEST_SEED}")
        check_objects(self.fewest, self.most)
        if "qa" in self.kinds:
            needed = min(FEWEST_THINGS[question_type] for question_type in self.question_types)
            if self.most < needed:
                raise ValueError(
                    f"no question of {' or '.join(dict.fromkeys(self.question_types))} can be "
                    f"asked of at most {self.most} objects: allow at least {needed}"
                )


def make_dataset(
    folder: Path, contents: SceneSettings, *, progress: Callable[[int], None] | None = None
) -> dict[str, int]:
    """Write a dataset of scenes.

    The same call resumes an interrupted run; until the dataset is complete, its folder has
    `.partial` appended to its name.

    Args:
        folder: output folder; must not exist.
        contents: the settings.
        progress: called with the number of images done; None: no progress.

    Returns:
        The number of lines in each kind's file.

    Raises:
        FileExistsError: if the folder exists.
        OSError: if the folder cannot be written or the disk is full; partial results are kept.
        ValueError: if an interrupted run had other settings, another process writes the folder,
            there are too few images for pairs, or no question can be asked.
    """
    _check_absent(folder)
    work = folder.with_name(folder.name + ".partial")
    try:
        (work / "images").mkdir(parents=True, exist_ok=True)
        with closing(FolderLock(work)):
            _check_absent(folder)  # another process may have just made it
            counts = _complete(work, contents, progress)
            work.rename(folder)
    except FileExistsError:
        raise
    except OSError as problem:
        remedy = "fix this and rerun the same command, or name another folder"
        if problem.errno in _FULL:
            remedy = "free disk space and rerun the same command to resume"
        raise OSError(f"{work} cannot be completed ({problem}): {remedy}") from problem
    return counts


def thing_of(annotation: Mapping[str, Any]) -> Thing:
    """Return the properties that texts use, from an object's annotation in `objects.json`."""
    color, size, material = annotation["attributes"]
    return Thing(
        name=OBJECTS[annotation["category_id"] - 1],
        color=color,
        size=size,
        material=material,
        across=annotation["bbox"][0] + annotation["bbox"][2] / 2,
        depth=annotation["depth"],
    )


def _check_absent(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder} already exists: name another folder or remove it first")


def _complete(
    folder: Path, contents: SceneSettings, progress: Callable[[int], None] | None
) -> dict[str, int]:
    """Make the missing parts of a dataset; return the number of lines in each kind's file."""
    records = _make_images(folder, contents, progress)
    del records[contents.count :]  # of a run with a higher count
    images = {record["image"] for record in records}
    for path in (folder / "images").iterdir():
        if path.name not in images:
            path.unlink()
    if "qa" in contents.kinds:
        _check_question_types(folder, contents, records)
    counts = _write_labels(folder, contents, records)
    (folder / _RECORDS).unlink()
    return counts


def _make_images(
    folder: Path, contents: SceneSettings, progress: Callable[[int], None] | None
) -> list[Record]:
    """Make missing images and return the texts about all images.

    Raises:
        ChildProcessError: if a rendering process is killed.
    """
    records = _begin(folder / _RECORDS, contents)
    if progress is not None:
        progress(min(len(records), contents.count))
    with (
        ProcessPoolExecutor(os.cpu_count(), initializer=end_with_parent) as pool,
        (folder / _RECORDS).open("a", encoding="utf-8") as lines,
    ):
        indices = range(len(records), contents.count)
        try:
            for record in pool.map(partial(_write_image, folder, contents), indices, chunksize=16):
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                records.append(record)
                if progress is not None:
                    progress(len(records))
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a rendering process was killed: check whether memory is sufficient"
            ) from error
    return records


def _check_names(what: str, given: Sequence[str], known: Mapping[str, object]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        problem = f"unknown {what} {unknown[0]!r}" if unknown else f"got no {what}"
        raise ValueError(f"{problem}: expected one of {', '.join(known)}")


def _begin(path: Path, contents: SceneSettings) -> list[Record]:
    """Read the records of an interrupted run; its log starts with its settings.

    Raises:
        ValueError: if the settings differ.
    """
    asked = vars(contents) | {"count": None}  # the count may be changed
    return resume_log(path, asked, remedy="remove it first")


def _write_image(folder: Path, contents: SceneSettings, index: int) -> Record:
    """Make and store one image; return the texts about this image alone."""
    split, seed = contents.split, contents.seed
    image = make_image(split, index, seed=seed, fewest=contents.fewest, most=contents.most)
    scene = Scene(tuple(item.as_thing() for item in image.objects), SPLITS[split])
    name = f"{split}-{index:06d}.png"
    Image.fromarray(image.pixels).save(folder / "images" / name)
    record: Record = {"image": name, "objects": [_annotation(item) for item in image.objects]}
    if "qa" in contents.kinds:
        generator = _generator(contents, index, 1)
        questions = ask(
            scene, generator, rounds=contents.rounds, question_types=contents.question_types
        )
        record["questions"] = [_as_record(question, image) for question in questions]
    if "captions" in contents.kinds:
        generator = _generator(contents, index, 2)
        record["captions"] = [caption(scene.things, generator) for _ in range(contents.captions)]
    if "foils" in contents.kinds:
        generator = _generator(contents, index, 4)
        record["foils"] = [foil._asdict() for foil in make_foils(scene, generator)]
    return record


def _generator(contents: SceneSettings, index: int, stream: int) -> np.random.Generator:
    """Return the generator of one kind of texts, which makes the kinds independent."""
    split = list(SPLITS).index(contents.split)
    return np.random.default_rng([contents.seed, split, index, stream])


def _as_record(question: Question, image: SceneImage) -> Record:
    """Return a question as a record, with the box of the object if it is about a single one."""
    record: Record = vars(question) | {"program": written(question.program)}
    program = question.program
    if isinstance(program, Query) and isinstance(program.of, Find):
        shown = [i for i in image.objects if fits(i.thing, program.of.description)]
        record["boxes"] = [item.box for item in shown]
    return record


def _annotation(item: VisibleObject) -> Record:
    """Return an object of an image as a COCO annotation without ids."""
    x1, y1, x2, y2 = item.box
    return {
        "category_id": OBJECTS.index(item.thing.name) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": item.pixels,
        "iscrowd": 0,
        "attributes": [item.thing.color, item.thing.size, item.thing.material],
        "visible": round(item.visible, 4),
        "depth": item.thing.z,
    }


def _check_question_types(folder: Path, contents: SceneSettings, records: Sequence[Record]) -> None:
    """Warn about question types without any question; raise an error if there are no others."""
    asked = {question["question_type"] for record in records for question in record["questions"]}
    missing = [
        question_type
        for question_type in dict.fromkeys(contents.question_types)
        if question_type not in asked
    ]
    problem = (
        f"no image of {len(records)} with {contents.fewest} to {contents.most} objects gives a "
        f"question of {' or '.join(missing)}: allow more objects, or make more images"
    )
    if not asked:
        raise ValueError(f"{problem}, after removing {folder}")
    if missing:
        _logger.warning("%s", problem)


def _write_labels(
    folder: Path, contents: SceneSettings, records: Sequence[Record]
) -> dict[str, int]:
    """Write the boxes and a file for each kind of texts; return their numbers of lines."""
    objects = _coco(records)
    (folder / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
    vocabulary = "\n".join([*SPECIAL_TOKENS, *all_words()]) + "\n"
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    makers: dict[str, Callable[[], Iterator[Record]]] = {
        "qa": partial(_question_rows, records),
        "captions": partial(_caption_rows, records),
        "pairs": partial(_pair_rows, contents, records),
        "foils": partial(_foil_rows, records),
    }
    counts = dict.fromkeys(contents.kinds, 0)
    for kind in contents.kinds:
        with (folder / KINDS[kind]).open("w", encoding="utf-8") as lines:
            for row in makers[kind]():
                lines.write(json.dumps(row) + "\n")
                counts[kind] += 1
    return counts


def _coco(records: Sequence[Record]) -> Record:
    """Return the content of `objects.json`."""
    images: list[Record] = []
    annotations: list[Record] = []
    for image_id, record in enumerate(records, start=1):
        image = {"file_name": record["image"], "height": SIZE, "width": SIZE}
        images.append({"id": image_id, **image})
        for annotation in record["objects"]:
            number = len(annotations) + 1
            annotations.append({"id": number, "image_id": image_id, **annotation})
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(OBJECTS, start=1)],
        "attribute_groups": ATTRIBUTE_GROUPS,
    }


def _question_rows(records: Sequence[Record]) -> Iterator[Record]:
    for record in records:
        for number, question in enumerate(record["questions"]):
            yield {
                "question_id": f"{Path(record['image']).stem}-{number}",
                "image": record["image"],
                "question": question["text"],
                "answer": question["answer"],
                "question_type": question["question_type"],
                "program": question["program"],
                **({"boxes": question["boxes"]} if "boxes" in question else {}),
            }


def _caption_rows(records: Sequence[Record]) -> Iterator[Record]:
    for record in records:
        for text in record["captions"]:
            yield {"image": record["image"], "caption": text}


def _foil_rows(records: Sequence[Record]) -> Iterator[Record]:
    for record in records:
        for foil in record["foils"]:
            foil_id = f"{Path(record['image']).stem}-{foil['phenomenon']}"
            yield {"foil_id": foil_id, "image": record["image"], **foil}


def _pair_rows(contents: SceneSettings, records: Sequence[Record]) -> Iterator[Record]:
    images = [[thing_of(annotation) for annotation in record["objects"]] for record in records]
    for group in range(contents.groups):
        statement, judged = make_group(images, _generator(contents, group, 3))
        for number, pair in enumerate(judged):
            yield {
                "question_id": f"{contents.split}-{group}-{number}-0",
                "images": [records[pair.left]["image"], records[pair.right]["image"]],
                "question": statement.text,
                "answer": "true" if pair.true else "false",
                "question_type": statement.question_type,
                "program": written(statement.program),
            }
