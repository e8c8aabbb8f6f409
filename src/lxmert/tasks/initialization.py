"""Model initialization: random, BERT, an lxmert checkpoint, or an original .pth file."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from transformers import BertTokenizer

from lxmert.data.answer_lists import read_answers
from lxmert.data.preprocessing import FILE_NAME, PreprocessorConfig
from lxmert.data.stores import RegionSource
from lxmert.data.tokenizer import add_words, build_tokenizer, check_words, load_tokenizer
from lxmert.files import read_json_object
from lxmert.model.answers import answers_of, carry_answers, name_answers
from lxmert.model.bert import bert_config
from lxmert.model.checkpoints import read_folder
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import LxmertAnsweringModel
from lxmert.model.loading import MODELS, check_initial_folder, load_initial
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.model.pretrained import read_config
from lxmert.names import nearest
from lxmert.tasks.texts import ModelSettings, check_extractor

_logger = logging.getLogger(__name__)


class InitializedModel(NamedTuple):
    """An initialized model with its tokenizer and preprocessor configuration."""

    model: LxmertPreTrainedModel
    tokenizer: BertTokenizer
    preprocessor: PreprocessorConfig


class ModelSpec(NamedTuple):
    """The requirements of a task for its model.

    Attributes:
        kind: row of `lxmert.model.loading.MODELS`.
        store: regions of the training images.
        texts: returns the texts from which a tokenizer is built if none is named.
        answers: returns the answers of a new answer head; None for a model without one.
        answer_list: the answers that the model must have; None: those of the checkpoint.
    """

    kind: str
    store: RegionSource
    texts: Callable[[], Iterable[str]]
    answers: Callable[[], Sequence[str]] | None = None
    answer_list: Sequence[str] | None = None


def initialize(settings: ModelSettings, spec: ModelSpec) -> InitializedModel:
    """Initialize the model of a task from the recipe.

    Args:
        settings: the table `[model]`; `init_from` names the checkpoint; absent: random weights.
        spec: the requirements of the task.

    Raises:
        FileNotFoundError: if the checkpoint or its tokenizer does not exist.
        ValueError: if the checkpoint does not fit the task; the message lists the weights.
    """
    if settings.init_from is None:
        if spec.kind != "pretraining":
            _logger.warning(
                "the model is initialized with RANDOM weights, as the recipe has no "
                "model.init_from; published scores need a pretrained model"
            )
        initialized = _initialize_new(settings, spec)
    elif _is_bert(settings.init_from):
        _logger.info("initializing the language layers from BERT in %s", settings.init_from)
        initialized = _initialize_from_bert(settings, spec, settings.init_from)
    else:
        initialized = _initialize_from_model(settings, spec, settings.init_from)
    _warn_overridden(settings, initialized.model.config)
    for name in settings.reinit:
        reinitialize(initialized.model, name)
    if settings.frozen_first_rows:
        freeze_first_rows(initialized.model)
    return initialized


def check_initial(settings: ModelSettings, kind: str, feature_dim: int) -> None:
    """Check what `initialize` needs from a model folder, before regions are extracted for it.

    Args:
        settings: as for `initialize`.
        kind: row of `lxmert.model.loading.MODELS`.
        feature_dim: width of the region features.

    Raises:
        FileNotFoundError: if the checkpoint or its tokenizer does not exist.
        ValueError: if the weights do not fit, the model expects features of another width, does not
            name its answers, or lacks a module of `reinit`.
    """
    source = settings.init_from
    if source is None or _is_bert(source) or not Path(source).is_dir():
        return
    tokenizer = _open_tokenizer(settings.tokenizer or source)
    config, names = read_config(source), read_folder(source, device="meta")
    assert tokenizer is not None
    check_words(tokenizer, config.vocab_size, source)
    if config.visual_feat_dim != feature_dim:
        raise ValueError(
            f"{source} expects features of width {config.visual_feat_dim}, but the region "
            f"extractor returns {feature_dim}: use the extractor of that model"
        )
    answers = any(name.startswith("answer_head.") for name in names)
    if answers and settings.init_answers is None and answers_of(config) is None:
        raise _nameless(settings, config.num_qa_labels)
    empty = check_initial_folder(source, kind, allow=settings.allow)
    for name in settings.reinit:
        _find_module(empty, name)


def _nameless(settings: ModelSettings, number: int) -> ValueError:
    return ValueError(
        f"{settings.init_from} does not name its {number} answers: set model.init_answers to "
        "their list; that of the published pretraining is named pretraining"
    )


def _initialize_new(settings: ModelSettings, spec: ModelSpec) -> InitializedModel:
    """Initialize a model with random weights."""
    tokenizer = _open_tokenizer(settings.tokenizer) or build_tokenizer(spec.texts())
    overrides = sizes_of(settings) | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": max(64, settings.max_text_length),
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LxmertConfig(**overrides, **_data_sizes(spec))  # type: ignore[arg-type]
    return InitializedModel(
        MODELS[spec.kind](config), tokenizer, _preprocessor(settings, spec.store)
    )


def _initialize_from_bert(
    settings: ModelSettings, spec: ModelSpec, folder: str
) -> InitializedModel:
    """Initialize the language layers from BERT, with its sizes but the recipe's layer counts.

    Raises:
        ValueError: if the tokenizer does not fit the weights.
    """
    tokenizer = _open_tokenizer(settings.tokenizer or folder)
    layers = {name: getattr(settings, name) for name in ("l_layers", "x_layers", "r_layers")}
    config = bert_config(folder, None, {**layers, **_data_sizes(spec)})
    assert tokenizer is not None
    check_words(tokenizer, config.vocab_size, folder)
    model = MODELS[spec.kind].from_bert(folder, config, allow=settings.allow).train()
    return InitializedModel(model, tokenizer, _preprocessor(settings, spec.store))


def _initialize_from_model(
    settings: ModelSettings, spec: ModelSpec, source: str
) -> InitializedModel:
    """Initialize from an LXMERT checkpoint: weights, tokenizer, answers, text length."""
    preprocessor = _preprocessor(settings, spec.store)
    tokenizer = _open_tokenizer(settings.tokenizer)
    if Path(source).is_dir():
        if (Path(source) / FILE_NAME).is_file():
            preprocessor = PreprocessorConfig.load(source)
            if not preprocessor.accepts(spec.store.header.fingerprint):
                owner = f"the extractor of model {source}"
                check_extractor(spec.store, preprocessor.fingerprint, owner)
        tokenizer = tokenizer or _open_tokenizer(source)
    if tokenizer is None:
        raise ValueError(
            f"{source} has no tokenizer: set model.tokenizer to a folder or a vocab.txt; the "
            "published models use that of google-bert/bert-base-uncased"
        )
    loaded = load_initial(
        source,
        spec.kind,
        num_attention_heads=settings.num_attention_heads,
        allow=settings.allow,
    )
    model, config = loaded.model, loaded.model.config
    _logger.info("initializing the model from %s", source)
    _log("are initialized randomly", loaded.new)
    _log("are not used", loaded.unused)
    check_words(tokenizer, config.vocab_size, source)
    if settings.new_words:
        tokenizer = add_words(tokenizer, spec.texts())
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        longest = max(preprocessor.max_text_length, settings.max_text_length)
        preprocessor = preprocessor.replace(max_text_length=longest)
        accept_texts(model, longest)
    if config.visual_feat_dim != spec.store.header.feature_dim:
        raise ValueError(
            f"{source} expects features of width {config.visual_feat_dim}, but the region store "
            f"{spec.store.folder} has {spec.store.header.feature_dim}: extract the regions "
            "with the extractor of that model"
        )
    if spec.answers is not None:
        assert isinstance(model, LxmertAnsweringModel)
        is_new = any(name.startswith("answer_head.") for name in loaded.new)
        _give_answers(model, settings, spec, is_new=is_new)
    return InitializedModel(model, tokenizer, preprocessor)


def _give_answers(
    model: LxmertAnsweringModel, settings: ModelSettings, spec: ModelSpec, *, is_new: bool
) -> None:
    """Set the answers of the answer head, keeping the weights of answers that it knows."""
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
        raise _nameless(settings, model.num_qa_labels)
    if listed is not None:
        name_answers(model.config, known)
    if answers is None or tuple(answers) == tuple(known):
        return
    carried = carry_answers(model, answers, old_answers=known)
    shown = ", ".join(map(repr, carried.missing[:5]))
    _logger.info(
        "%d of %d answers keep their weights from the checkpoint%s",
        carried.found,
        len(answers),
        f"; new answers, such as: {shown}" if carried.missing else "",
    )


def reinitialize(model: LxmertPreTrainedModel, name: str) -> None:
    """Give a module the random weights of a new model.

    Raises:
        ValueError: if the model has no module of this name.
    """
    for module in _find_module(model, name).modules():
        for parameter in module.parameters(recurse=False):
            # Otherwise _init_weights skips it as loaded.
            parameter._is_hf_initialized = False  # type: ignore[attr-defined]
        model._init_weights(module)


def _find_module(model: LxmertPreTrainedModel, name: str) -> nn.Module:
    """Return the module to reinitialize; errors as for `reinitialize`."""
    known: dict[str, nn.Module] = dict(model.named_modules())
    if name not in known:
        likely = ", ".join(nearest(name, known, n=3)) or "those of model.named_modules()"
        raise ValueError(
            f"model.reinit has {name!r}, which is not a module of the model: try {likely}"
        )
    return known[name]


def accept_texts(model: LxmertPreTrainedModel, longest: int) -> None:
    """Add positions to a model that accepts shorter texts only."""
    if longest > model.config.max_position_embeddings:
        model.resize_position_embeddings(longest)


def freeze_first_rows(model: LxmertPreTrainedModel) -> None:
    """Disable the gradients of position 0 and segment 0, as in the original LXMERT code."""

    def without_first_row(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[0] = 0
        return gradient

    for name, parameter in model.named_parameters():
        if name.endswith(("position_embeddings.weight", "token_type_embeddings.weight")):
            parameter.register_hook(without_first_row)  # type: ignore[no-untyped-call]


def sizes_of(settings: ModelSettings) -> dict[str, object]:
    """Return the configuration values that the recipe sets."""
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
    """Warn about sizes set in the recipe that the checkpoint overrides; ignore defaults."""
    spec, defaults = sizes_of(settings), sizes_of(ModelSettings())
    overridden = [
        f"{name} is {getattr(config, name)}, not {spec[name]}"
        for name in spec
        if spec[name] not in (defaults[name], getattr(config, name))
    ]
    if overridden:
        _logger.warning(
            "model.init_from overrides sizes and dropout of the recipe: %s",
            ", ".join(overridden),
        )


def _data_sizes(spec: ModelSpec) -> dict[str, object]:
    """Return the configuration values that follow from the regions and the answers."""
    header = spec.store.header
    sizes: dict[str, object] = {
        "num_object_labels": len(header.object_names),
        "num_attr_labels": max(1, len(header.attribute_names)),
        "visual_attr_loss": bool(header.attribute_names),
        "visual_feat_dim": header.feature_dim,
    }
    if spec.answers is None:
        return sizes
    names = tuple(spec.answer_list or spec.answers())
    return sizes | {
        "num_qa_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _preprocessor(settings: ModelSettings, store: RegionSource) -> PreprocessorConfig:
    return PreprocessorConfig(
        fingerprint=store.header.fingerprint, max_text_length=settings.max_text_length
    )


def _is_bert(source: str) -> bool:
    """Return whether a folder holds a BERT, according to its configuration.

    Raises:
        FileNotFoundError: if the path does not exist.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"model.init_from {source} does not exist; expected a model folder, a file of the "
            "original LXMERT code such as model_LXRT.pth, or a BERT folder: check the path"
        )
    config = path / "config.json"
    if not config.is_file():
        return False
    return read_json_object(config).get("model_type") == "bert"


def _open_tokenizer(name: str | None) -> BertTokenizer | None:
    """Open the tokenizer of a folder or a `vocab.txt`; None if none is named."""
    return None if name is None else load_tokenizer(name)


def _log(what: str, names: Sequence[str]) -> None:
    """Log how many weights differ from the checkpoint, by module."""
    if names:
        parts = sorted({name.split(".", 1)[0] for name in names})
        _logger.info("%d weights %s: %s", len(names), what, ", ".join(parts))
