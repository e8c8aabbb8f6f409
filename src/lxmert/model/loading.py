"""Loading and saving of models: Hugging Face folders and original checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lxmert.files import atomic_path, check_absent
from lxmert.model.checkpoints import check_fit, read_folder
from lxmert.model.configuration import LxmertConfig
from lxmert.model.heads import (
    LxmertForImageAndTextRetrieval,
    LxmertForImagesAndTextClassification,
    LxmertForQuestionAnswering,
)
from lxmert.model.modeling import LxmertModel, LxmertPreTrainedModel
from lxmert.model.original import read_original, to_original
from lxmert.model.pretrained import read_config
from lxmert.model.pretraining import LxmertForPreTraining
from lxmert.tensor_files import State, report_write_errors
from lxmert.weight_files import find_weights, is_safetensors

MODELS: dict[str, type[LxmertPreTrainedModel]] = {
    "encoder": LxmertModel,
    "pretraining": LxmertForPreTraining,
    "answering": LxmertForQuestionAnswering,
    "pairs": LxmertForImagesAndTextClassification,
    "retrieval": LxmertForImageAndTextRetrieval,
}
"""Model class by kind of weights; original checkpoints have all kinds but the last."""

_KIND_OF_PREFIX = {
    "cls.predictions.": "pretraining",
    "classifier.": "pairs",
    "answer_head.": "answering",
    "cls.seq_relationship.": "retrieval",
}
"""Prefix of a weight -> kind of weights; the first match decides, `encoder` if there is none."""

_OTHER_HEADS = {
    "encoder": ("cls", "obj_predict_head", "answer_head", "classifier"),
    "pretraining": ("classifier",),
    "answering": ("cls", "obj_predict_head", "classifier"),
    "pairs": ("cls", "obj_predict_head", "answer_head"),
    "retrieval": ("cls.predictions", "obj_predict_head", "answer_head", "classifier"),
}
"""Kind of model -> heads of other kinds, which it does not use."""

SECOND_HEADS = {"answering": ("cls.seq_relationship",)}
"""Kind of model -> a head of another kind that its folder may contain; `load_heads` loads both."""

_NEVER_PRETRAINED = {"pairs": ("classifier",)}
"""Kind of model -> its heads that pretraining does not have."""


class LoadedInitial(NamedTuple):
    """A model initialized from a checkpoint.

    Attributes:
        model: the model, in float32 and evaluation mode.
        new: names of weights that are initialized randomly.
        unused: names of weights of the checkpoint that the model does not use.
    """

    model: LxmertPreTrainedModel
    new: tuple[str, ...]
    unused: tuple[str, ...]


class Heads(NamedTuple):
    """The models of a folder for answering and matching, which share their encoder.

    Attributes:
        answering: the question-answering model; None if there is no such head.
        matching: the retrieval model; None if there is no such head or it was not trained.
    """

    answering: LxmertForQuestionAnswering | None
    matching: LxmertForImageAndTextRetrieval | None


def load_original(
    path: str | Path,
    *,
    num_attention_heads: int | None = None,
    allow: Sequence[str] = (),
) -> LxmertPreTrainedModel:
    """Load an original checkpoint; the configuration is inferred from its shapes.

    `model_LXRT.pth` and `EpochNN_LXRT.pth` become an `LxmertForPreTraining`; `BEST.pth` and
    `LAST.pth` of VQA or GQA an `LxmertForQuestionAnswering`, those of NLVR2 an
    `LxmertForImagesAndTextClassification`. The files do not name the answers: set them with
    `lxmert.model.answers.name_answers`.

    Args:
        path: the file.
        num_attention_heads: not recorded in the file; None: `hidden_size / 64`, as in all published
            models.
        allow: names, or dot-separated prefixes, of weights that may be unused (names of the file)
            or missing and randomly initialized (names of the model): `("cls.predictions",)` for
            the word head.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not an original checkpoint, is damaged, contains code, or does not fit.
    """
    original = read_original(path, num_attention_heads=num_attention_heads)
    return fill_model(
        path, original.kind, original.config, original.state, unknown=original.unknown, allow=allow
    )


def load_model(folder: str | Path, *, allow: Sequence[str] = ()) -> LxmertPreTrainedModel:
    """Load the model of a Hugging Face folder, from safetensors or `.bin`.

    Unlike `from_pretrained`, it detects the class by the names of the weights, and all weights are
    required.

    Args:
        folder: folder with `config.json` and weights.
        allow: as in `load_original`.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: if the folder lacks configuration or weights.
        ValueError: if they are damaged, contain code, or do not fit each other.
    """
    config, state = read_config(folder), read_folder(folder)
    kind = find_kind(state)
    state = rename_encoder(state, kind, kind)
    return fill_model(folder, kind, config, state, allow=(*allow, *SECOND_HEADS.get(kind, ())))


def load_initial(
    source: str | Path,
    kind: str,
    *,
    num_attention_heads: int | None = None,
    allow: Sequence[str] = (),
) -> LoadedInitial:
    """Initialize a model of some kind from weights of any kind, for further training.

    Heads of other kinds are ignored, and heads without pretrained weights are initialized randomly;
    the result lists both. All other weights must fit.

    Args:
        source: Hugging Face folder, or original checkpoint.
        kind: row of `MODELS`.
        num_attention_heads: as in `load_original`.
        allow: as in `load_original`.

    Raises:
        FileNotFoundError: if the file, the configuration or the weights do not exist.
        ValueError: listing weights that are missing, unused or misshapen.
    """
    unknown: tuple[str, ...] = ()
    if Path(source).is_dir():
        config, state = read_config(source), read_folder(source)
        found = find_kind(state)
    else:
        original = read_original(source, num_attention_heads=num_attention_heads)
        config, state, unknown = original.config, original.state, original.unknown
        found = original.kind
    state = rename_encoder(state, found, kind)
    state = {n: value.float() if value.is_floating_point() else value for n, value in state.items()}
    model = fill_model(
        source, kind, config, state, unknown=unknown, allow=(*_initial_heads(kind), *allow)
    )
    own, tied = model.state_dict(), model.all_tied_weights_keys
    return LoadedInitial(
        model,
        tuple(
            name
            for name, value in own.items()
            if name not in tied and (name not in state or state[name].shape != value.shape)
        ),
        (*unknown, *(name for name in state if name not in own)),
    )


def check_initial_folder(
    folder: str | Path, kind: str, *, allow: Sequence[str] = ()
) -> LxmertPreTrainedModel:
    """Compare the weights of a Hugging Face folder with the model that `load_initial` makes.

    Only names and shapes are read. Arguments and errors are those of `load_initial`.

    Returns:
        The model on the meta device: its modules without values.
    """
    config, state = read_config(folder), read_folder(folder, device="meta")
    empty = empty_model(kind, config)
    check_fit(
        folder,
        rename_encoder(state, find_kind(state), kind),
        empty.state_dict(),
        tied=empty.all_tied_weights_keys,
        allow=(*_initial_heads(kind), *allow),
    )
    return empty


def _initial_heads(kind: str) -> tuple[str, ...]:
    """Return the heads that the weights that initialize a model need not have, or may have."""
    return (*_OTHER_HEADS[kind], *_NEVER_PRETRAINED.get(kind, ()))


def load_heads(folder: str | Path) -> Heads:
    """Load the answering and the matching model of a folder, fine-tuned or pretrained.

    Raises:
        FileNotFoundError: if the folder lacks configuration or weights.
        ValueError: if they are damaged, contain code, or do not fit each other.
    """
    config, state = read_config(folder), read_folder(folder)
    prefixes = {"answering": "answer_head."}
    if config.task_matched:
        prefixes["retrieval"] = "cls.seq_relationship."
    models = {}
    for kind, prefix in prefixes.items():
        if not any(name.startswith(prefix) for name in state):
            continue
        own_config = read_config(folder)  # models change theirs
        try:
            models[kind] = fill_model(folder, kind, own_config, state, allow=_OTHER_HEADS[kind])
        except ValueError as error:
            raise ValueError(
                f"the weights in {folder} do not fit its config.json; expected both from the same "
                f"model: {error}"
            ) from error
    answering, matching = models.get("answering"), models.get("retrieval")
    assert isinstance(answering, LxmertForQuestionAnswering | None)
    assert isinstance(matching, LxmertForImageAndTextRetrieval | None)
    if answering is not None and matching is not None:
        matching.lxmert = answering.lxmert
    if all(map(is_safetensors, find_weights(Path(folder)))):
        # The checks have brought all of the mapped files into memory. Mapped again, they take
        # memory only when they are used.
        state = read_folder(folder)
        for model in filter(None, (answering, matching)):
            model.load_state_dict(state, strict=False, assign=True)
    return Heads(answering, matching)


def save_original(model: LxmertPreTrainedModel, path: str | Path) -> None:
    """Save the weights of a model as an original checkpoint.

    Raises:
        FileExistsError: if the file exists.
        OSError: if it cannot be written; no partial file remains.
        ValueError: if the original LXMERT code has no such model.
    """
    path = Path(path)
    check_absent(path, remedy="choose another file name")
    kind = next((kind for kind, known in MODELS.items() if type(model) is known), "")
    if kind in ("", "retrieval"):
        raise ValueError(
            f"the original LXMERT code has no file for a {type(model).__name__}: save a folder"
        )
    with atomic_path(path) as part, report_write_errors():
        torch.save(to_original(kind, model.state_dict()), part)


def find_kind(state: Mapping[str, Tensor]) -> str:
    """Return the row of `MODELS` for weights in the Hugging Face layout."""
    for prefix, kind in _KIND_OF_PREFIX.items():
        if any(name.startswith(prefix) for name in state):
            return kind
    return "encoder"


def rename_encoder(state: Mapping[str, Tensor], found: str, kind: str) -> State:
    """Return weights of the kind `found` by the names that models of the kind `kind` use.

    The names of the encoder's weights start with `lxmert.` in all models but the encoder itself.
    """
    if "encoder" not in (found, kind):
        return dict(state)
    prefix = "" if kind == "encoder" else "lxmert."
    return {f"{prefix}{name.removeprefix('lxmert.')}": value for name, value in state.items()}


def empty_model(kind: str, config: LxmertConfig) -> LxmertPreTrainedModel:
    """Return a model on the meta device: names and shapes of its weights, without values."""
    with torch.device("meta"):
        return MODELS[kind](config)


def fill_model(
    source: str | Path,
    kind: str,
    config: LxmertConfig,
    state: Mapping[str, Tensor],
    *,
    unknown: Sequence[str] = (),
    allow: Sequence[str] = (),
) -> LxmertPreTrainedModel:
    """Build a model and load weights, which keep their dtype.

    Args:
        source: origin of the weights, for the message.
        kind: row of `MODELS`.
        config: configuration of the model.
        state: tensors by the names of the model.
        unknown: names in the source that no model has.
        allow: as in `load_original`.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: if the weights do not fit the model.
    """
    empty = empty_model(kind, config)
    fitting = check_fit(
        source,
        state,
        empty.state_dict(),
        tied=empty.all_tied_weights_keys,
        unknown=unknown,
        allow=allow,
    )
    dtype = next((value.dtype for value in fitting.values()), torch.float32)
    model = MODELS[kind].from_pretrained(None, config=config, state_dict=fitting, dtype=dtype)
    assert isinstance(model, LxmertPreTrainedModel)
    return model
