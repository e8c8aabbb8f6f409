"""Models from files and back: Hugging Face folders, and the parameter files of the original code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lxmert.files import atomic_path
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
from lxmert.tensor_files import report_write_errors

MODELS: dict[str, type[LxmertPreTrainedModel]] = {
    "encoder": LxmertModel,
    "pretraining": LxmertForPreTraining,
    "answering": LxmertForQuestionAnswering,
    "pairs": LxmertForImagesAndTextClassification,
    "retrieval": LxmertForImageAndTextRetrieval,
}
"""Kind of weights -> the model that they fill; all but the last are kinds of files of the original code too."""

_MARKS = {
    "cls.predictions.": "pretraining",
    "cls.seq_relationship.": "retrieval",
    "classifier.": "pairs",
    "answer_head.": "answering",
}
"""Beginning of a name that tells the kind, the first that is found."""

_OTHER_HEADS = {
    "encoder": ("cls", "obj_predict_head", "answer_head", "classifier"),
    "pretraining": ("classifier",),
    "answering": ("cls", "obj_predict_head", "classifier"),
    "pairs": ("cls", "obj_predict_head", "answer_head"),
    "retrieval": ("cls.predictions", "obj_predict_head", "answer_head", "classifier"),
}
"""Kind of model -> heads of the other kinds, for which it has no use."""

_NEVER_PRETRAINED = {"pairs": ("classifier",)}
"""Kind of model -> its heads that no pretraining has."""


class Start(NamedTuple):
    """A model to be trained further.

    Attributes:
        model: in float32 and evaluation mode.
        new: names of weights that start at random.
        unused: names of weights in the source that this kind of model has no use for.
    """

    model: LxmertPreTrainedModel
    new: tuple[str, ...]
    unused: tuple[str, ...]


class Heads(NamedTuple):
    """What a folder can do; both heads share one body.

    Attributes:
        answering: answers questions; None where there is no such head.
        matching: matches captions; None where there is no such head, or it was not trained.
    """

    answering: LxmertForQuestionAnswering | None
    matching: LxmertForImageAndTextRetrieval | None


def load_original(
    path: str | Path,
    *,
    num_attention_heads: int | None = None,
    allow: Sequence[str] = (),
) -> LxmertPreTrainedModel:
    """Load a file that the code of the original code wrote; its shapes tell the configuration.

    `model_LXRT.pth` and `EpochNN_LXRT.pth` become an `LxmertForPreTraining`; `BEST.pth` and
    `LAST.pth` of VQA or GQA an `LxmertForQuestionAnswering`, those of NLVR2 an
    `LxmertForImagesAndTextClassification`. No file says what its answers are: give them to
    `lxmert.model.answers.name_answers`.

    Args:
        path: the file.
        num_attention_heads: which the file does not tell; None means one for each 64 of the width,
            as in every published model.
        allow: names, or beginnings of names up to a dot, that may be left over in the file, or
            be missing and so stay random: `("cls.predictions",)` for all of the word head. Names
            that are left over are those of the file, missing ones those of the model.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, is damaged, holds code, or does not fill the model.
    """
    original = read_original(path, num_attention_heads=num_attention_heads)
    return fill_model(
        path, original.kind, original.config, original.state, unknown=original.unknown, allow=allow
    )


def load_folder(folder: str | Path, *, allow: Sequence[str] = ()) -> LxmertPreTrainedModel:
    """Load a Hugging Face folder, whichever model it holds, from safetensors or `.bin`.

    Unlike `from_pretrained` it finds the class by the names of the weights, and every weight must
    be there.

    Args:
        folder: holds `config.json` and weights.
        allow: as in `load_original`.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: if the folder lacks configuration or weights.
        ValueError: if they are damaged, hold code, or do not fit each other.
    """
    config, state = read_config(folder), read_folder(folder)
    kind = find_kind(state)
    if kind == "encoder":
        state = {name.removeprefix("lxmert."): value for name, value in state.items()}
    return fill_model(folder, kind, config, state, allow=allow)


def load_initial(
    source: str | Path,
    kind: str,
    *,
    num_attention_heads: int | None = None,
    allow: Sequence[str] = (),
) -> Start:
    """Load weights of any kind into a model of the wanted kind, to train it further.

    Heads of other kinds are left out, and a head that no pretraining has starts at random; both
    are reported in the result. Everything else must fit, name by name.

    Args:
        source: Hugging Face folder, or a file that the code of the original code wrote.
        kind: row of `MODELS`.
        num_attention_heads: of a file of the original code, which does not tell it; as in `load_original`.
        allow: as in `load_original`.

    Raises:
        FileNotFoundError: if there is no such file, or the folder lacks configuration or weights.
        ValueError: listing the weights that are missing, left over or misshapen.
    """
    unknown: tuple[str, ...] = ()
    if Path(source).is_dir():
        config, state = read_config(source), read_folder(source)
        found = find_kind(state)
    else:
        original = read_original(source, num_attention_heads=num_attention_heads)
        config, state, unknown = original.config, original.state, original.unknown
        found = original.kind
    # The encoder alone has its names without, every other model with `lxmert.` in front.
    if found == "encoder" and kind != "encoder":
        state = {f"lxmert.{name.removeprefix('lxmert.')}": value for name, value in state.items()}
    elif kind == "encoder":
        state = {name.removeprefix("lxmert."): value for name, value in state.items()}
    state = {n: value.float() if value.is_floating_point() else value for n, value in state.items()}
    allow = (*_OTHER_HEADS[kind], *_NEVER_PRETRAINED.get(kind, ()), *allow)
    model = fill_model(source, kind, config, state, unknown=unknown, allow=allow)
    own, tied = model.state_dict(), model.all_tied_weights_keys
    return Start(
        model,
        tuple(
            name
            for name, value in own.items()
            if name not in tied and (name not in state or state[name].shape != value.shape)
        ),
        (*unknown, *(name for name in state if name not in own)),
    )


def load_heads(folder: str | Path) -> Heads:
    """Load what answers and what matches from a folder, fine-tuned or pretrained.

    Raises:
        FileNotFoundError: if the folder lacks configuration or weights.
        ValueError: if they are damaged, hold code, or do not fit each other.
    """
    config, state = read_config(folder), read_folder(folder)
    kinds = []
    if any(name.startswith("answer_head.") for name in state):
        kinds.append("answering")
    if config.task_matched and any(name.startswith("cls.seq_relationship.") for name in state):
        kinds.append("retrieval")
    models = {}
    for kind in kinds:
        try:
            models[kind] = fill_model(
                folder, kind, read_config(folder), state, allow=_OTHER_HEADS[kind]
            )
        except ValueError as error:
            raise ValueError(
                f"the weights in {folder} do not fit its config.json, take both from the same "
                f"model: {error}"
            ) from error
    answering, matching = models.get("answering"), models.get("retrieval")
    assert isinstance(answering, LxmertForQuestionAnswering | None)
    assert isinstance(matching, LxmertForImageAndTextRetrieval | None)
    if answering is not None and matching is not None:
        matching.lxmert = answering.lxmert
    return Heads(answering, matching)


def save_original(model: LxmertPreTrainedModel, path: str | Path) -> None:
    """Write a model as the code of the original code reads it, which keeps the weights and nothing else.

    Raises:
        FileExistsError: if there is such a file already.
        OSError: if it cannot be written; nothing is left of it then.
        ValueError: if the code of the original code had no such model.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} is there already: name another file")
    kind = next((kind for kind, known in MODELS.items() if type(model) is known), "")
    if kind in ("", "retrieval"):
        raise ValueError(
            f"the code of the original code has no file for a {type(model).__name__}: save it as a folder"
        )
    with atomic_path(path) as part, report_write_errors():
        torch.save(to_original(kind, model.state_dict()), part)


def find_kind(state: Mapping[str, Tensor]) -> str:
    """Tell by the names of weights in the Hugging Face layout which row of `MODELS` they fill."""
    return next(
        (kind for mark, kind in _MARKS.items() if any(name.startswith(mark) for name in state)),
        "encoder",
    )


def outline(kind: str, config: LxmertConfig) -> LxmertPreTrainedModel:
    """Return a model of a kind without values, which costs no memory: for names and shapes."""
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
    """Make the model of a kind and fill it with weights, which keep their type.

    Args:
        source: where the weights come from, for the message.
        kind: row of `MODELS`.
        config: of the model.
        state: tensors by the names of the model.
        unknown: names in the source that mean nothing here.
        allow: as in `load_original`.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: if the weights do not fill the model.
    """
    empty = outline(kind, config)
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
