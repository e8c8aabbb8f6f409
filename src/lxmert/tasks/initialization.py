"""How a model begins: at random, from BERT, from one of ours, or from a file of the original code."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from transformers import BertTokenizer

from lxmert.data.answer_lists import read_answers
from lxmert.data.corpus import Corpus
from lxmert.data.preprocessing import FILE_NAME, PreprocessorConfig
from lxmert.data.stores import RegionSource
from lxmert.data.tokenizer import build_tokenizer, check_words, load_tokenizer
from lxmert.files import read_json_object
from lxmert.model.answers import answers_of, carry_answers, name_answers
from lxmert.model.bert import bert_config
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertAnsweringModel
from lxmert.model.loading import MODELS, load_initial
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.names import nearest
from lxmert.tasks.texts import ModelSettings, TextCorpus, check_extractor

_logger = logging.getLogger(__name__)


class InitializedModel(NamedTuple):
    """A model before its first step, with what reads texts and regions for it."""

    model: LxmertPreTrainedModel
    tokenizer: BertTokenizer
    preprocessor: PreprocessorConfig

    def read(
        self,
        splits: Sequence[Corpus],
        stores: Sequence[RegionSource],
        files: Sequence[Sequence[str]],
    ) -> tuple[TextCorpus, TextCorpus]:
        """Tokenise training and validation texts as the model reads them, and tell what they are.

        Args:
            splits: training and validation examples.
            stores: the regions of their images.
            files: what they were read from.

        Raises:
            ValueError: if one has no example, or the image of one is not in its store.
        """
        length = self.preprocessor.max_text_length
        training, validation = (
            TextCorpus(corpus, store, self.tokenizer, max_text_length=length)
            for corpus, store in zip(splits, stores, strict=True)
        )
        _logger.info(
            "training on %d texts of %s; validating on %d of %s",
            len(training),
            ", ".join(files[0]),
            len(validation),
            ", ".join(files[1]),
        )
        return training, validation


class ModelSpec(NamedTuple):
    """What a task needs of its model.

    Attributes:
        kind: row of `lxmert.model.loading.MODELS`.
        store: the regions that it reads.
        texts: gives the training texts, from which a tokenizer is built where none is named.
        answers: gives the answers of a model that knows none yet; None for a model without answers.
        answer_list: the answers that the model must have; None: those of the start.
    """

    kind: str
    store: RegionSource
    texts: Callable[[], Iterable[str]]
    answers: Callable[[], Sequence[str]] | None = None
    answer_list: Sequence[str] | None = None


def initialize(settings: ModelSettings, spec: ModelSpec) -> InitializedModel:
    """Make the model of a task as the recipe says.

    Args:
        settings: the table `[model]`; `start` names a model folder, ours or Hugging Face's, a file
            that the code of the original code wrote, or a folder with a BERT; absent: random weights.
        spec: what the task needs.

    Raises:
        FileNotFoundError: if the start or its tokenizer is not there.
        ValueError: if the start does not fit the task; the message lists the weights.
    """
    if settings.init_from is None:
        if spec.kind != "pretraining":
            _logger.warning(
                "the model starts from RANDOM weights, as the recipe has no model.init_from: published "
                "scores need a pretrained one"
            )
        initialized = _initialize_new(settings, spec)
    elif _is_bert(settings.init_from):
        _logger.info("the language layers start from BERT in %s", settings.init_from)
        initialized = _initialize_from_bert(settings, spec, settings.init_from)
    else:
        initialized = _initialize_from_model(settings, spec, settings.init_from)
    _warn_overridden(settings, initialized.model.config)
    for name in settings.reinit:
        reinitialize(initialized.model, name)
    if settings.frozen_first_rows:
        freeze_first_rows(initialized.model)
    return initialized


def _initialize_new(settings: ModelSettings, spec: ModelSpec) -> InitializedModel:
    """Make a model with random weights."""
    tokenizer = _open_tokenizer(settings.tokenizer) or build_tokenizer(spec.texts())
    overrides = sizes_of(settings) | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": max(64, settings.max_text_length),
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LxmertConfig(**overrides, **_ends(spec))  # type: ignore[arg-type]
    return InitializedModel(
        MODELS[spec.kind](config), tokenizer, _preprocessor(settings, spec.store)
    )


def _initialize_from_bert(
    settings: ModelSettings, spec: ModelSpec, folder: str
) -> InitializedModel:
    """Make a model whose language layers are BERT's; its sizes decide, but for numbers of layers.

    Raises:
        ValueError: if tokenizer and weights do not belong together.
    """
    tokenizer = _open_tokenizer(settings.tokenizer or folder)
    layers = {name: getattr(settings, name) for name in ("l_layers", "x_layers", "r_layers")}
    config = bert_config(folder, None, {**layers, **_ends(spec)})
    assert tokenizer is not None
    check_words(tokenizer, config.vocab_size, folder)
    model = MODELS[spec.kind].from_bert(folder, config, allow=settings.allow).train()
    return InitializedModel(model, tokenizer, _preprocessor(settings, spec.store))


def _initialize_from_model(
    settings: ModelSettings, spec: ModelSpec, source: str
) -> InitializedModel:
    """Take over an LXMERT: its weights, its tokenizer, its answers, its length of texts."""
    preprocessor = _preprocessor(settings, spec.store)
    tokenizer = _open_tokenizer(settings.tokenizer)
    if Path(source).is_dir():
        if (Path(source) / FILE_NAME).is_file():
            preprocessor = PreprocessorConfig.load(source)
            owner = f"the extractor of model {source}"
            check_extractor(spec.store, preprocessor.fingerprint, owner)
        tokenizer = tokenizer or _open_tokenizer(source)
    if tokenizer is None:
        raise ValueError(
            f"{source} has no tokenizer in it, expected one: set model.tokenizer to a folder or a "
            "vocab.txt, that of google-bert/bert-base-uncased for the published models"
        )
    loaded = load_initial(
        source,
        spec.kind,
        num_attention_heads=settings.num_attention_heads,
        allow=settings.allow,
    )
    model, config = loaded.model, loaded.model.config
    _logger.info("the model starts from %s", source)
    _log("start at random", loaded.new)
    _log("are not used", loaded.unused)
    check_words(tokenizer, config.vocab_size, source)
    if config.visual_feat_dim != spec.store.header.feature_dim:
        raise ValueError(
            f"{source} reads features of width {config.visual_feat_dim}, but the region store "
            f"{spec.store.folder} has {spec.store.header.feature_dim}: extract the regions "
            "with the eyes of that model"
        )
    if spec.answers is not None:
        assert isinstance(model, LxmertAnsweringModel)
        is_new = any(name.startswith("answer_head.") for name in loaded.new)
        _give_answers(model, settings, spec, is_new=is_new)
    return InitializedModel(model, tokenizer, preprocessor)


def _give_answers(
    model: LxmertAnsweringModel, settings: ModelSettings, spec: ModelSpec, *, is_new: bool
) -> None:
    """Give the answer head the answers of the task, with the rows of those that it knows."""
    answers = spec.answer_list
    if is_new:
        assert spec.answers is not None
        answers = answers or spec.answers()
        model.resize_num_qa_labels(len(answers))
        name_answers(model.config, answers)
        return
    listed = settings.init_answers
    known = answers_of(model.config) if listed is None else read_answers(listed).answers
    if known is None:
        raise ValueError(
            f"{settings.init_from} does not say what its {model.num_qa_labels} answers are: set "
            "model.init_answers to their list, such as all_ans.json for the published pretraining"
        )
    if listed is not None:
        name_answers(model.config, known)
    if answers is None or tuple(answers) == tuple(known):
        return
    carried = carry_answers(model, answers, old_answers=known)
    shown = ", ".join(map(repr, carried.missing[:5]))
    _logger.info(
        "%d of %d answers keep what the start knows of them%s",
        carried.found,
        len(answers),
        f"; new, such as: {shown}" if carried.missing else "",
    )


def reinitialize(model: LxmertPreTrainedModel, name: str) -> None:
    """Give a module the weights that a new model would have.

    Raises:
        ValueError: if the model has no module of this name.
    """
    known = dict(model.named_modules())
    if name not in known:
        likely = ", ".join(nearest(name, known, n=3)) or "those of model.named_modules()"
        raise ValueError(
            f"model.reinit names {name!r}, which is no part of the model: try {likely}"
        )
    for module in known[name].modules():
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = False  # else it is taken for loaded, and left alone
        model._init_weights(module)


def freeze_first_rows(model: LxmertPreTrainedModel) -> None:
    """Let position 0 and segment 0 have no gradient, as in the code of the original code."""

    def without_first_row(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[0] = 0
        return gradient

    for name, parameter in model.named_parameters():
        if name.endswith(("position_embeddings.weight", "token_type_embeddings.weight")):
            parameter.register_hook(without_first_row)  # type: ignore[no-untyped-call]


def sizes_of(settings: ModelSettings) -> dict[str, object]:
    """Return the settings of a model that nothing else decides."""
    return {
        "hidden_size": settings.hidden_size,
        "num_attention_heads": settings.num_attention_heads,
        "intermediate_size": settings.intermediate_size,
        "l_layers": settings.l_layers,
        "x_layers": settings.x_layers,
        "r_layers": settings.r_layers,
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
        "initializer_range": settings.initializer_range,
    }


def _warn_overridden(settings: ModelSettings, config: LxmertConfig) -> None:
    """Warn of sizes that the start decides otherwise; the defaults may not have been asked for."""
    spec, defaults = sizes_of(settings), sizes_of(ModelSettings())
    overruled = [
        f"{name} stays {getattr(config, name)}, not {spec[name]}"
        for name in spec
        if spec[name] not in (defaults[name], getattr(config, name))
    ]
    if overruled:
        _logger.warning(
            "sizes and dropout are those of model.init_from: %s, which has no effect",
            ", ".join(overruled),
        )


def _ends(spec: ModelSpec) -> dict[str, object]:
    """Return what regions and answers decide of a model's configuration."""
    header = spec.store.header
    ends: dict[str, object] = {
        "num_object_labels": len(header.object_names),
        "num_attr_labels": max(1, len(header.attribute_names)),
        "visual_attr_loss": bool(header.attribute_names),
        "visual_feat_dim": header.feature_dim,
    }
    if spec.answers is None:
        return ends
    names = tuple(spec.answer_list or spec.answers())
    return ends | {
        "num_qa_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _preprocessor(settings: ModelSettings, store: RegionSource) -> PreprocessorConfig:
    return PreprocessorConfig(
        fingerprint=store.header.fingerprint, max_text_length=settings.max_text_length
    )


def _is_bert(source: str) -> bool:
    """Tell by its configuration whether a folder holds a BERT.

    Raises:
        FileNotFoundError: if there is nothing at all.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"model.init_from {source} is not there; expected a model folder, a file of the original code such as "
            "model_LXRT.pth, or the folder of a BERT: check the path"
        )
    config = path / "config.json"
    if not config.is_file():
        return False
    return read_json_object(config).get("model_type") == "bert"


def _open_tokenizer(name: str | None) -> BertTokenizer | None:
    """Open the tokenizer of a folder, or of a list of word pieces; None where none is named."""
    return None if name is None else load_tokenizer(name)


def _log(what: str, names: Sequence[str]) -> None:
    """Say which weights are not as in the source, by their heads."""
    if names:
        parts = sorted({name.split(".", 1)[0] for name in names})
        _logger.info("%d weights %s: those of %s", len(names), what, ", ".join(parts))
