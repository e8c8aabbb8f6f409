"""Splits of questions whose answers change in frequency between training and test, as in VQA-CP."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.corpus import Corpus
from lxmert.data.lines import scan_lines
from lxmert.data.question_kinds import QuestionKinds
from lxmert.files import to_json, write_text
from lxmert.names import count

FILES = ("train", "valid", "test")
"""Output files without extension: `valid` has the frequencies of `train`, `test` the opposite."""

VALID, TEST = 0.1, 0.3
"""Shares of the images."""


def shift_priors(path: Path, output: Path, *, rare: float, seed: int = 0) -> dict[str, int]:
    """Split questions by image, and change how frequent their answers are.

    The answers to each kind of question (see `QuestionKinds`) are divided into two halves at
    random. Training and validation keep all questions with an answer of the first half, and the
    share `rare` of those of the second half; the test is the other way round.

    Args:
        path: JSONL file of questions with answers.
        output: folder to write `train.jsonl`, `valid.jsonl` and `test.jsonl` to; their lines are
            those of the input.
        rare: share to keep of the rare half, in `[0, 1]`; 1 changes nothing.
        seed: seed of all draws.

    Returns:
        The number of lines by file.

    Raises:
        ValueError: if `rare` is not a share, a line is no question, or a file would be empty.

    Source: the idea of VQA-CP, Agrawal et al. 2018, with frequencies instead of disjoint answers.
    """
    if not 0 <= rare <= 1:
        raise ValueError(f"--rare is {rare:g}: expected a share from 0 to 1")
    corpus = Corpus.read([path], strict=True)
    lines = [line.record or {} for line in scan_lines(path)]
    generator = np.random.default_rng(seed)
    splits = _split_images(corpus, generator)
    first = _first_halves(corpus, generator)
    rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in FILES}
    for row, draw in enumerate(generator.random(len(corpus)).tolist()):
        name = splits[corpus.image_ids(row)[0]]
        if first[row] == (name != "test") or draw < rare:
            rows[name].append(lines[row])
    empty = [name for name, found in rows.items() if not found]
    if empty:
        raise ValueError(
            f"{path} has {count(len(corpus), 'question')}, too few for a {empty[0]} file: name a "
            "file with questions about more images"
        )
    output.mkdir(parents=True, exist_ok=True)
    for name, found in rows.items():
        write_text(output / f"{name}.jsonl", "".join(f"{to_json(line)}\n" for line in found))
    return {name: len(found) for name, found in rows.items()}


def _split_images(corpus: Corpus, generator: np.random.Generator) -> dict[str, str]:
    """Draw the file of each image."""
    images = sorted({corpus.image_ids(row)[0] for row in range(len(corpus))})
    draws = generator.random(len(images)).tolist()
    limits = {"valid": VALID, "test": VALID + TEST, "train": 1.0}
    return {
        image: next(name for name, limit in limits.items() if draw <= limit)
        for image, draw in zip(images, draws, strict=True)
    }


def _first_halves(corpus: Corpus, generator: np.random.Generator) -> list[bool]:
    """Return whether the best answer of each question is in the first half of its kind."""
    kinds = QuestionKinds(corpus.texts())
    places = [kinds.place(text) for text in corpus.texts()]
    best = list(_best_answers(corpus))
    halves: dict[int, frozenset[str]] = {}
    for kind in sorted(set(places)):
        answers = sorted({a for a, place in zip(best, places, strict=True) if place == kind})
        order: Sequence[int] = generator.permutation(len(answers)).tolist()
        halves[kind] = frozenset(answers[index] for index in order[: (len(answers) + 1) // 2])
    return [a in halves[place] for a, place in zip(best, places, strict=True)]


def _best_answers(corpus: Corpus) -> Iterator[str]:
    for row in range(len(corpus)):
        answers = corpus.answers(row)
        yield max(answers, key=lambda answer: answers[answer]) if answers else ""
