"""Scenes as a data set on disk, in the formats in which users bring their custom data.

A data set is a folder: `images/*.png`; `objects.json`, boxes with attributes in COCO's format; and
what is said about the images, a JSON object a line:

questions.jsonl  `question_id`, `image`, `question`, `answer`, `question_type`, `program`; and where one
                 object is singled out to ask for what it is like, its box as `boxes`
captions.jsonl   `image`, `caption`
pairs.jsonl      `question_id`, `images` (left, right), `question`, `answer` (`true` or `false`),
                 `question_type`, `program`; four lines in a row share a statement, and the first two parts
                 and the last one of their ids: `train-17-0-0` to `train-17-3-0`

vocab.txt        every word of such texts behind BERT's special tokens: a tokenizer's word list

Images are named relative to `images/`. A box is `(x1, y1, x2, y2)`, but in COCO's format.
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
from lxmert.lab.scenes.image import SPLITS, SceneImage, check_objects, make_image
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

KINDS = {"qa": "questions.jsonl", "captions": "captions.jsonl", "pairs": "pairs.jsonl"}
"""What may be said about images -> the file of it."""

SETTINGS = {"rounds": "qa", "question_types": "qa", "captions": "captions", "groups": "pairs"}
"""Setting of `Contents` -> the only kind of texts that it is about."""

_RECORDS = "records.jsonl"
_LARGEST_SEED = 2**32 - 1

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """What a data set holds.

    Attributes:
        kinds: keys of `KINDS`.
        split: key of `SPLITS`; no two splits share a scene.
        count: number of images.
        seed: the same seed and settings give the same files.
        rounds: questions of every question type to try for each image.
        question_types: keys of `QUESTION_TYPES`; one that is listed twice is asked twice as often.
        captions: captions for each image.
        groups: statements, each about four pairs of images.
        fewest: number of objects to put on a table at least.
        most: number of objects to put on a table at most.

    Raises:
        ValueError: for an unknown name, or a number out of range; numbers about a kind that is not
            made may be anything.
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
                    f"{name} is {getattr(self, name)}: it must be at least {minimum}"
                    + (" for pairs" if minimum == MIN_IMAGES else "")
                )
        if self.seed > _LARGEST_SEED:  # beyond 32 bits, the same scenes come again in other splits
            raise ValueError(f"seed is {self.seed}: it must be at most {_LARGEST_SEED}")
        check_objects(self.fewest, self.most)
        if "qa" in self.kinds:
            needed = min(FEWEST_THINGS[question_type] for question_type in self.question_types)
            if self.most < needed:
                raise ValueError(
                    f"no question of {' or '.join(dict.fromkeys(self.question_types))} can be asked of "
                    f"at most {self.most} objects: allow at least {needed}"
                )


def make_dataset(
    folder: Path, contents: Contents, *, progress: Callable[[int], None] | None = None
) -> dict[str, int]:
    """Write a data set of scenes with what is said about them.

    An interrupted run is taken up where it stopped by the same call; until the data set is
    complete, its folder has `.partial` behind its name.

    Args:
        folder: where to write; must not exist.
        contents: what to write.
        progress: called with the number of images done; None for silence.

    Returns:
        The number of lines in the file of each kind.

    Raises:
        FileExistsError: if the folder exists.
        OSError: if the folder cannot be written or the disk is full; what is there stays.
        ValueError: if an interrupted run had other contents, another process is at it, pairs find
            too few images, or no question of any question type can be asked.
    """
    _check_absent(folder)
    work = folder.with_name(folder.name + ".partial")
    try:
        (work / "images").mkdir(parents=True, exist_ok=True)
        with closing(FolderLock(work)):
            _check_absent(folder)  # another process may just have made it
            counts = _complete(work, contents, progress)
            work.rename(folder)
    except FileExistsError:
        raise
    except OSError as problem:
        remedy = "fix this and give the same command again, or name another folder"
        if problem.errno in _FULL:
            remedy = "is the disk full? The same command goes on"
        raise OSError(f"{work} cannot be completed ({problem}): {remedy}") from problem
    return counts


def thing_of(annotation: Mapping[str, Any]) -> Thing:
    """Return what texts know of an object, from its annotation in `objects.json`."""
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
        raise FileExistsError(f"{folder} exists already: name another folder or remove it first")


def _complete(
    folder: Path, contents: Contents, progress: Callable[[int], None] | None
) -> dict[str, int]:
    """Make all that a data set lacks; return the number of lines in the file of each kind."""
    records = _make_images(folder, contents, progress)
    del records[contents.count :]  # of a run that was meant to be longer
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
    folder: Path, contents: Contents, progress: Callable[[int], None] | None
) -> list[Record]:
    """Make the images that are missing, and return what is said about all of them.

    Raises:
        ChildProcessError: if a process that makes them is killed.
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
                "a process that renders was killed; is memory short?"
            ) from error
    return records


def _check_names(what: str, given: Sequence[str], known: Mapping[str, object]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        problem = f"unknown {what} {unknown[0]!r}" if unknown else f"no {what} is named"
        raise ValueError(f"{problem}: expected one of {', '.join(known)}")


def _begin(path: Path, contents: Contents) -> list[Record]:
    """Read the records of an interrupted run; the first line says with which contents it ran.

    Raises:
        ValueError: if they were others.
    """
    asked = vars(contents) | {"count": None}  # a run may be made longer
    return resume_log(path, asked, remedy="remove it first")


def _write_image(folder: Path, contents: Contents, index: int) -> Record:
    """Make and store one image; return all that is said about it alone."""
    split, seed = contents.split, contents.seed
    image = make_image(split, index, seed=seed, fewest=contents.fewest, most=contents.most)
    scene = Scene(tuple(item.as_thing() for item in image.objects), SPLITS[split])
    name = f"{split}-{index:06d}.png"
    Image.fromarray(image.pixels).save(folder / "images" / name)
    record: Record = {"image": name, "objects": _annotations(image)}
    if "qa" in contents.kinds:
        generator = _generator(contents, index, 1)
        questions = ask(
            scene, generator, rounds=contents.rounds, question_types=contents.question_types
        )
        record["questions"] = [_as_record(question, image) for question in questions]
    if "captions" in contents.kinds:
        generator = _generator(contents, index, 2)
        record["captions"] = [caption(scene.things, generator) for _ in range(contents.captions)]
    return record


def _generator(contents: Contents, index: int, stream: int) -> np.random.Generator:
    """Return the source of one kind of texts, so that no kind depends on another being made."""
    split = list(SPLITS).index(contents.split)
    return np.random.default_rng([contents.seed, split, index, stream])


def _as_record(question: Question, image: SceneImage) -> Record:
    """Return a question as it is kept, with the box of the only object that it is about."""
    record: Record = vars(question) | {"program": written(question.program)}
    program = question.program
    if isinstance(program, Query) and isinstance(program.of, Find):
        shown = [i for i in image.objects if fits(i.thing, program.of.description)]
        record["boxes"] = [item.box for item in shown]
    return record


def _annotations(image: SceneImage) -> list[Record]:
    """Return the objects of an image as COCO annotations, ids still missing."""
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
            "depth": item.thing.z,
        }
        for item in image.objects
    ]


def _check_question_types(folder: Path, contents: Contents, records: Sequence[Record]) -> None:
    """Warn of question types that no image gives a question of; refuse if there is no other."""
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


def _write_labels(folder: Path, contents: Contents, records: Sequence[Record]) -> dict[str, int]:
    """Write the boxes, and a file for each kind of texts; return the number of its lines."""
    objects = _coco(records)
    (folder / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
    vocabulary = "\n".join([*SPECIAL_TOKENS, *all_words()]) + "\n"
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    makers: dict[str, Callable[[], Iterator[Record]]] = {
        "qa": partial(_question_rows, records),
        "captions": partial(_caption_rows, records),
        "pairs": partial(_pair_rows, contents, records),
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


def _pair_rows(contents: Contents, records: Sequence[Record]) -> Iterator[Record]:
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
