"""Convert the JSON files of the original LXMERT code to sentences; one generator per dataset."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lxmert.datasets.build import Build, Sentence
from lxmert.datasets.downloads import check_is
from lxmert.metrics.fields import (
    Record,
    int_field,
    number_field,
    record_field,
    text_field,
    texts_field,
)
from lxmert.metrics.files import read_list

_PRETRAINING = {
    "mscoco_train": ("train", "COCO_train2014"),
    "mscoco_nominival": ("train", "COCO_val2014"),
    "vgnococo": ("train", "Visual Genome"),
    "mscoco_minival": ("valid", "COCO_val2014"),
}
"""File name -> split and origin of its images."""

_VQA = {
    "train": ("train", "COCO_train2014"),
    "nominival": ("train", "COCO_val2014"),
    "minival": ("valid", "COCO_val2014"),
    "test": ("test", "COCO_test2015"),
}

_CATEGORIES = ("mscoco", "vg", "vqa", "gqa", "visual7w")
"""Sentence categories of the pretraining files; output files are named after them."""

_Category = tuple[str, list[str], list[Mapping[str, float]] | None]
"""Name, sentences, and answers with scores if the category has any."""

_KEYS = {"vqa": "answer_type", "nlvr2": "identifier", "pretraining": "sentf"}
"""A key that identifies each dataset, since the file names are the same."""


def pretraining(build: Build) -> Iterator[Sentence]:
    """The aggregated pretraining files: one record per image, sentences by category."""
    for name, (split, origin) in _PRETRAINING.items():
        path = build.downloads.find(f"{name}.json", fetch="original-pretraining")

        def parse(entry: Record) -> tuple[str, list[_Category]]:
            _check_data_set(entry, "pretraining")
            sentences, labels = record_field(entry, "sentf"), record_field(entry, "labelf")
            strange = next((name for name in sentences if name not in _CATEGORIES), None)
            if strange is not None:
                raise ValueError(f"'sentf' has {strange!r}, expected {', '.join(_CATEGORIES)}")
            return text_field(entry, "img_id"), [
                (category, texts_field(sentences, category), _labels(labels, category))
                for category in sentences
            ]

        for image, categories in read_list(path, parse):
            _check_origin(path, image, origin)
            for category, texts, labels in categories:
                if labels is not None and len(labels) != len(texts):
                    raise ValueError(
                        f"{path}: image {image!r} has {len(labels)} labels for {len(texts)} "
                        f"sentences of {category}, expected one for each"
                    )
                for index, text in enumerate(texts):
                    answers = None if labels is None else labels[index]
                    number = f"{image}_{category}_{index:03d}"
                    yield Sentence(category, split, (image,), text, number, answers)


def vqa(build: Build) -> Iterator[Sentence]:
    """The VQA fine-tuning files; their answers become the vocabulary."""

    def parse(entry: Record) -> tuple[str, str, int, Mapping[str, float], str]:
        texts = text_field(entry, "img_id"), text_field(entry, "sent")
        question_id = int_field(entry, "question_id")
        if "label" not in entry:
            return *texts, question_id, {}, ""
        _check_data_set(entry, "vqa")
        question_type = text_field(entry, "answer_type")
        return *texts, question_id, _scores(record_field(entry, "label")), question_type

    def read() -> Iterator[Sentence]:
        for name, (split, origin) in _VQA.items():
            path = _find(build, "vqa", name)
            for image, text, question_id, answers, question_type in read_list(path, parse):
                _check_origin(path, image, origin)
                yield Sentence("vqa", split, (image,), text, question_id, answers, question_type)

    yield from _collect_answers(build, read)


def gqa(build: Build) -> Iterator[Sentence]:
    """The GQA fine-tuning files; training and validation answers become the vocabulary."""

    def parse(entry: Record) -> tuple[str, str, str, Mapping[str, float]]:
        _check_data_set(entry, "gqa")
        question_id, image = text_field(entry, "question_id"), text_field(entry, "img_id")
        return question_id, image, text_field(entry, "sent"), _scores(record_field(entry, "label"))

    def read() -> Iterator[Sentence]:
        for split in ("train", "valid", "testdev"):
            for question_id, image, text, answers in read_list(_find(build, "gqa", split), parse):
                yield Sentence("gqa", split, (image,), text, question_id, answers)

    yield from _collect_answers(build, read)


def nlvr2(build: Build) -> Iterator[Sentence]:
    """The NLVR2 fine-tuning files."""

    def parse(entry: Record) -> tuple[str, str, str, str, int]:
        _check_data_set(entry, "nlvr2")
        images = text_field(entry, "img0"), text_field(entry, "img1")
        text, label = text_field(entry, "sent"), int_field(entry, "label")
        return text_field(entry, "identifier"), *images, text, label

    for name, official in (("train", "train"), ("valid", "dev"), ("test", "test1")):
        path = _find(build, "nlvr2", name)
        for identifier, first, second, text, label in read_list(path, parse):
            check_is(path, identifier.split("-")[0], official, "NLVR2's")
            answers = {str(bool(label)): 1.0}
            yield Sentence("nlvr2", name, (first, second), text, identifier, answers)


def _collect_answers(build: Build, read: Callable[[], Iterator[Sentence]]) -> Iterator[Sentence]:
    """Yield sentences; training and validation answers become the vocabulary."""
    found: set[str] = set()
    for sentence in read():
        if sentence.split in ("train", "valid"):
            found |= set(sentence.answers or ())
        yield sentence
    if build.answers is None:
        build.answers = sorted(found)


def _find(build: Build, folder: str, name: str) -> Path:
    return build.downloads.find(f"{folder}/{name}.json", f"{name}.json", fetch=f"original-{folder}")


def _check_data_set(entry: Record, expected: str) -> None:
    """Raise an error for a record of another dataset."""
    given = next((name for name, key in _KEYS.items() if key in entry), "gqa")
    if given != expected:
        raise ValueError(
            f"the record belongs to the original {given} files, but {expected} is expected: check "
            "whether files were swapped"
        )


def _check_origin(path: Path, image: str, expected: str) -> None:
    origin = image.rpartition("_")[0] if image.startswith("COCO_") else "Visual Genome"
    check_is(path, origin, expected, "images of")


def _labels(labels: Record, category: str) -> list[Mapping[str, float]] | None:
    """Return the answers to each sentence of a category; None for captions."""
    given = labels.get(category)
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        raise ValueError(f"'labelf' of {category!r} must be a list of objects")
    return [_scores(label) for label in given]


def _scores(label: Record) -> dict[str, float]:
    """Return answers with scores, without the empty answer, which cannot be predicted."""
    scores = {answer.strip(): number_field(label, answer) for answer in label if answer.strip()}
    absurd = next((answer for answer, score in scores.items() if not 0 <= score <= 1), None)
    if absurd is not None:
        raise ValueError(
            f"the answer {absurd[:60]!r} has the score {scores[absurd]:g}, expected 0 to 1"
        )
    return scores
