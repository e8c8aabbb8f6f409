"""Everything about a set of questions and images that can be known without training."""

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.check import Progress, check_data
from lxmert.data.corpus import Corpus
from lxmert.data.records import SPLITS
from lxmert.data.report import Report
from lxmert.data.tokenizer import load_tokenizer
from lxmert.hub import find_model
from lxmert.model.answers import answers_of
from lxmert.model.configuration import LxmertConfig
from lxmert.schema import Example
from lxmert.tasks.baselines import Baselines
from lxmert.tasks.metrics import OVERALL, best_answer, rows_by_question_type
from lxmert.tasks.texts import ModelSettings

RARE = 5
"""Fewer training questions than this are too few to learn an answer from."""
_WORD = re.compile(r"\w+")


class TypeFacts(NamedTuple):
    """The answered questions of one type, or `overall`, in one split.

    Attributes:
        split: `train`, `valid` or `test`.
        name: question type.
        questions: number of questions.
        answers: number of different best answers.
        majority: the most frequent best answer.
        majority_share: its share of the questions.
        question_only: share of the questions for which the most frequent training answer to the
            identical question is right; None for the training questions.
    """

    split: str
    name: str
    questions: int
    answers: int
    majority: str
    majority_share: float
    question_only: float | None


class WordFacts(NamedTuple):
    """Words of one split that the model will not know.

    Attributes:
        split: `train`, `valid` or `test`.
        words: number of different words.
        unknown: the words that no training question has, or that the model does not know, the most
            frequent ones first.
        questions: number of questions with such a word.
    """

    split: str
    words: int
    unknown: list[str]
    questions: int


class DataFacts(NamedTuple):
    """What `check_custom` finds.

    Attributes:
        report: statistics by split and what is wrong.
        types: by split and question type.
        answers: number of training questions by best answer, the most frequent ones first.
        words: by split.
    """

    report: Report
    types: list[TypeFacts]
    answers: dict[str, int]
    words: list[WordFacts]

    @property
    def rare(self) -> list[str]:
        """The answers that fewer than `RARE` training questions have."""
        return [answer for answer, number in self.answers.items() if number < RARE]


def check_custom(
    files: Mapping[str, Path],
    *,
    images: Path | None = None,
    model: str | Path | None = None,
    progress: Progress = lambda what, done, total: None,  # noqa: ARG005
) -> DataFacts:
    """Check a custom data set as training does, and count types, answers and words.

    Args:
        files: question files by split; the `split` of a line takes precedence.
        images: image folder; every image is decoded. None: images are not looked at.
        model: folder or hub name of a model whose words and answers the data are compared with.
            None: words and answers of the training questions.
        progress: called regularly.

    Raises:
        FileNotFoundError: if the model does not exist.
        ValueError: if the model is damaged.
    """
    folder = None if model is None else find_model(model)
    tokenizer = None if folder is None else load_tokenizer(folder)
    names = None if folder is None else answers_of(LxmertConfig.from_pretrained(folder))
    report = check_data(
        {split: [path] for split, path in files.items()},
        images=images,
        answers=AnswerVocabulary(names) if names else None,
        tokenizer=tokenizer,
        longest=ModelSettings().max_text_length,
        decode=True,
        progress=progress,
    )
    parts = _read_splits(files, report)
    known = _count_words(parts["train"]).keys() if tokenizer is None else tokenizer.get_vocab()
    baselines = Baselines.learn(parts["train"])
    types = [each for split in SPLITS for each in _types(split, parts[split], baselines)]
    counted = Counter(best_answer(e.answers) for e in parts["train"] if e.answers)
    words = [_words(split, parts[split], known) for split in SPLITS if parts[split]]
    return DataFacts(report, types, dict(counted.most_common()), words)


def _read_splits(files: Mapping[str, Path], report: Report) -> dict[str, list[Example]]:
    """Return the usable questions of each split."""
    parts: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for split, path in files.items():
        if path.is_file():
            corpus = Corpus.read([path], resolve=report.resolve)
            for name, rows in corpus.split_rows(default=split).items():
                parts[name] += corpus.select(rows)
    return parts


def _types(split: str, examples: Sequence[Example], baselines: Baselines) -> list[TypeFacts]:
    """Return the facts by question type, overall first."""
    answered = [example for example in examples if example.answers]
    if not answered:
        return []
    scores = None if split == "train" else baselines.scores(answered)["question_only"]
    facts = []
    for name, rows in rows_by_question_type(answered).items():
        counted = Counter(best_answer(answered[row].answers) for row in rows)
        majority, number = counted.most_common(1)[0]
        question_only = None if scores is None else scores[name]
        facts.append(
            TypeFacts(
                split, name, len(rows), len(counted), majority, number / len(rows), question_only
            )
        )
    return sorted(facts, key=lambda each: (each.name != OVERALL, each.name))


def _words(split: str, examples: Sequence[Example], known: Container[str]) -> WordFacts:
    """Return the words of a split, and those that are not known."""
    counted = _count_words(examples)
    unknown = [word for word, _ in counted.most_common() if word not in known]
    missing = set(unknown)
    hit = sum(not missing.isdisjoint(_split(example.text)) for example in examples)
    return WordFacts(split, len(counted), unknown, hit)


def _count_words(examples: Sequence[Example]) -> Counter[str]:
    return Counter(word for example in examples for word in _split(example.text))


def _split(text: str) -> list[str]:
    return _WORD.findall(text.lower())
