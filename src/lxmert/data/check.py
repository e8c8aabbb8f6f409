"""Checks a complete data set before training and reports everything that is wrong with it."""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import BertTokenizer

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.columns import in_batches
from lxmert.data.image_folder import ImageFolder
from lxmert.data.lines import folder_hint
from lxmert.data.records import SPLITS, Row, read_rows
from lxmert.data.report import Case, Findings, Report, SplitFacts
from lxmert.data.tokens import token_ids
from lxmert.names import count
from lxmert.schema import IGNORE_INDEX, Example

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, the number done, and the total (0: not known yet)."""

_WORD = re.compile(r"\w+|[^\w\s]")

_SCORES = ("overall", "question_only", "majority")
"""Names that the scores of training have beside those of the question types."""

_CONVERTED = {"number_answer": "a number", "boolean_answer": "true or false"}


@dataclass
class _Image:
    """Facts about an image name: its number, its first place, and its splits."""

    number: int
    file: str
    line: int
    splits: set[str] = field(default_factory=set)
    extent: tuple[float, float] = (0.0, 0.0)  # (height, width) that its boxes require


@dataclass
class _Answer:
    """Facts about an answer: its first place, its types, and where it is the best answer."""

    file: str
    line: int
    types: set[str] = field(default_factory=set)
    best: Counter[str] = field(default_factory=Counter)


class _Hashes:
    """Finds duplicates among all lines, with 20 bytes for each line."""

    def __init__(self) -> None:
        self._values, self._files, self._lines = array("q"), array("i"), array("q")

    def add(self, value: object, file: int, line: int) -> None:
        self._values.append(hash(value))
        self._files.append(file)
        self._lines.append(line)

    def repeated(self) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """Yield the positions of equal values: their numbers, and (file, line) of each."""
        values = np.frombuffer(self._values, np.int64)
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0, True])
        several = np.flatnonzero(np.diff(starts) > 1)
        groups = [order[starts[group] : starts[group + 1]].tolist() for group in several]
        for group in sorted(groups):
            yield group, [(self._files[place], self._lines[place]) for place in group]


def check_data(
    files: Mapping[str, Sequence[str | Path]],
    *,
    images: str | Path | None = None,
    answers: AnswerVocabulary | None = None,
    tokenizer: BertTokenizer | None = None,
    longest: int = 20,
    decode: bool = False,
    progress: Progress = lambda what, done, total: None,  # noqa: ARG005
) -> Report:
    """Check all lines and all images of a data set.

    Args:
        files: JSONL question files by split, `train`, `valid` or `test`; the `split` of a line
            takes precedence.
        images: image folder. None: images are not checked.
        answers: answers that the model can give. None: those of the training questions.
        tokenizer: measures the length of texts. None: count words and punctuation.
        longest: maximum number of tokens, including `[CLS]` and `[SEP]`.
        decode: whether to decode each image completely instead of reading only its header.
        progress: called regularly.

    Returns:
        The report; with a `stop` finding, training would be useless. Memory grows with the number
        of different images and answers, and by 60 bytes per question.
    """
    check = _Check(tokenizer, longest)
    for split, paths in files.items():
        for path in dict.fromkeys(paths):  # a file that is listed twice is read once
            check.read(Path(path), split, progress)
    if images is not None:
        check.look_at(Path(images), progress, decode=decode)
    check.compare_lines()
    check.compare_splits()
    check.compare_answers(answers)
    return check.report()


class _Check:
    """Collects the facts of a data set line by line."""

    def __init__(self, tokenizer: BertTokenizer | None, longest: int) -> None:
        self._tokenizer, self._longest = tokenizer, longest
        self.found = Findings()
        self._paths: list[str] = []
        self._lines: Counter[str] = Counter()  # by split
        self._questions: Counter[str] = Counter()  # usable ones
        self._left_out: dict[str, Counter[str]] = defaultdict(Counter)
        self._images: dict[str, _Image] = {}
        self._answers: dict[str, _Answer] = {}
        self._ids, self._texts = _Hashes(), _Hashes()
        self._targets = array("q")  # hash of the answers of each question in _texts
        self._pairs = array("i")  # numbers of the first and the last image of each of them
        self._split_of = array("b")
        self._image_names: dict[str, str | None] = {}
        self._splits: set[str] = set()

    def read(self, path: Path, split: str, progress: Progress) -> None:
        """Check all lines of a file."""
        self._paths.append(str(path))
        self._splits.add(split)
        if not path.is_file():
            detail = folder_hint(path) if path.is_dir() else "there is no such file"
            self.found.add("missing_file", Case(str(path), 0, detail))
            return
        done, first_unsplit, unsplit, named = 0, 0, 0, False
        for rows in in_batches(read_rows(path)):
            for row in rows:
                self._take(row, row.split or split)
                named = named or bool(row.split)
                if row.example is not None and not row.split:
                    unsplit += 1
                    first_unsplit = first_unsplit or row.line
            self._measure(rows)
            done += len(rows)
            progress(path.name, done, 0)
        if named and unsplit:
            case = Case(str(path), first_unsplit, f"has no 'split' and is assigned to {split}")
            self.found.add("partly_split", case, count=unsplit)

    def _take(self, row: Row, split: str) -> None:
        """Record the facts of a line."""
        file = len(self._paths) - 1
        path = self._paths[file]
        self._lines[split] += 1
        self._splits.add(split)
        for problem in row.problems:
            case = Case(path, row.line, problem.detail)
            self.found.add(problem.kind, case, about=problem.about)
        example = row.example
        if example is None:
            kind = next(problem.kind for problem in row.problems if problem.refused)
            self._left_out[split][kind] += 1
            return
        self._questions[split] += 1
        if (name := example.question_type) in _SCORES:
            case = Case(path, row.line, f"'question_type' is {name!r}")
            self.found.add("reserved_type", case, about=name)
        if row.boxes:
            self.found.add("given_boxes", Case(path, row.line, f"{len(row.boxes[0])} boxes"))
        if row.has_id:
            self._ids.add((split, example.example_id), file, row.line)
        self._texts.add((example.image_ids, example.text), file, row.line)
        self._targets.append(hash(frozenset(example.answers.items())))
        self._take_images(row, example, split, path)
        self._take_answers(row, example, split, path)

    def _take_images(self, row: Row, example: Example, split: str, path: str) -> None:
        """Record the images of a question and the extent of its boxes."""
        self._split_of.append(SPLITS.index(split))
        for place, name in enumerate(example.image_ids):
            image = self._images.get(name)
            if image is None:
                image = self._images[name] = _Image(len(self._images), path, row.line)
            image.splits.add(split)
            if row.boxes:
                far = row.boxes[place].max(axis=0)
                extent = max(float(far[3]), image.extent[0]), max(float(far[2]), image.extent[1])
                if extent != image.extent:
                    image.extent, image.file, image.line = extent, path, row.line
        self._pairs.append(self._images[example.image_ids[0]].number)
        self._pairs.append(self._images[example.image_ids[-1]].number)

    def _take_answers(self, row: Row, example: Example, split: str, path: str) -> None:
        """Record the answers of a question and their types."""
        if not example.answers:
            if not any(problem.kind == "zero_scores" for problem in row.problems):
                case = Case(path, row.line, f"{example.text!r} has no answer")
                self.found.add("no_answer", case)
            return
        kinds = {p.about: _CONVERTED[p.kind] for p in row.problems if p.kind in _CONVERTED}
        for name in example.answers:
            answer = self._answers.setdefault(name, _Answer(path, row.line))
            answer.types.add(kinds.get(name, "a text"))
        best = max(example.answers, key=lambda name: example.answers[name])
        self._answers[best].best[split] += 1

    def _measure(self, rows: Sequence[Row]) -> None:
        """Record the texts that are longer than the model reads."""
        used = [(row.line, row.example.text) for row in rows if row.example is not None]
        if self._tokenizer is None:
            lengths = [_count_words(text) + 2 for _, text in used]
        else:
            lengths = [len(ids) for ids in token_ids([text for _, text in used], self._tokenizer)]
        for (line, text), length in zip(used, lengths, strict=True):
            if length > self._longest:
                detail = f"{text[:60]!r} has {length} tokens, the model reads {self._longest}"
                self.found.add("long_question", Case(self._paths[-1], line, detail))

    def look_at(self, folder: Path, progress: Progress, *, decode: bool) -> None:
        """Find and open the images, and record unused ones."""
        if not folder.is_dir():
            self.found.add("no_image_folder", Case(str(folder), 0, "there is no such folder"))
            return
        files = ImageFolder(folder)
        lost: dict[str, list[int]] = defaultdict(list)  # numbers of images by kind
        by_file: dict[str, list[str]] = defaultdict(list)
        for name, image in self._images.items():
            match = files.match(name)
            if match.how != "exact":
                kind = f"{match.how}_image"
                self.found.add(kind, Case(image.file, image.line, match.detail))
                self._image_names[name] = match.name
            if match.name is None:
                lost[kind].append(image.number)
            else:
                by_file[match.name].append(name)
        good = []
        for file, size in files.open_all(
            list(by_file),
            decode=decode,
            progress=lambda done, total: progress("images", done, total),
        ):
            if self._is_good(by_file[file], file, size):
                good.append(file)
            else:
                lost["broken_image"] += [self._images[name].number for name in by_file[file]]
        for name in sorted(files.names - by_file.keys()):
            self.found.add("unused_image", Case(str(folder), 0, name))
        self._lose(lost)
        self._compare_images(files, good, by_file)

    def _is_good(self, names: Sequence[str], file: str, size: tuple[int, int] | str) -> bool:
        """Return whether an image can be read; record broken images and boxes outside of them."""
        for name in names:
            image = self._images[name]
            if isinstance(size, str):
                detail = f"{file!r}: {size}"
                self.found.add("broken_image", Case(image.file, image.line, detail))
                self._image_names[name] = None
            # Tolerate half a pixel of rounding.
            elif image.extent[0] > size[0] + 0.5 or image.extent[1] > size[1] + 0.5:
                detail = (
                    f"a box of {name!r} reaches to x {image.extent[1]:g}, y {image.extent[0]:g}; "
                    f"the image has {size[1]} x {size[0]} pixels"
                )
                self.found.add("box_outside", Case(image.file, image.line, detail))
        return not isinstance(size, str)

    def _lose(self, lost: Mapping[str, Sequence[int]]) -> None:
        """Count each question that is dropped because of its images once."""
        pairs = np.frombuffer(self._pairs, np.int32).reshape(-1, 2)
        splits = np.frombuffer(self._split_of, np.int8)
        counted = np.zeros(len(pairs), dtype=bool)
        for kind, numbers in lost.items():
            hit = np.isin(pairs, numbers).any(axis=1) & ~counted
            counted |= hit
            for place, number in enumerate(np.bincount(splits[hit]).tolist()):
                if number:
                    self._left_out[SPLITS[place]][kind] += number

    def _compare_images(
        self, files: ImageFolder, good: Sequence[str], by_file: Mapping[str, Sequence[str]]
    ) -> None:
        """Record copies of an image in different splits."""
        if len(self._splits) < 2:
            return
        splits = {
            file: set[str]().union(*(self._images[n].splits for n in names))
            for file, names in by_file.items()
        }
        for name, original in files.same(good).items():
            if splits[name] != splits[original]:
                image = self._images[by_file[name][0]]
                detail = (
                    f"{name!r} ({' and '.join(sorted(splits[name]))}) is a copy of {original!r} "
                    f"({' and '.join(sorted(splits[original]))})"
                )
                self.found.add("image_copy", Case(image.file, image.line, detail))

    def compare_lines(self) -> None:
        """Record duplicate ids and questions."""
        for _, places in self._ids.repeated():
            first = self._name(*places[0])
            for file, line in places[1:]:
                case = Case(self._paths[file], line, f"has the same question_id as {first}")
                self.found.add("duplicate_id", case)
        for numbers, places in self._texts.repeated():
            first = self._name(*places[0])
            for number, (file, line) in zip(numbers[1:], places[1:], strict=True):
                same = self._targets[number] == self._targets[numbers[0]]
                kind = "repeated_question" if same else "conflict"
                end = "the same answer" if same else "another answer"
                detail = f"asks the same question about the same image as {first}, with {end}"
                self.found.add(kind, Case(self._paths[file], line, detail))

    def _name(self, file: int, line: int) -> str:
        return f"{self._paths[file]}:{line}"

    def compare_splits(self) -> None:
        """Record images shared by splits, and splits without enough usable questions."""
        shared: dict[str, set[str]] = defaultdict(set)
        for name, image in self._images.items():
            file = self._image_names.get(name, name) or name
            known = len(shared[file])
            shared[file] |= image.splits
            if known < len(shared[file]) > 1:
                detail = f"{file!r} is in {' and '.join(sorted(shared[file]))}"
                self.found.add("shared_image", Case(image.file, image.line, detail), about=file)
        for split in sorted(self._splits):
            lines, lost = self._lines[split], sum(self._left_out[split].values())
            if lost >= lines:
                self.found.add("no_example", Case("", 0, f"{split} has no usable question"))
            elif lost * 2 > lines:
                detail = f"{split} loses {lost:,} of {count(lines, 'line')}"
                self.found.add("mostly_left_out", Case("", 0, detail))

    def compare_answers(self, vocabulary: AnswerVocabulary | None) -> None:
        """Record answers with several spellings or types, and answers that cannot be learned."""
        by_lower: dict[str, list[str]] = defaultdict(list)
        for name, answer in self._answers.items():
            by_lower[name.lower()].append(name)
            if len(answer.types) > 1:
                detail = f"{name!r} is given as {' and as '.join(sorted(answer.types))}"
                self.found.add("mixed_types", Case(answer.file, answer.line, detail))
            self._place(name, answer, vocabulary)
        for names in by_lower.values():
            if len(names) > 1:
                last = self._answers[names[-1]]
                detail = f"{' and '.join(map(repr, names))} are different answers"
                self.found.add("answer_case", Case(last.file, last.line, detail))
        self.found.share("outside_vocabulary", self._questions.total())
        others = self._questions.total() - self._questions["train"]
        self.found.share("unseen_answer", others)
        taught = [name for name, answer in self._answers.items() if answer.best["train"]]
        if "train" in self._splits and self._questions["train"]:
            if not taught:
                detail = "no training question has an answer with a score above 0"
                self.found.add("no_answers", Case("", 0, detail))
            elif len(taught) == 1:
                detail = f"the only answer in training is {taught[0]!r}"
                self.found.add("one_class", Case("", 0, detail))

    def _place(self, name: str, answer: _Answer, vocabulary: AnswerVocabulary | None) -> None:
        """Record an answer that is the best of some questions but that the model cannot give."""
        if vocabulary is not None:
            count, kind = answer.best.total(), "outside_vocabulary"
            known = vocabulary.best_id({name: 1.0}) != IGNORE_INDEX
        else:
            count, kind = answer.best.total() - answer.best["train"], "unseen_answer"
            known = answer.best["train"] > 0 or "train" not in self._splits
        if count and not known:
            self.found.add(kind, Case(answer.file, answer.line, repr(name)), count=count)

    def report(self) -> Report:
        """Return the report."""
        order = [split for split in SPLITS if split in self._splits]
        return self.found.report({s: self._facts(s) for s in order}, self._image_names)

    def _facts(self, split: str) -> SplitFacts:
        best = Counter({name: a.best[split] for name, a in self._answers.items() if a.best[split]})
        majority, count = best.most_common(1)[0] if best else ("", 0)
        left_out = dict(self._left_out[split])
        return SplitFacts(
            lines=self._lines[split],
            questions=self._lines[split] - sum(left_out.values()),
            images=sum(split in image.splits for image in self._images.values()),
            answers=len(best),
            majority=majority,
            majority_share=count / best.total() if best else 0.0,
            left_out=left_out,
        )


def _count_words(text: str) -> int:
    """Return the number of words and punctuation marks."""
    return len(_WORD.findall(text))
