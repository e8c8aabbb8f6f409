"""Checks of the images and questions that users give, and pairs of them."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lxmert.data.image_folder import IMAGE_ENDINGS
from lxmert.names import count
from lxmert.reading import check_text
from lxmert.regions.preprocess import ImageInput, is_image
from lxmert.web import SCHEMES

Pair = tuple[ImageInput, str]
"""An image and a question about it."""


def pair_questions(image: Any, question: str | Sequence[str] | None = None) -> Iterator[Pair]:
    """Yield the pairs of image and question that a pipeline is called with, as they are needed.

    Args:
        image: an image, a list of images, `{"image": ..., "question": ...}`, or several of these in
            a list, a data set or a generator.
        question: a question, or a list of questions about one image; None if `image` contains it.

    Raises:
        TypeError: if they are of another form, naming the accepted ones.
        ValueError: if both are lists, or a text is empty.
    """
    if question is None:
        rows = [image] if isinstance(image, Mapping) else image
        if isinstance(rows, str) or not isinstance(rows, Iterable):
            raise TypeError(
                f"got a {type(image).__name__} without a question; expected image=..., "
                'question=..., or {"image": ..., "question": ...}, or several of these'
            )
        for row in rows:
            yield _from_row(row)
        return
    images = [image] if is_image(image) else image
    questions = [question] if isinstance(question, str) else list(question)
    if not isinstance(question, str):
        images = list(images)
        if len(images) > 1:
            raise ValueError(
                f"got {len(images)} images and a list of questions; expected one image or one "
                'question: pair them in a list of {"image": ..., "question": ...}'
            )
    for each in images:
        for text in questions:
            check_order(each, text)
            check_text(text)
            yield each, text


def is_single(image: Any, question: str | Sequence[str] | None) -> bool:
    """Return whether arguments of `pair_questions` are one pair."""
    if question is None:
        return isinstance(image, Mapping)
    return is_image(image) and isinstance(question, str)


def sort_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the images at the start of a command's arguments from the questions that follow.

    The first argument is an image; the next ones are, as long as they are files, web addresses or
    names with the suffix of an image.

    Raises:
        ValueError: if a question comes first, or the words of one are not quoted.
    """
    images, questions = [arguments[0]], list(arguments[1:])
    while questions and _names_image(questions[0]):
        images.append(questions.pop(0))
    if len(arguments) > 1:
        check_order(*arguments[:2])
    if len(questions) > 1 and not any(" " in text for text in questions):
        raise ValueError(
            f"the question is {questions[0]!r}, but {count(len(questions) - 1, 'more argument')} "
            f"{'follows' if len(questions) == 2 else 'follow'}: quote the question, as in "
            f'"{" ".join(questions)}"'
        )
    for text in questions:
        check_text(text)
    return images, questions


def _names_image(argument: str) -> bool:
    named = argument.startswith(SCHEMES) or os.path.isfile(argument)
    suffix = os.path.splitext(argument)[1].lower()
    return named or (" " not in argument and suffix in IMAGE_ENDINGS)


def _from_row(row: Any) -> Pair:
    if not isinstance(row, Mapping) or not {"image", "question"} <= row.keys():
        keys = f" with {', '.join(map(repr, row))}" if isinstance(row, Mapping) else ""
        raise TypeError(
            f"got a {type(row).__name__}{keys}; expected a dictionary with 'image' and 'question'"
        )
    check_order(row["image"], row["question"])
    check_text(row["question"])
    return row["image"], row["question"]


def check_order(image: object, question: object) -> None:
    """Raise an error if image and question are swapped, or several questions are given."""
    if isinstance(question, list | tuple):
        raise TypeError(
            f"question is {question!r}: ask one, or several with "
            "pipeline.ask_regions(pipeline.regions(image), questions)"
        )
    if is_image(question) and not isinstance(question, str):
        raise TypeError(
            f"the question is a {type(question).__name__}: the image comes first, as in "
            "ask(image, question)"
        )
    if not isinstance(image, str) or image.startswith(SCHEMES) or os.path.exists(image):
        return
    if image.rstrip().endswith("?") or (isinstance(question, str) and os.path.isfile(question)):
        raise ValueError(
            f"the image {image!r} is not a file and looks like a question: the image comes first, "
            "then the question, each in quotes on a command line"
        )


def check_top_k(top_k: int) -> None:
    """Raise an error unless the value is an integer of at least 1."""
    if not isinstance(top_k, int) or isinstance(top_k, bool):
        raise TypeError(f"top_k is {top_k!r}, expected an integer of at least 1")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: ask for at least 1 answer")


def check_texts(name: str, texts: Sequence[str]) -> None:
    """Raise an error for one text instead of a list, and for values that are not texts."""
    if isinstance(texts, str):
        raise ValueError(f"{name} is the one text {texts!r}: write [{texts!r}] for a list of one")
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{name} is {texts!r}, expected a list of texts")


def check_some_texts(name: str, texts: Sequence[str]) -> None:
    """Raise an error unless the value is a list of at least one text."""
    check_texts(name, texts)
    if not texts:
        raise ValueError(f"{name} is an empty list: give at least one")
