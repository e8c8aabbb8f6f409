"""Checks, reads and splits the files of a custom data set."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import PositiveInt

from lxmert.data.check import Progress, check_data
from lxmert.data.corpus import Corpus
from lxmert.data.image_folder import ImageFolder
from lxmert.data.report import Report
from lxmert.data.splits import split_by_image
from lxmert.files import read_json_object, write_text
from lxmert.names import reason
from lxmert.records import Record
from lxmert.tasks.inputs import File

REPORT_NAME = "data-report.json"
_AGAIN = "remove the folder and train again"
_DIGEST = "digest"
"""Key of the report for the digest of the files of questions."""

_SHARES = {"train": 0.9, "valid": 0.1}
_NONE = np.zeros(0, np.int64)

_logger = logging.getLogger(__name__)


class CustomData(Record):
    """The files of a custom data set.

    Attributes:
        train: JSONL file of questions: `image`, `question`, `answer`.
        images: folder of the images.
        valid: JSONL file of validation questions, without its lines of another `split`; absent: the
            lines with `split` "valid", or else the questions about a tenth of the images.
        extractor: folder or file of the region extractor; absent: that of `model.init_from`, or
            else a new extractor trained with the model.
        budget: time for trials and training, such as `30m`; absent: no trials, and training ends
            as `[optim]` says.
        start: how to begin within a budget, if neither `data.extractor` nor `model.init_from` is
            given. `random`: with a grid extractor and random weights; `drawings`: with both as
            trained on drawings of shapes; `scenes`: with the bundled model and its detector;
            `backbone`: with grid features of a network that torchvision offers trained on ImageNet,
            downloaded unless it is at hand; `auto`: as short trials decide.
        targets: `soft` trains the score of every answer (binary cross-entropy, as published),
            `single` the best answer (cross-entropy); `auto` is `single` if every question has
            one answer.
        limit_images: number of training images to use, a random subset; absent: all.
        strict: whether any finding of the data check stops the run.
    """

    train: File
    images: File
    valid: File | None = None
    extractor: File | None = None
    budget: str | None = None
    start: Literal["auto", "random", "drawings", "scenes", "backbone"] = "auto"
    targets: Literal["auto", "soft", "single"] = "auto"
    limit_images: PositiveInt | None = None
    strict: bool = False


class UntidyData(ValueError):  # noqa: N818 - describes the data, not an error of the program
    """The data are usable, but `strict` rejects findings of the data check."""


def open_custom_files(
    data: CustomData,
    folder: Path,
    *,
    seed: int,
    longest: int,
    first: bool = True,
    progress: Progress = lambda what, done, total: None,  # noqa: ARG005
) -> tuple[Corpus, Corpus, Report]:
    """Check all files, log the findings, and read and split the questions.

    Args:
        data: the files.
        folder: folder of the run, where the report is written.
        seed: seed of the split and of the random subset.
        longest: maximum text length of the model; words and punctuation marks are counted.
        first: whether this process checks the files; other processes read its report, and must
            be called later.
        progress: called while the files are checked.

    Returns:
        The training questions, the validation questions, and the report of the check.

    Raises:
        UntidyData: if `strict` is set and the check found anything.
        ValueError: if the data cannot be used for training; the message names the report.
    """
    report = _check(data, folder, longest, progress) if first else load_report(folder)
    return *_read(data, report, seed, log=first), report


def read_splits(data: CustomData, folder: Path, *, seed: int) -> tuple[Corpus, Corpus]:
    """Return the training and validation questions of a run that `open_custom_files` began."""
    return _read(data, load_report(folder), seed, log=False)


def load_report(folder: Path) -> Report:
    """Read the report that `open_custom_files` wrote to the folder of a run."""
    path = folder / REPORT_NAME
    values = read_json_object(path, remedy=_AGAIN)
    values.pop(_DIGEST, None)
    try:
        return Report.from_dict(values)
    except ValueError as error:
        raise ValueError(
            f"{path} is not a report of a data check ({reason(error)}): {_AGAIN}"
        ) from error


def _check(data: CustomData, folder: Path, longest: int, progress: Progress) -> Report:
    """Check all files; log the findings and write the report."""
    files = {"train": [data.train]} | ({"valid": [data.valid]} if data.valid else {})
    digest = _digest_of([data.train, *([data.valid] if data.valid else [])])
    path = folder / REPORT_NAME
    known = read_json_object(path, remedy=_AGAIN).get(_DIGEST) if path.is_file() else None
    # Data may be corrected until something, be it a trial, is trained: that writes its recipe.
    if known not in (None, digest) and any(folder.rglob("recipe.toml")):
        raise ValueError(
            f"the questions in {data.train} or data.valid have changed since the run in {folder} "
            "began: choose another folder with -o, or put them back"
        )
    report = check_data(files, images=data.images, longest=longest, decode=True, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    values = report.to_dict() | {_DIGEST: digest}
    write_text(path, json.dumps(values, indent=1) + "\n")
    for line in report.lines():
        _logger.info("%s", line)
    if report.stops():
        raise ValueError(
            "the data cannot be used for training: fix the errors marked 'stop' above (also in "
            f"{folder / REPORT_NAME})"
        )
    if data.strict and report.stops(strict=True):
        raise UntidyData(
            "the data check found problems, and --strict stops at any: fix those reported above "
            f"(also in {folder / REPORT_NAME}), or leave out --strict (data.strict)"
        )
    return report


def _digest_of(paths: Sequence[str]) -> str:
    """Return a digest of the bytes of files; those that do not exist count as empty."""
    digest = hashlib.sha256()
    for path in filter(Path.is_file, map(Path, paths)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _read(data: CustomData, report: Report, seed: int, *, log: bool) -> tuple[Corpus, Corpus]:
    """Return training and validation questions, split by file, by `split`, or by image."""
    corpus = Corpus.read([data.train], resolve=report.resolve)
    rows = corpus.split_rows()
    if "train" not in rows:
        raise ValueError(
            f"{data.train} has only the splits {sorted(rows)}; expected some lines with "
            '"split": "train": leave out "split", or add it to some lines'
        )
    training = corpus.select(rows["train"])
    if data.valid is not None:
        if "valid" not in rows and Path(data.valid).samefile(data.train):
            raise ValueError(
                f"data.train and data.valid are the same file {data.train}, none of whose lines "
                'has "split": "valid": leave data.valid out, to hold out a tenth of the images'
            )
        others = Corpus.read([data.valid], resolve=report.resolve)
        validation = others.select(others.split_rows(default="valid").get("valid", _NONE))
    elif "valid" in rows:
        validation = corpus.select(rows["valid"])
    else:
        training, validation = _split(training, data, seed, log=log)
    training, validation = _answered(training), _answered(validation)
    if not len(validation):
        raise ValueError(
            f"no validation question of {data.valid or data.train} has an answer; expected at "
            "least one: add answers, or name another file of questions, --set data.valid=FILE"
        )
    return _limit(training, data.limit_images, seed), validation


def _split(training: Corpus, data: CustomData, seed: int, *, log: bool) -> tuple[Corpus, Corpus]:
    """Hold out a tenth of the images; copies of an image stay in the same split."""
    copies = ImageFolder(data.images).same(training.image_names)
    split = split_by_image(training, seed=seed, shares=_SHARES, copies=copies)
    parts = training.select(split.rows["train"]), training.select(split.rows["valid"])
    if log:
        _logger.info(
            "%s questions about a tenth of the images are held out for validation",
            f"{len(parts[1]):,}",
        )
        if split.unseen:
            unseen = ", ".join(map(repr, list(split.unseen)[:5]))
            _logger.warning("answers that occur in validation questions only: %s", unseen)
    return parts


def _answered(corpus: Corpus) -> Corpus:
    """Drop the questions without an answer, which the report counts."""
    known = corpus.num_answers() > 0
    return corpus if known.all() else corpus.select(np.flatnonzero(known))


def _limit(training: Corpus, limit: int | None, seed: int) -> Corpus:
    """Keep the questions about a random subset of the images."""
    if limit is None:
        return training
    chosen = np.random.default_rng(seed).permutation(training.used_images)[:limit]
    return training.select(np.flatnonzero(np.isin(training.image_pairs[:, 0], chosen)))
