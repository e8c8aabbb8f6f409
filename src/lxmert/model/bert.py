"""Initialization from BERT: text embeddings, language layers, pooler and word heads.

All other layers and heads are initialized randomly. The language side of a model can also be saved
as a BERT.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils.hub import cached_file

from lxmert.files import atomic_path, read_json_object
from lxmert.model.checkpoints import check_fit, read_folder, read_weights, rename_norm
from lxmert.model.configuration import LxmertConfig
from lxmert.names import did_you_mean
from lxmert.tensor_files import State
from lxmert.weight_files import WEIGHT_FILES

_SHARED_SETTINGS = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)
"""Settings with the same meaning in BERT and LXMERT."""

_SIZES = {
    "vocab_size": ("embeddings.word_embeddings.weight", 0),
    "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
    "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
    "hidden_size": ("embeddings.word_embeddings.weight", 1),
    "intermediate_size": ("encoder.layer.0.intermediate.dense.weight", 0),
}
_TEXT = ("embeddings.", "encoder.layer.", "pooler.")
"""Prefixes of the weights of the language side."""

_HEADS = (
    "cls.predictions.transform.",
    "cls.predictions.bias",
    "cls.seq_relationship.",
)
"""Prefixes of the weights of the word head and of the matching (next-sentence) head."""

_REDUNDANT = (
    "embeddings.position_ids",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
)
"""Weights of BERT files that repeat others, or are no parameters."""


def bert_config(
    name_or_path: str | Path, config: LxmertConfig | None, overrides: Mapping[str, object]
) -> LxmertConfig:
    """Return the configuration of an LXMERT that is initialized from a BERT.

    Args:
        name_or_path: folder of the BERT, or its name on the Hugging Face hub.
        config: the configuration to use; None: shared settings are those of the BERT.
        overrides: settings that replace those of either.

    Raises:
        FileNotFoundError: if the BERT does not exist.
        TypeError: if an override is no setting.
    """
    known = [field.name for field in fields(LxmertConfig)]
    for name in overrides:
        if name not in known:
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise TypeError(f"LxmertConfig has no setting {name!r}; {hint}")
    if config is not None:
        return LxmertConfig(**{**config.to_dict(), **overrides})
    try:
        found, _ = PreTrainedConfig.get_config_dict(name_or_path)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(_not_found(name_or_path, "config.json", error)) from error
    if not found:
        raise FileNotFoundError(_not_found(name_or_path, "config.json", "no such file"))
    shared = {name: found[name] for name in _SHARED_SETTINGS if name in found}
    return LxmertConfig(**{**shared, **overrides})


def fill_from_bert(
    model: nn.Module,
    config: LxmertConfig,
    name_or_path: str | Path,
    *,
    allow: Sequence[str] = (),
) -> None:
    """Copy the weights of a BERT into a model; other weights are unchanged.

    Copies the embeddings, the first `l_layers` layers and the pooler; for a pretraining model also
    the transform and the bias of the word head, and the next-sentence classifier as initialization
    of the matching head. Source: the initialization of the original pretraining code.

    Args:
        model: an LXMERT model of any class; changed in place.
        config: its configuration.
        name_or_path: folder of the BERT, or its name on the Hugging Face hub; safetensors or
            `.bin`, names with or without `bert.`, layer norms with `weight` or with `gamma`.
        allow: names of weights, or dot-separated prefixes such as `("pooler",)`, that may be unused
            or missing in the file; missing ones keep their random values.

    Raises:
        FileNotFoundError: if the BERT does not exist.
        ValueError: if layers, sizes or weights do not fit; if a file contains code.
    """
    bert = {_plain(name): value for name, value in _read(name_or_path).items()}
    _check_sizes(bert, config, name_or_path)
    own = {_in_model(name): parameter for name, parameter in model.named_parameters()}
    expected = {name: value for name, value in own.items() if name.startswith((*_TEXT, *_HEADS))}
    offered = {
        name: value for name, value in bert.items() if not _is_unused(name, config, expected)
    }
    fitting = check_fit(name_or_path, offered, expected, tied={}, allow=allow)
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)


def save_language_side(folder: Path, target: Path) -> None:
    """Save the language side of a model as a BERT, to initialize other models from it.

    Args:
        folder: an lxmert model folder with its tokenizer, preferably without cross-modality
            layers, so that the language layers alone encode its texts.
        target: folder to write; written atomically.

    Raises:
        FileNotFoundError: if the folder lacks configuration or weights.
    """
    config = read_json_object(folder / "config.json", remedy="copy it again")
    weights = {_in_model(name): value for name, value in read_folder(folder).items()}
    kept = {name: value for name, value in weights.items() if name.startswith((*_TEXT, *_HEADS))}
    named = {name if name.startswith("cls.") else f"bert.{name}": kept[name] for name in kept}
    shared = {name: config[name] for name in _SHARED_SETTINGS if name in config}
    bert = shared | {"model_type": "bert", "num_hidden_layers": config["l_layers"]}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as part:
        part.mkdir()
        save_file(named, part / WEIGHT_FILES[0], metadata={"format": "pt"})
        (part / "config.json").write_text(json.dumps(bert, indent=2) + "\n", encoding="utf-8")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(folder / name, part / name)


def _read(name_or_path: str | Path) -> State:
    """Read the weights of a folder or of a model on the hub."""
    if Path(name_or_path).is_dir():
        return read_folder(name_or_path)
    for name in WEIGHT_FILES:
        try:
            path = cached_file(name_or_path, name, _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(_not_found(name_or_path, name, error)) from error
        if path is not None:
            return read_weights(path)
    raise FileNotFoundError(_not_found(name_or_path, " or ".join(WEIGHT_FILES), "no such file"))


def _plain(name: str) -> str:
    """Return the current name of a BERT weight, without prefix."""
    return rename_norm(name.removeprefix("bert."))


def _in_model(name: str) -> str:
    """Return the name that a weight has in `LxmertModel`."""
    return name.removeprefix("lxmert.")


def _is_unused(name: str, config: LxmertConfig, expected: Mapping[str, Tensor]) -> bool:
    """Return whether LXMERT has no use for a weight of BERT."""
    layer = re.match(r"encoder\.layer\.(\d+)\.", name)
    if layer is not None:
        return int(layer[1]) >= config.l_layers
    return name in _REDUNDANT or (name.startswith(_HEADS) and name not in expected)


def _check_sizes(bert: Mapping[str, Tensor], config: LxmertConfig, source: str | Path) -> None:
    """Reject a BERT whose sizes differ from the configuration."""
    for setting, (name, axis) in _SIZES.items():
        wanted = getattr(config, setting)
        if name in bert and bert[name].shape[axis] != wanted:
            size = bert[name].shape[axis]
            raise ValueError(
                f"{source} has {setting} {size}, but the configuration has {wanted}: set "
                f"{setting}={size}, or use another BERT"
            )
    layers = {match[1] for name in bert if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    if len(layers) < config.l_layers:
        raise ValueError(
            f"{source} has {len(layers)} layers, but the configuration has l_layers "
            f"{config.l_layers}: set l_layers={len(layers)} or fewer, or use a deeper BERT"
        )


def _not_found(name_or_path: str | Path, file: str, reason: object) -> str:
    first = str(reason).strip().split("\n")[0]
    return (
        f"no {file} of a BERT in {str(name_or_path)!r} ({first}): give a folder, or a model on the "
        "Hugging Face hub such as google-bert/bert-base-uncased"
    )
