"""The suite of small worlds, and how one is written as a custom data set.

A world is a folder: `images/*.png`; `train.jsonl`, `valid.jsonl` and `test.jsonl` in the format of
custom data, with `question_id` and `question_type`; and `scenes.jsonl`, one line for each image
with what was drawn (`scene`) and what each of its questions asks (`meanings`, by `question_id`).
`world.json` has the settings and the number of questions.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import NamedTuple

from lxmert.files import read_json_object, to_json, write_json, write_text
from lxmert.lab.worlds.drawing import QA, Meaning, WorldImage
from lxmert.lab.worlds.plans import bars, floor_plan
from lxmert.lab.worlds.relations import counting, relations, sort_of_clevr
from lxmert.lab.worlds.statements import grid, statements
from lxmert.lab.worlds.textures import skewed, textures
from lxmert.lab.worlds.things import long_sentences, many_things, one_thing, tiny_things
from lxmert.locks import FolderLock
from lxmert.names import unknown_name

SPLITS = ("train", "valid", "test")
SCENES, MANIFEST = "scenes.jsonl", "world.json"
_VALID, _TEST, _FEWEST = 0.1, 0.2, 20
"""Images for validation and test, as shares of those for training, and their least number."""


class World(NamedTuple):
    """A world of the suite.

    Attributes:
        about: how it differs from the others, in a few words.
        draw: draws an image with its questions.
        images: default number of training images.
        questions: questions about each image.
        balanced: whether the questions are chosen so that each has its answers equally often.
    """

    about: str
    draw: Callable[[Random], WorldImage]
    images: int = 2000
    questions: int = 8
    balanced: bool = True


WORLDS: dict[str, World] = {
    "one-thing": World("one colored shape on a plain ground, 64 px", one_thing, 1500, 4),
    "many-things": World("three to eight things: shape, color, place", many_things),
    "few-images": World("the same in 300 images with 20 questions each", many_things, 300, 20),
    "one-question": World("the same, many images with one question each", many_things, 8000, 1),
    "long-sentences": World("the same in sentences of thirty words or more", long_sentences),
    "tiny-things": World("things of 10 px in images of 640 px", tiny_things, 1000),
    "sort-of-clevr": World("six colors, nearest and farthest", sort_of_clevr, 2000, 20, False),
    "relations": World("left of, above, nearest, of the same shape", relations, 3000),
    "counting": World("up to twelve things: how many, more, as many", counting, 3000),
    "statements": World("three boxes; free statements, misspelled", statements, 3000),
    "grid": World("a grid of shapes, 27 different questions", grid, 3000),
    "bars": World("bar charts: values, ends, comparisons", bars),
    "floor-plan": World("rooms and doors", floor_plan, 3000),
    "textures": World("noise, blur, light and patterns", textures, 1500),
    "skewed": World("2, 20 and 500 answers, few of them frequent", skewed, 3000, 5, False),
}


def check_world(name: str) -> None:
    """Refuse an unknown name.

    Raises:
        ValueError: if the suite has no such world.
    """
    if name not in WORLDS:
        raise ValueError(f"world {unknown_name(repr(name), WORLDS)}")


def make_world(
    name: str,
    folder: Path,
    *,
    images: int | None = None,
    seed: int = 2019,
    boxes: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> dict[str, int]:
    """Write a world; until it is complete, `.partial` is appended to the name of its folder.

    Args:
        name: key of `WORLDS`.
        folder: output folder; a world of the same settings that is there already is left alone.
        images: number of training images, at least 20; None: that of the world.
        seed: the same seed gives the same files.
        boxes: whether to write the boxes of what a question is about into its line.
        progress: called with the numbers of images done and in all.

    Returns:
        The number of questions in each split.

    Raises:
        FileExistsError: if something else is there.
        ValueError: if the name is unknown or there are too few images.
    """
    check_world(name)
    world = WORLDS[name]
    training = world.images if images is None else images
    if training < _FEWEST:
        raise ValueError(f"--images is {training}, expected at least {_FEWEST}")
    settings = {"world": name, "images": training, "seed": seed, "boxes": boxes}
    if folder.exists() or folder.is_symlink():
        return _present(folder, settings)
    sizes = [training, *(max(_FEWEST, round(share * training)) for share in (_VALID, _TEST))]
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with closing(FolderLock(partial)):
        rmtree(partial / "images", ignore_errors=True)
        counts = _write(name, partial, dict(zip(SPLITS, sizes, strict=True)), seed, boxes, progress)
        write_json(partial / MANIFEST, settings | {"questions": counts})
        partial.rename(folder)
    return counts


def _present(folder: Path, settings: dict[str, object]) -> dict[str, int]:
    """Return the counts of a complete world, if it has these settings."""
    manifest = read_json_object(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    counts = manifest.pop("questions", None)
    if manifest != settings:
        what = f"a world of {manifest}" if manifest else "something else"
        raise FileExistsError(
            f"{folder} is {what}, expected {settings}: name another folder or remove it first"
        )
    return {split: int(number) for split, number in counts.items()}


def _write(
    name: str,
    folder: Path,
    sizes: dict[str, int],
    seed: int,
    boxes: bool,
    progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Write all files of a world into an existing folder."""
    (folder / "images").mkdir()
    world, lines, scenes = WORLDS[name], dict[str, list[str]](), list[str]()
    asked, seen = Counter[Meaning](), set[bytes]()
    for split, size in sizes.items():
        lines[split] = []
        for number in range(size):
            rng = Random(f"{name} {seed} {split} {number}")
            drawing = _draw_new(world, rng, seen)
            image = f"{split}-{number:05d}.png"
            drawing.image.save(folder / "images" / image)
            questions = drawing.questions
            if world.balanced:
                questions = choose(questions, asked, world.questions, rng)
            ids = [f"{split}-{number}-{place}" for place in range(len(questions))]
            lines[split] += [
                to_json(_line(example_id, image, question, boxes), indent=None)
                for example_id, question in zip(ids, questions, strict=True)
            ]
            meanings = {i: question.meaning for i, question in zip(ids, questions, strict=True)}
            record = {"image": image, "scene": drawing.scene, "meanings": meanings}
            scenes.append(to_json(record, indent=None))
            progress(len(scenes), sum(sizes.values()))
    for file, rows in {
        **{f"{split}.jsonl": rows for split, rows in lines.items()},
        SCENES: scenes,
    }.items():
        write_text(folder / file, "\n".join(rows) + "\n")
    return {split: len(rows) for split, rows in lines.items()}


def choose(questions: Sequence[QA], asked: Counter[Meaning], count: int, rng: Random) -> list[QA]:
    """Choose questions about an image, so that types, and answers to the same question, balance.

    Args:
        questions: all that may be asked.
        asked: how often each type, and each meaning with its answer, was chosen; updated.
        count: number to choose; fewer if there are fewer.
        rng: breaks ties.
    """
    left = list(questions)
    rng.shuffle(left)
    chosen: list[QA] = []
    while left and len(chosen) < count:
        best = min(
            left, key=lambda each: (asked[(each.type,)], asked[(*each.meaning, each.answer)])
        )
        asked[(best.type,)] += 1
        asked[(*best.meaning, best.answer)] += 1
        left = [each for each in left if each.text != best.text]
        chosen.append(best)
    return chosen


def _draw_new(world: World, rng: Random, seen: set[bytes]) -> WorldImage:
    """Draw until the image differs from all before, so that no two splits share one."""
    while True:
        drawing = world.draw(rng)
        digest = sha256(drawing.image.tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            return drawing


def _line(example_id: str, image: str, question: QA, boxes: bool) -> dict[str, object]:
    """Return the line of a question in the format of custom data."""
    line: dict[str, object] = {
        "question_id": example_id,
        "image": image,
        "question": question.text,
        "answer": question.answer,
        "question_type": question.type,
    }
    return line | {"boxes": question.boxes} if boxes and question.boxes else line
