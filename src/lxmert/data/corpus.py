"""All examples of a data set in a few flat arrays, read with bounded memory.

An example takes kilobytes as a Python object, but about a hundred bytes here. The arrays are mapped
from a temporary file and shared by all workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.columns import ColumnWriter, Ragged, RaggedWriter, Texts, TextWriter, in_batches
from lxmert.data.records import SPLITS, Row, read_rows, require
from lxmert.schema import IGNORE_INDEX, Example, FloatArray, IntArray

_ANSWER = np.dtype([("name", "<i4"), ("score", "<f8")])

_BOX = np.dtype([("corners", "<f4", 4)])

_NO_SPLIT = -1


@dataclass(frozen=True)
class _Columns:
    """The fields of all examples, and the names that the numbers refer to."""

    example_ids: Texts
    texts: Texts
    images: npt.NDArray[np.int32]  # [examples, 2], -1 for no second image
    question_types: npt.NDArray[np.int32]
    splits: npt.NDArray[np.int8]
    sources: npt.NDArray[np.int16]
    answers: Ragged  # of _ANSWER
    boxes: Ragged  # of _BOX, in the first image
    image_names: Texts
    answer_names: Texts
    question_type_names: Texts
    source_names: Texts

    @property
    def nbytes(self) -> int:
        texts = [self.example_ids, self.texts, self.image_names, self.answer_names]
        arrays: list[npt.NDArray[Any]] = [
            self.images,
            self.question_types,
            self.splits,
            self.sources,
        ]
        arrays += [*self.answers, *self.boxes]
        return sum(column.nbytes for column in texts) + sum(array.nbytes for array in arrays)


class Corpus(Sequence[Example]):
    """Examples by index, created on demand; a slice is a view of the same arrays.

    Attributes:
        left_out: number of dropped examples by reason: a kind of finding of `report.KINDS`, or
            `missing_image` if an image of the example cannot be used.
    """

    def __init__(
        self, columns: _Columns, rows: range | IntArray, left_out: Counter[str] | None = None
    ) -> None:
        """Use `read` or `of` instead."""
        self._columns = columns
        self._rows = rows
        self.left_out: Counter[str] = Counter() if left_out is None else left_out

    @classmethod
    def read(
        cls,
        questions: Iterable[str | Path],
        *,
        captions: Iterable[str | Path] = (),
        resolve: Callable[[str], str | None] = lambda name: name,
        strict: bool = False,
    ) -> Corpus:
        """Read the examples of all files; unusable ones are counted in `left_out`.

        Args:
            questions: JSONL files; a file that is listed twice counts twice.
            captions: JSONL caption files, which follow the questions.
            resolve: returns the image id for the name in the file, or None if there is no such
                image.
            strict: raise an error for the first unusable line, instead of counting it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if `strict`, naming file and line, and the reason.
        """
        writer = _Writer(resolve)
        files = [(path, "question") for path in questions] + [
            (path, "caption") for path in captions
        ]
        for path, text_key in files:
            for batch in in_batches(read_rows(path, text_key=text_key)):
                if strict:
                    for row in batch:
                        require(row, path)
                writer.add(batch, source=Path(path).stem)
        return cls._from(writer)

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Corpus:
        """Build a corpus from examples in memory."""
        writer = _Writer(lambda name: name)
        for batch in in_batches(Row(0, example, "", (), []) for example in examples):
            writer.add(batch, source="")
        return cls._from(writer)

    @classmethod
    def _from(cls, writer: _Writer) -> Corpus:
        columns = writer.finish()
        return cls(columns, range(len(columns.splits)), writer.left_out)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: int | slice) -> Example | Corpus:
        if isinstance(index, slice):
            return Corpus(self._columns, self._rows[index])
        return Example(
            example_id=self.example_id(index),
            text=self.text(index),
            image_ids=self.image_ids(index),
            answers=self.answers(index),
            question_type=self.question_type(index),
        )

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def select(self, indices: IntArray) -> Corpus:
        """Return a view of the given examples, in the given order."""
        return Corpus(self._columns, self._indices[indices])

    @property
    def _indices(self) -> IntArray:
        """The stored row of each example."""
        return np.asarray(self._rows, dtype=np.int64)

    def example_id(self, index: int) -> str:
        """Return an example's id."""
        return str(self._columns.example_ids[self._rows[index]])

    def text(self, index: int) -> str:
        """Return an example's text."""
        return str(self._columns.texts[self._rows[index]])

    def texts(self) -> Iterator[str]:
        """Yield the texts of all examples."""
        return (self.text(index) for index in range(len(self)))

    def question_type(self, index: int) -> str:
        """Return an example's question type; empty if unknown."""
        columns = self._columns
        return str(columns.question_type_names[columns.question_types.item(self._rows[index])])

    @property
    def question_types(self) -> list[str]:
        """All question types, sorted."""
        used = np.unique(self._columns.question_types[self._indices])
        return sorted(str(self._columns.question_type_names[place]) for place in used.tolist())

    def of_question_types(self, question_types: Collection[str]) -> Corpus:
        """Return the examples of some question types, in order."""
        places = [
            i for i, name in enumerate(self._columns.question_type_names) if name in question_types
        ]
        found = np.isin(self._columns.question_types[self._indices], places)
        return self.select(np.flatnonzero(found))

    def source(self, index: int) -> str:
        """Return the name of an example's file, without folder and suffix."""
        columns = self._columns
        return str(columns.source_names[columns.sources.item(self._rows[index])])

    def by_source(self) -> dict[str, IntArray]:
        """Return the indices of the examples of each file, by its name; empty files are absent."""
        sources = self._columns.sources[self._indices]
        return {
            str(self._columns.source_names[place]): np.flatnonzero(sources == place)
            for place in np.unique(sources).tolist()
        }

    def images(self, index: int) -> list[int]:
        """Return the positions in `image_names` of an example's one or two images."""
        first, second = self._columns.images[self._rows[index]].tolist()
        return [first] if second < 0 else [first, second]

    def image_ids(self, index: int) -> tuple[str, ...]:
        """Return the ids of an example's one or two images."""
        return tuple(self._columns.image_names[image] for image in self.images(index))

    @property
    def image_names(self) -> Texts:
        """The ids of all images of the data set, also for a view."""
        return self._columns.image_names

    @property
    def image_pairs(self) -> npt.NDArray[np.int32]:
        """Positions in `image_names` for all examples, `[examples, 2]`; -1: no second image."""
        pairs: npt.NDArray[np.int32] = self._columns.images[self._indices]
        return pairs

    @property
    def used_images(self) -> IntArray:
        """Sorted positions in `image_names` of the images that the examples use."""
        used = np.unique(self.image_pairs)
        return used[used >= 0].astype(np.int64)

    def answers(self, index: int) -> dict[str, float]:
        """Return the acceptable answers with their scores in `[0, 1]`."""
        names, given = self._columns.answer_names, self._columns.answers.row(self._rows[index])
        return {names[name]: score for name, score in given.tolist()}

    @property
    def answer_names(self) -> Texts:
        """All answers of the data set, also for a view."""
        return self._columns.answer_names

    def answer_ids(self, index: int) -> tuple[IntArray, npt.NDArray[np.float64]]:
        """Return the positions in `answer_names` of the acceptable answers, and their scores."""
        given = self._columns.answers.row(self._rows[index])
        return given["name"].astype(np.int64), given["score"]

    @property
    def stored_answers(self) -> tuple[Ragged, IntArray]:
        """The answers of all stored rows, and the row of each example."""
        return self._columns.answers, self._indices

    def boxes(self, index: int) -> FloatArray:
        """Return the boxes that an example is about, in pixels of its first image: `[boxes, 4]`."""
        boxes: FloatArray = self._columns.boxes.row(self._rows[index])["corners"]
        return boxes

    def num_boxes(self) -> IntArray:
        """Return how many boxes each example has in its first image, `[examples]`."""
        return self._columns.boxes.lengths()[self._indices]

    def num_answers(self) -> IntArray:
        """Return how many answers each example has, `[examples]`."""
        return self._columns.answers.lengths()[self._indices]

    def answer_counts(self) -> IntArray:
        """Count the examples that accept each answer, `[answers]` as in `answer_names`."""
        stored, rows = self.stored_answers
        visits = np.bincount(rows, minlength=len(self._columns.splits))
        weights = np.repeat(visits, np.diff(stored.bounds))  # of each stored answer
        names = stored.values["name"]
        counts = np.bincount(names, weights=weights, minlength=len(self.answer_names))
        return counts.astype(np.int64)

    def vocabulary(self) -> AnswerVocabulary:
        """Return the answers of all examples, sorted by text.

        Raises:
            ValueError: if there is none.
        """
        chosen = np.flatnonzero(self.answer_counts())
        return AnswerVocabulary(sorted(self.answer_names[place] for place in chosen))

    def split_rows(self, default: str = "train") -> dict[str, IntArray]:
        """Return the examples by split; lines without a `split` are examples of the default one.

        Empty splits are omitted.
        """
        splits = self._columns.splits[self._indices]
        splits = np.where(splits == _NO_SPLIT, SPLITS.index(default), splits)
        rows = {name: np.flatnonzero(splits == place) for place, name in enumerate(SPLITS)}
        return {name: found for name, found in rows.items() if len(found)}

    @property
    def nbytes(self) -> int:
        """Size of the complete data set in bytes; mapped from a file, not held in memory."""
        return self._columns.nbytes


class Targets:
    """Answer targets of a question-answering model, computed from the arrays of a corpus."""

    def __init__(
        self,
        corpus: Corpus,
        vocabulary: AnswerVocabulary,
        *,
        normalize: Callable[[str], str] = lambda answer: answer,
        collisions: Literal["max", "last"] = "max",
    ) -> None:
        """Look up the class of every answer once.

        Args:
            corpus: the examples.
            vocabulary: answers that the model can give.
            normalize: converts an answer of the corpus to the form of the vocabulary.
            collisions: score of a class if several answers are normalized to it: the maximum or the
                last.
        """
        self._corpus = corpus
        self._num_classes = len(vocabulary)
        self._last = collisions == "last"
        names = ({normalize(name): 1.0} for name in corpus.answer_names)
        found = (vocabulary.best_id(name) for name in names)
        self._classes = np.fromiter(found, np.int64, len(corpus.answer_names))

    def known(self, index: int) -> tuple[IntArray, npt.NDArray[np.float64]]:
        """Return the unique classes of an example's known answers, and their scores.

        They have the order of the example's answers; both are empty if no answer is known.
        """
        names, given = self._corpus.answer_ids(index)
        scores: dict[int, float] = {}
        for place, score in zip(self._classes[names].tolist(), given.tolist(), strict=True):
            if place != IGNORE_INDEX:
                scores[place] = score if self._last else max(score, scores.get(place, score))
        classes = np.fromiter(scores.keys(), np.int64, len(scores))
        return classes, np.fromiter(scores.values(), np.float64, len(scores))

    def best_id(self, index: int) -> int:
        """Return the class of an example's best known answer; `IGNORE_INDEX` if none is known."""
        names, _ = self._corpus.answer_ids(index)
        if len(names) == 1:  # the common case, in a third of the time
            return self._classes.item(names.item())
        classes, scores = self.known(index)
        return int(classes[scores.argmax()]) if len(classes) else IGNORE_INDEX

    def scores(self, index: int) -> FloatArray:
        """Return the score of every class, `[classes]` in `[0, 1]`; unknown answers are ignored."""
        classes, given = self.known(index)
        scores = np.zeros(self._num_classes, dtype=np.float32)
        scores[classes] = given
        return scores

    def unknown(self) -> IntArray:
        """Return the examples without any answer in the vocabulary."""
        stored, rows = self._corpus.stored_answers
        found = self._classes[stored.values["name"]] != IGNORE_INDEX
        before = np.concatenate([[0], np.cumsum(found)])  # known answers before each position
        return np.flatnonzero(before[stored.bounds[rows + 1]] == before[stored.bounds[rows]])

    def count_unknown(self) -> int:
        """Count the examples without any answer in the vocabulary."""
        return len(self.unknown())


class _Names:
    """Numbers names in order of appearance."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places))

    def finish(self) -> Texts:
        writer = TextWriter()
        for batch in in_batches(self._places):
            writer.add(batch)
        return writer.finish()


class _Writer:
    """Appends examples to columns."""

    def __init__(self, resolve: Callable[[str], str | None]) -> None:
        self.left_out: Counter[str] = Counter()
        self._resolve = resolve
        self._example_ids, self._texts = TextWriter(), TextWriter()
        self._images, self._question_types = ColumnWriter(np.int32), ColumnWriter(np.int32)
        self._splits, self._answers = ColumnWriter(np.int8), RaggedWriter(_ANSWER)
        self._sources, self._boxes = ColumnWriter(np.int16), RaggedWriter(_BOX)
        self._image_names, self._answer_names = _Names(), _Names()
        self._question_type_names, self._source_names = _Names(), _Names()

    def add(self, rows: Sequence[Row], *, source: str) -> None:
        """Append the usable rows."""
        used = [(row, images) for row in rows if (images := self._take(row))]
        examples = [row.example for row, _ in used if row.example is not None]
        self._example_ids.add(example.example_id for example in examples)
        self._texts.add(example.text for example in examples)
        self._images.add([place for _, images in used for place in (*images, -1)[:2]])
        self._question_types.add(
            [self._question_type_names.place(example.question_type) for example in examples]
        )
        self._splits.add([SPLITS.index(row.split) if row.split else _NO_SPLIT for row, _ in used])
        self._sources.add([self._source_names.place(source)] * len(used))
        self._answers.add(
            [
                [(self._answer_names.place(name), score) for name, score in e.answers.items()]
                for e in examples
            ]
        )

        given = [row.boxes[0].tolist() if row.boxes else [] for row, _ in used]
        self._boxes.add([[(tuple(box),) for box in boxes] for boxes in given])

    def _take(self, row: Row) -> tuple[int, ...]:
        """Return the images of a usable row; count an unusable row and return nothing."""
        if row.example is None:
            self.left_out[next(problem.kind for problem in row.problems if problem.refused)] += 1
            return ()
        names = [self._resolve(name) for name in row.example.image_ids]
        found = [name for name in names if name is not None]
        if len(found) < len(names):
            self.left_out["missing_image"] += 1
            return ()
        return tuple(self._image_names.place(name) for name in found)

    def finish(self) -> _Columns:
        """Return all columns, mapped and read-only."""
        return _Columns(
            example_ids=self._example_ids.finish(),
            texts=self._texts.finish(),
            images=self._images.finish().reshape(-1, 2),
            question_types=self._question_types.finish(),
            splits=self._splits.finish(),
            sources=self._sources.finish(),
            answers=self._answers.finish(),
            boxes=self._boxes.finish(),
            image_names=self._image_names.finish(),
            answer_names=self._answer_names.finish(),
            question_type_names=self._question_type_names.finish(),
            source_names=self._source_names.finish(),
        )
