"""Answers to a file of questions, from pixels to a file of predictions."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lxmert.data.image_folder import ImageFolder
from lxmert.data.readers import check_unique_ids, read_questions
from lxmert.data.records import read_rows, require
from lxmert.files import atomic_path, to_json
from lxmert.names import count
from lxmert.pipeline import LxmertPipeline
from lxmert.schema import Answer, Example

Progress = Callable[[int, int], None]


def predict_file(
    model: str | Path,
    data: Path,
    images: Path,
    output: Path,
    *,
    progress: Progress,
    device: str = "cpu",
) -> int:
    """Answer every question of a file, whether its answer is known or not.

    Each line of the output has `question_id`, `image` (`images` where there are two), `question`,
    `answer` and `score`, the probability of the answer; the lines come in the order of the
    questions.

    Args:
        model: folder or hub name.
        data: JSONL file of questions.
        images: folder of their images.
        output: JSONL file to write, under its name only when it is whole.
        progress: called with the numbers of questions done and in all.
        device: where to compute.

    Returns:
        The number of questions.

    Raises:
        ValueError: if the file holds no question, two of the same id, or one that cannot be asked.
    """
    questions = [require(row, data) for row in check_unique_ids(read_rows(data), data)]
    examples = _locate_asked(questions, data, images)
    predictions = predict(
        LxmertPipeline.from_pretrained(model, device=device), examples, images, progress
    )
    write_predictions(output, examples, predictions)
    return len(examples)


def write_predictions(
    path: Path, examples: Iterable[Example], predictions: Iterable[Answer]
) -> None:
    """Write a line for each question: `predict_file` says what is in it.

    Args:
        path: JSONL file, under its name only when it is whole.
        examples: the questions.
        predictions: the answer to each of them.
    """
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        for example, prediction in zip(examples, predictions, strict=True):
            images = example.image_ids
            record = {
                "question_id": example.example_id,
                **({"image": images[0]} if len(images) == 1 else {"images": list(images)}),
                "question": example.text,
                "answer": prediction.answer,
                "score": round(prediction.score, 6),
            }
            file.write(to_json(record, ensure_ascii=False) + "\n")


def read_asked(data: Path, images: Path) -> list[Example]:
    """Read questions, with the paths of their images below the folder.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if there is no question, or a line or an image of it cannot be used.
    """
    return _locate_asked(read_questions(data), data, images)


def _locate_asked(examples: Sequence[Example], data: Path, images: Path) -> list[Example]:
    """Refuse questions that cannot be asked about images, and name these by their paths."""
    if not examples:
        raise ValueError(f"{data} holds no question: one JSON object a line is needed")
    asked = locate_images(examples, images, data)
    pair = next((example for example in asked if len(example.image_ids) > 1), None)
    if pair is not None:
        raise ValueError(
            f"{data}: {pair.text!r} is about two images, and this command asks about one at a "
            "time: name one with 'image'"
        )
    return asked


def locate_images(examples: Sequence[Example], images: Path, data: Path) -> list[Example]:
    """Name the images of questions by their paths below a folder.

    An image may be named as in training: in another case, without its sub-folder, and so on.

    Args:
        examples: the questions.
        images: the folder.
        data: file of the questions, for the message.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if an image is not there, or could be several.
    """
    folder = ImageFolder(images)
    lost: dict[str, str] = {}
    asked = []
    for example in examples:
        matches = [folder.match(name) for name in example.image_ids]
        found = tuple(match.name for match in matches if match.name is not None)
        lost |= {match.detail: example.text for match in matches if match.name is None}
        asked.append(replace(example, image_ids=found))
    if lost:
        detail = next(iter(lost))
        raise ValueError(
            f"{data}: {count(len(lost), 'image')} cannot be used, the first is of {lost[detail]!r}: "
            f"{detail}; every question must be asked: correct the names, or --images"
        )
    return asked


def predict(
    pipeline: LxmertPipeline, examples: Sequence[Example], images: Path, progress: Progress
) -> list[Answer]:
    """Return the best answer to each question; each image is looked at once."""
    by_image: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        by_image[example.image_ids[0]].append(index)
    predictions: dict[int, Answer] = {}
    paths = ((image_id, images / image_id) for image_id in by_image)
    for image_id, regions in pipeline.processor.extractor.stream(paths):
        rows = by_image[image_id]
        answers = pipeline.ask_regions(regions, [examples[row].text for row in rows], top_k=1)
        predictions.update((row, ranked[0]) for row, ranked in zip(rows, answers, strict=True))
        progress(len(predictions), len(examples))
    return [predictions[row] for row in range(len(examples))]
