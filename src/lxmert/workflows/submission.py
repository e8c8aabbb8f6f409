"""Answers to whole files, from images or from stored regions, in the leaderboards' formats."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lxmert.data.collate import collate_regions, collate_text, normalize_boxes
from lxmert.data.corpus import Corpus
from lxmert.data.image_folder import ImageFolder
from lxmert.data.preprocessing import FILE_NAME, PreprocessorConfig
from lxmert.data.readers import check_unique_ids
from lxmert.data.records import read_rows, require
from lxmert.data.stores import open_regions
from lxmert.data.tokenizer import check_words, load_tokenizer
from lxmert.data.tokens import Tokens
from lxmert.devices import check_device
from lxmert.hub import find_model
from lxmert.metrics.fields import Record, text_field
from lxmert.metrics.files import check_coverage, collect, read_json_lines, read_mapping
from lxmert.metrics.nlvr2 import sentence_key
from lxmert.metrics.submissions import (
    write_gqa_submission,
    write_nlvr2_submission,
    write_vqa_submission,
)
from lxmert.metrics.vqa import read_vqa_questions, to_question_id
from lxmert.model.answers import answers_of
from lxmert.model.checkpoints import read_folder
from lxmert.model.loading import find_kind, load_heads, load_model
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.names import count
from lxmert.processing import LxmertProcessor
from lxmert.schema import Answer, Example, Regions
from lxmert.tasks.texts import check_extractor
from lxmert.workflows.prediction import Progress, predict_file, write_predictions

Form = Literal["jsonl", "vqa", "gqa", "nlvr2"]

_EXAMPLES_AT_ONCE = 32


class Sight(NamedTuple):
    """How the regions of images are had.

    Attributes:
        see: gives the regions of images by their ids.
        lacks: tells whether an image is not there.
        where: for messages.
    """

    see: Callable[[Sequence[str]], list[Regions]]
    lacks: Callable[[str], bool]
    where: str


class Asked(NamedTuple):
    """What is asked, and where it is to be seen.

    Attributes:
        data: JSONL file of questions, or of statements about two images.
        images: folder of the images; None where regions are stored.
        regions: stores of the regions; empty where there are images.
        official: the official file, whose ids must all be answered, in its order; None: those of
            `data`.
    """

    data: Path
    images: Path | None = None
    regions: tuple[Path, ...] = ()
    official: Path | None = None


def submit(
    model: str | Path, asked: Asked, output: Path, form: Form, *, device: str, progress: Progress
) -> int:
    """Answer every question of a file and write the answers; ids are checked first.

    Args:
        model: folder or hub name of a model that answers questions or judges statements.
        asked: the questions and their images.
        output: file to write, under its name only when it is whole and valid.
        form: key of `BOARDS`; or `jsonl`, that of `predict_file`.
        device: where to compute.
        progress: called with the numbers of questions done and in all.

    Returns:
        The number of questions.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a question cannot be answered, the model is of another kind than the format,
            or the leaderboard would refuse the file.
    """
    check_device(device)
    folder = find_model(model)
    judges = judges_statements(folder)
    if form == "jsonl" and not judges and asked.images is not None:
        return predict_file(
            model, asked.data, asked.images, output, progress=progress, device=device
        )
    if form != "jsonl" and judges != (form == "nlvr2"):
        does = "judges statements about two images" if judges else "answers questions"
        raise ValueError(
            f"{folder} {does}, which is not what the format {form} is for: take "
            f"{'--format nlvr2' if judges else '--format vqa or gqa'}, or another model"
        )
    corpus = Corpus.of(_read(asked.data, ids_needed=form != "jsonl"))
    if not len(corpus):
        raise ValueError(f"{asked.data} holds no question: one JSON object a line is needed")
    if form == "jsonl":
        if asked.official is not None:
            raise ValueError("--official is for the leaderboards' formats: leave it out")
        predictions = answer_corpus(folder, corpus, asked, device=device, progress=progress)
        write_predictions(output, corpus, predictions)
        return len(corpus)
    asked_ids, wanted = _match_ids(BOARDS[form], corpus, asked)
    predictions = answer_corpus(folder, corpus, asked, device=device, progress=progress)
    answers = {key: found.answer for key, found in zip(asked_ids, predictions, strict=True)}
    BOARDS[form].write(output, answers, wanted)
    return len(corpus)


def answer_corpus(
    folder: Path, corpus: Corpus, asked: Asked, *, device: str, progress: Progress
) -> list[Answer]:
    """Answer questions, or judge statements, and return the best answer to each of them.

    Args:
        folder: of a model that does.
        corpus: the questions.
        asked: where their images are to be seen.
        device: where to compute.
        progress: as for `submit`.

    Raises:
        ValueError: if one cannot be answered.
    """
    sight = _open_images(folder, asked, device)
    judges = judges_statements(folder)
    predictor = _Predictor(folder, sight, judges=judges, device=device)
    return list(predictor.predict(corpus, progress))


def judges_statements(folder: Path) -> bool:
    """Tell whether a model judges statements about two images, or answers questions.

    Raises:
        ValueError: if it does neither.
    """
    kind = find_kind(read_folder(folder, device="meta"))
    if kind not in ("pairs", "answering", "pretraining"):
        raise ValueError(
            f"{folder} holds a model of the kind {kind}, which answers nothing: fine-tune it with "
            "an answering or a pairs recipe first"
        )
    return kind == "pairs"


def _read(path: Path, *, ids_needed: bool) -> Iterator[Example]:
    """Yield the questions of a file.

    Raises:
        ValueError: naming the first line that cannot be used, or the first two of the same id.
    """
    for row in check_unique_ids(read_rows(path), path):
        example = require(row, path)
        if ids_needed and not row.has_id:
            raise ValueError(
                f"{path} line {row.line} has no 'question_id', by which the leaderboard knows the "
                "question: make the file with `lxmert data build`"
            )
        yield example


def _open_images(folder: Path, asked: Asked, device: str) -> Sight:
    """Return how images are seen: by the model's eyes, or out of stores.

    Raises:
        ValueError: if the regions are those of other eyes.
    """
    if asked.images is not None:
        images = ImageFolder(asked.images)
        extractor = LxmertProcessor.from_pretrained(folder, device=device).extractor

        def look(ids: Sequence[str]) -> list[Regions]:
            names = [images.match(image_id).name or image_id for image_id in ids]
            return extractor([images.folder / name for name in names])

        return Sight(look, lambda name: images.match(name).name is None, str(asked.images))
    source = open_regions([str(path) for path in asked.regions])
    if (folder / FILE_NAME).is_file():
        known = PreprocessorConfig.load(folder).fingerprint
        check_extractor(source, known, f"the extractor of model {folder}")
    return Sight(
        lambda ids: [source[image_id] for image_id in ids],
        lambda name: name not in source,
        f"the region store {source.folder}",
    )


class _Predictor:
    """A model with its tokenizer, batch by batch."""

    def __init__(self, folder: Path, sight: Sight, *, judges: bool, device: str) -> None:
        self.judges, self.device, self.sight = judges, device, sight
        self.longest = PreprocessorConfig(fingerprint="").max_text_length
        if (folder / FILE_NAME).is_file():
            self.longest = PreprocessorConfig.load(folder).max_text_length
        self.tokenizer = load_tokenizer(folder)
        model = load_model(folder) if judges else load_heads(folder).answering
        assert isinstance(model, LxmertPreTrainedModel)
        check_words(self.tokenizer, model.config.vocab_size, folder)
        self.names = ("False", "True") if judges else answers_of(model.config)
        if self.names is None:
            raise ValueError(
                f"{folder} does not name its answers: name them with `lxmert convert {folder} OUT "
                "--answers LIST`"
            )
        self.model = model.to(device)  # type: ignore[arg-type]

    def predict(self, corpus: Corpus, progress: Progress) -> Iterator[Answer]:
        """Yield the best answer to each question."""
        wanted = 2 if self.judges else 1
        counts = (corpus.image_pairs >= 0).sum(axis=1)
        if (counts != wanted).any():
            row = int((counts != wanted).argmax())
            raise ValueError(
                f"{corpus.example_id(row)!r} is about {counts[row]} images, but the model reads "
                f"{wanted} beside each text"
            )
        self._check_images(corpus)
        tokens = Tokens(corpus.texts(), self.tokenizer, longest=self.longest)
        for start in range(0, len(corpus), _EXAMPLES_AT_ONCE):
            rows = range(start, min(start + _EXAMPLES_AT_ONCE, len(corpus)))
            yield from self._predict_rows(corpus, tokens, rows)
            progress(rows.stop, len(corpus))

    def _check_images(self, corpus: Corpus) -> None:
        """Refuse images that are not there, before anything is computed."""
        names = [corpus.image_names[image] for image in corpus.used_images]
        missing = [name for name in names if self.sight.lacks(name)]
        if missing:
            raise ValueError(
                f"{self.sight.where} lacks {len(missing):,} of {count(len(names), 'image')}, such "
                f"as {min(missing)!r}: every question must be answered"
            )

    def _predict_rows(self, corpus: Corpus, tokens: Tokens, rows: range) -> Iterator[Answer]:
        names = [corpus.image_ids(row) for row in rows]
        unique = list(dict.fromkeys(name for images in names for name in images))
        seen = dict(zip(unique, self.sight.see(unique), strict=True))
        text = collate_text([tokens[row] for row in rows], pad_id=self.tokenizer.pad_token_id)
        ordered = [name for images in names for name in images]
        image = collate_regions(
            [seen[name].features for name in ordered],
            [normalize_boxes(seen[name], name=f"image {name!r}") for name in ordered],
        )
        if self.judges:
            # [batch * 2, ...] -> [batch, 2, ...]
            image = {n: v.reshape(len(rows), 2, *v.shape[1:]) for n, v in image.items()}
        inputs = {name: value.to(self.device) for name, value in (text | image).items()}
        with torch.inference_mode():
            scores: Tensor = self.model(**inputs, return_dict=False)[0]
        best = scores.float().softmax(-1).max(-1)
        assert self.names is not None
        for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            yield Answer(self.names[index], score)


class Board(NamedTuple):
    """A leaderboard.

    Attributes:
        key: its own id of a question whose id is a text; refuses one of the wrong form.
        read: reads the ids in an official file of it, in their order.
        write: writes the answers by id, for all ids in their order.
    """

    key: Callable[[str], Any]
    read: Callable[[Path], list[Any]]
    write: Callable[[Path, dict[Any, str], list[Any]], None]


def _match_ids(board: Board, corpus: Corpus, asked: Asked) -> tuple[list[Any], list[Any]]:
    """Return the ids of the questions, and those that the leaderboard wants, in its order.

    Raises:
        ValueError: if they are not the same, one is there twice, or has the wrong form.
    """
    ids = [board.key(corpus.example_id(row)) for row in range(len(corpus))]
    known = collect(((key, None) for key in ids), asked.data)
    if asked.official is None:
        return ids, ids
    wanted = board.read(asked.official)
    check_coverage(known, wanted, name=str(asked.data), reference=str(asked.official))
    return ids, wanted


def _vqa_key(question_id: str) -> int:
    number = to_question_id(question_id)
    if not isinstance(number, int):
        raise ValueError(
            f"the question id {question_id[:60]!r} is no number of at most 18 digits, as VQA's "
            "are: is this VQA?"
        )
    return number


def _nlvr2_key(question_id: str) -> str:
    sentence_key(question_id)
    return question_id


def _read_gqa(path: Path) -> list[str]:
    return list(collect(read_mapping(path, len), path))


def _read_nlvr2(path: Path) -> list[str]:
    def parse(entry: Record) -> tuple[str, None]:
        return text_field(entry, "identifier"), None

    return list(collect(read_json_lines(path, parse), path))


def _write_nlvr2(path: Path, answers: dict[str, str], ids: list[str]) -> None:
    truths = {key: answer == "True" for key, answer in answers.items()}
    write_nlvr2_submission(path, truths, identifiers=ids)


BOARDS = {
    "vqa": Board(
        _vqa_key,
        read_vqa_questions,
        lambda path, answers, ids: write_vqa_submission(path, answers, question_ids=ids),
    ),
    "gqa": Board(
        str,
        _read_gqa,
        lambda path, answers, ids: write_gqa_submission(path, answers, question_ids=ids),
    ),
    "nlvr2": Board(_nlvr2_key, _read_nlvr2, _write_nlvr2),
}
"""By the format of predictions that `lxmert predict` knows."""
