"""The user's own files: looked at as a whole, told about, read, and split by image."""

import json
import logging
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import PositiveInt
from transformers import BertTokenizer

from lxmert.data.check import Progress, check_data
from lxmert.data.corpus import Corpus
from lxmert.data.image_folder import ImageFolder
from lxmert.data.report import Report
from lxmert.data.splits import split_by_image
from lxmert.files import read_json_object, write_text
from lxmert.records import Record
from lxmert.tasks.inputs import File

REPORT_NAME = "data-report.json"
_AGAIN = "remove the folder and train again"

_SHARES = {"train": 0.9, "valid": 0.1}

_logger = logging.getLogger(__name__)


class CustomData(Record):
    """The user's files.

    Attributes:
        train: JSONL file of questions: `image`, `question`, `answer`.
        images: folder of the images.
        valid: JSONL file of validation questions; absent: the lines whose `split` says so, else
            those of a tenth of the images.
        extractor: folder or file of an extractor that gives the regions; absent: those of the model to
            start from, else eyes that are trained along.
        targets: `soft` trains the score of every answer (binary cross-entropy, as published),
            `single` the best one (cross-entropy); `auto`: single where each question has one.
        limit_images: so many training images only, drawn at random; absent: all.
        strict: whether anything untidy stops the run.
    """

    train: File
    images: File
    valid: File | None = None
    extractor: File | None = None
    targets: Literal["auto", "soft", "single"] = "auto"
    limit_images: PositiveInt | None = None
    strict: bool = False


class UntidyData(ValueError):  # noqa: N818 - it is what was found, not a mistake of ours
    """The data could be trained on, but are not as tidy as was asked for."""


class OwnFiles(NamedTuple):
    """What is trained on.

    Attributes:
        training: the training questions.
        validation: those that decide which weights are best.
        report: what was found in all of them.
    """

    training: Corpus
    validation: Corpus
    report: Report


def open_custom_files(
    data: CustomData,
    folder: Path,
    *,
    seed: int,
    longest: int,
    tokenizer: BertTokenizer | None = None,
    first: bool = True,
    progress: Progress = lambda what, done, total: None,  # noqa: ARG005
) -> OwnFiles:
    """Look at all files, tell what was found, and read and split the questions.

    Args:
        data: names them.
        folder: of the run, where the report is kept.
        seed: of the split and of the images that are drawn.
        longest: tokens of a text that the model reads.
        tokenizer: by which texts are measured; absent: by words and signs.
        first: whether this is the process that looks and tells; the others take its report, and
            must come later.
        progress: called while the files are looked at.

    Raises:
        UntidyData: if the data are to be strictly tidy and something was found.
        ValueError: if they cannot be trained on; the message says where it is reported why.
    """
    report = _look(data, folder, longest, tokenizer, progress) if first else load_report(folder)
    training, validation = _read(data, report, seed, log=first)
    return OwnFiles(training, validation, report)


def load_report(folder: Path) -> Report:
    """Read the report that `open_custom_files` kept in the folder of a run."""
    path = folder / REPORT_NAME
    values = read_json_object(path, remedy=_AGAIN)
    try:
        return Report.from_dict(values)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no report of a data set ({error!r}): {_AGAIN}") from error


def _look(
    data: CustomData,
    folder: Path,
    longest: int,
    tokenizer: BertTokenizer | None,
    progress: Progress,
) -> Report:
    """Look at everything first; tell and keep what was found."""
    files = {"train": [data.train]} | ({"valid": [data.valid]} if data.valid else {})
    report = check_data(
        files,
        images=data.images,
        tokenizer=tokenizer,
        longest=longest,
        decode=True,
        progress=progress,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / REPORT_NAME, json.dumps(report.to_dict(), indent=1) + "\n")
    for line in report.lines():
        _logger.info("%s", line)
    if report.stops():
        raise ValueError(
            "the data cannot be trained on: fix what is marked 'stop' above and in "
            f"{folder / REPORT_NAME}"
        )
    if data.strict and report.stops(strict=True):
        raise UntidyData(
            "the data are not tidy, and --strict stops at anything: fix what is reported above and in "
            f"{folder / REPORT_NAME}, or leave out --strict (data.strict)"
        )
    return report


def _read(data: CustomData, report: Report, seed: int, *, log: bool) -> tuple[Corpus, Corpus]:
    """Return training and validation questions, by file, by their `split`, or by image."""
    corpus = Corpus.read([data.train], resolve=report.resolve)
    rows = corpus.split_rows()
    if "train" not in rows:
        raise ValueError(
            f"{data.train} has no question to train on, only of the splits {sorted(rows)}: leave "
            "'split' out, or give some lines the split train"
        )
    training = corpus.select(rows["train"])
    if data.valid is not None:
        validation = Corpus.read([data.valid], resolve=report.resolve)
    elif "valid" in rows:
        validation = corpus.select(rows["valid"])
    else:
        training, validation = _split(training, data, seed, log=log)
    return _limit(_answered(training), data.limit_images, seed), _answered(validation)


def _split(training: Corpus, data: CustomData, seed: int, *, log: bool) -> tuple[Corpus, Corpus]:
    """Set a tenth of the images aside, copies together with what they are copies of."""
    copies = ImageFolder(data.images).same(training.image_names)
    split = split_by_image(training, seed=seed, shares=_SHARES, copies=copies)
    parts = training.select(split.rows["train"]), training.select(split.rows["valid"])
    if log:
        _logger.info(
            "%s questions about a tenth of the images are kept for validation",
            f"{len(parts[1]):,}",
        )
        if split.unseen:
            unseen = ", ".join(map(repr, list(split.unseen)[:5]))
            _logger.warning("answers of the validation questions only: %s", unseen)
    return parts


def _answered(corpus: Corpus) -> Corpus:
    """Leave out the questions without an answer, which teach nothing; the report counts them."""
    known = corpus.num_answers() > 0
    return corpus if known.all() else corpus.select(np.flatnonzero(known))


def _limit(training: Corpus, limit: int | None, seed: int) -> Corpus:
    """Keep the questions about so many images, drawn at random."""
    if limit is None:
        return training
    chosen = np.random.default_rng(seed).permutation(training.used_images)[:limit]
    return training.select(np.flatnonzero(np.isin(training.image_pairs[:, 0], chosen)))
