"""Loads the PyTorch model of a folder with its processor."""

from pathlib import Path
from typing import NamedTuple

from lxmert.data.answer_lists import read_answers
from lxmert.data.preprocessing import EXTRACTOR_FOLDER
from lxmert.hub import missing_parts, model_name
from lxmert.model.answers import answers_of, name_answers
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForImageAndTextRetrieval, LxmertForQuestionAnswering
from lxmert.model.loading import load_heads
from lxmert.model.pretrained import read_config
from lxmert.processing import LxmertProcessor


class Parts(NamedTuple):
    """The parts of a pipeline.

    Attributes:
        model: the model that answers, or else the one that matches captions.
        processor: its processor.
        matcher: the model that matches captions, if there is one.
    """

    model: LxmertForQuestionAnswering | LxmertForImageAndTextRetrieval
    processor: LxmertProcessor
    matcher: LxmertForImageAndTextRetrieval | None


def load_parts(
    folder: Path, extractor: str | Path | None, answers: str | Path | None, device: str
) -> Parts:
    """Load a model folder; arguments and errors are those of `LxmertPipeline.from_pretrained`."""
    nameless = answers is None and answers_of(read_config(folder)) is None
    # Before the extractor: the weights of the model take memory while they are checked, and then
    # none until they are used.
    answering, matcher = load_heads(folder)
    processor = LxmertProcessor.from_folder(folder, extractor, device=device)
    if answering is not None and answers is not None:
        _name_answers(answering.config, Path(answers), folder)
    elif answering is not None and nameless and matcher is None:
        number = answering.config.num_qa_labels
        raise missing_parts(folder, extractor=False, num_answers=number)
    model = answering or matcher
    if model is None:
        raise ValueError(
            f"{folder} can neither answer questions nor match captions: fine-tune it with an "
            "answering recipe first"
        )
    model.to(device)  # type: ignore[arg-type]
    if matcher is not None:
        matcher.to(device)  # type: ignore[arg-type]
    return Parts(model, processor, matcher)


def check_parts(
    folder: Path, extractor: str | Path | None = None, answers: str | Path | None = None
) -> None:
    """Raise `ValueError` if a model comes without a part that is not given.

    Only the configuration is read. Pretrained models can match captions without names of answers.
    """
    config = read_config(folder)
    nameless = answers is None and answers_of(config) is None
    sightless = extractor is None and not (folder / EXTRACTOR_FOLDER).is_dir()
    only_answers = config.architectures == [LxmertForQuestionAnswering.__name__]
    if sightless or (nameless and only_answers):
        raise missing_parts(
            folder, extractor=sightless, num_answers=config.num_qa_labels if nameless else None
        )


def _name_answers(config: LxmertConfig, path: Path, folder: Path) -> None:
    """Write an answer list into a configuration that has none."""
    answers, known = read_answers(path).answers, answers_of(config)
    if known is not None and known != answers:
        differing = next(
            (pair for pair in zip(known, answers, strict=False) if pair[0] != pair[1]),
            (f"{len(known)} answers", f"{len(answers)}"),
        )
        raise ValueError(
            f"{path} differs from the answer list of {model_name(folder)} "
            f"({differing[1]!r} instead of {differing[0]!r}): leave the list out"
        )
    name_answers(config, answers)
