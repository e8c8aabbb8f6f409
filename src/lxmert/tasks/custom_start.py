"""The first weights of a model and its grid extractor for custom data: random, or those of a model.

A model brings its words and answers; the words and answers of the user are added.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from transformers import BertTokenizer

from lxmert.data.answers import AnswerVocabulary
from lxmert.data.preprocessing import EXTRACTOR_FOLDER
from lxmert.data.tokenizer import add_words, build_tokenizer, load_tokenizer
from lxmert.files import read_json_object
from lxmert.model.answers import answers_of, carry_answers
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertForQuestionAnswering
from lxmert.model.loading import load_initial
from lxmert.names import count
from lxmert.regions.grid import GRID_TYPE, GridConfig, GridExtractor, GridNetwork
from lxmert.tasks.initialization import accept_texts, sizes_of
from lxmert.tasks.texts import ModelSettings

_CONFIG = "config.json"

_logger = logging.getLogger(__name__)


class GridModel(NamedTuple):
    """An untrained or pretrained model with the grid extractor that is trained along with it."""

    tokenizer: BertTokenizer
    extractor: GridNetwork
    model: LxmertForQuestionAnswering


def has_grid(folder: str | Path) -> bool:
    """Return whether a model folder has a grid extractor, which can be trained further."""
    path = Path(folder) / EXTRACTOR_FOLDER / _CONFIG
    return path.is_file() and read_json_object(path).get("model_type") == GRID_TYPE


def start_grid_model(
    settings: ModelSettings,
    texts: Iterable[str],
    answers: AnswerVocabulary,
    *,
    image_size: tuple[int, int],
) -> GridModel:
    """Return the model to train, in training mode.

    Args:
        settings: `init_from` names a model folder with a grid extractor; absent: random weights of
            the sizes given.
        texts: the training questions, whose words the model shall know.
        answers: the answers to choose from.
        image_size: height and width of the resized images, multiples of 16.
    """
    if settings.init_from is None:
        return _random(settings, texts, answers, image_size)
    return _from_folder(settings, Path(settings.init_from), texts, answers, image_size)


def _random(
    settings: ModelSettings,
    texts: Iterable[str],
    answers: AnswerVocabulary,
    image_size: tuple[int, int],
) -> GridModel:
    """Return a model with random weights."""
    tokenizer = build_tokenizer(texts)
    extractor = GridNetwork(GridConfig(height=image_size[0], width=image_size[1]))
    names = answers.answers
    config = LxmertConfig(
        **sizes_of(settings),  # type: ignore[arg-type]
        vocab_size=len(tokenizer),
        max_position_embeddings=max(64, settings.max_text_length),
        num_qa_labels=len(names),
        visual_feat_dim=extractor.config.feature_dim,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        pad_token_id=0,
    )
    return GridModel(tokenizer, extractor, LxmertForQuestionAnswering(config))


def _from_folder(
    settings: ModelSettings,
    folder: Path,
    texts: Iterable[str],
    answers: AnswerVocabulary,
    image_size: tuple[int, int],
) -> GridModel:
    """Return the model of a folder, with the words and answers of the user."""
    known_words = load_tokenizer(folder)
    tokenizer = add_words(known_words, texts)
    model = load_initial(folder, "answering").model
    assert isinstance(model, LxmertForQuestionAnswering)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    accept_texts(model, settings.max_text_length)
    carried = carry_answers(model, answers.answers, old_answers=answers_of(model.config))
    _logger.info(
        "%s: %s added to the %d that it knows, %d of %s keep their weights",
        folder,
        count(len(tokenizer) - len(known_words), "word"),
        len(known_words),
        carried.found,
        count(len(answers), "answer"),
    )
    trained = GridExtractor.from_pretrained(folder / EXTRACTOR_FOLDER).network
    extractor = GridNetwork(trained.config.replace(height=image_size[0], width=image_size[1]))
    extractor.load_state_dict(trained.state_dict())
    return GridModel(tokenizer, extractor, model.train())
