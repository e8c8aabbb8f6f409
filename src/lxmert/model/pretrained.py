"""Checks of the arguments, the configuration and the weights of `from_pretrained`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers.utils import logging

from lxmert.files import read_json_object
from lxmert.model.checkpoints import read_folder
from lxmert.model.config_file import REMEDY, read_values
from lxmert.model.configuration import LxmertConfig
from lxmert.tensor_files import WEIGHT_TYPES, check_values
from lxmert.weight_files import PARAMETERS


def read_config(folder: str | Path) -> LxmertConfig:
    """Read the configuration of a model folder.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged, invalid, or that of another kind of model.
    """
    read_values(Path(folder))
    try:
        return LxmertConfig.from_pretrained(folder)
    except (StrictDataclassError, OSError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"config.json in {folder} is damaged ({one_line(error)}): {REMEDY}"
        ) from error


def check_folder(name: object, given: Mapping[str, Any]) -> None:
    """Reject an invalid name, or a local folder with invalid files; the hub is not accessed.

    Args:
        name: the first argument of `from_pretrained`.
        given: its keyword arguments.

    Raises:
        TypeError: if it is not a name.
        ValueError: if configuration or weights of a folder are invalid.
    """
    if name is None:
        return
    if not isinstance(name, str | os.PathLike):
        raise TypeError(
            f"from_pretrained got {name!r}, a {type(name).__name__}: expected a folder, or a name "
            "on the Hugging Face hub such as 'unc-nlp/lxmert-base-uncased'"
        )
    folder = Path(name, given.get("subfolder") or "")
    if not folder.is_dir():
        return
    if given.get("config") is None and (folder / "config.json").is_file():
        read_config(folder)
    if given.get("state_dict") is None:
        _check_types(folder)


def check_loaded(name: object, loaded: object) -> None:
    """Reject weights that are not finite or all zero; quantized ones are not checked.

    Raises:
        ValueError: naming the tensors.
    """
    model = (
        loaded[0] if isinstance(loaded, tuple) else loaded
    )  # the second item lists missing weights
    assert isinstance(model, nn.Module)
    weights = {n: value for n, value in model.named_parameters() if value.dtype in WEIGHT_TYPES}
    check_values(str(name), weights)


def label_settings(setting: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Translate `num_labels` and `id2label` to the settings of an LXMERT model.

    Args:
        setting: the setting for the number of labels; None: the model has no labels.
        given: keyword arguments of `from_pretrained`.

    Returns:
        The translated keyword arguments.

    Raises:
        ValueError: if the two differ.
    """
    number, names = given.get("num_labels"), given.get("id2label")
    if setting is None or given.get("config") is not None or (number is None and names is None):
        return dict(given)
    rest = {name: value for name, value in given.items() if name != "num_labels"}
    names = names or {index: f"LABEL_{index}" for index in range(number or 0)}
    if number not in (None, len(names)):
        raise ValueError(f"num_labels is {number}, but id2label has {len(names)} names: give one")
    ids = {label: int(index) for index, label in names.items()}
    return {setting: len(names), "id2label": names, "label2id": ids} | rest


@contextmanager
def without_weight_bars() -> Iterator[None]:
    """Suppress the progress bars of transformers for reading and writing weights."""
    previous = logging.set_tqdm_hook(lambda _, args, kwargs: logging.EmptyTqdm(*args, **kwargs))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous)


def one_line(error: Exception) -> str:
    """Return an error message on one line; for a wrapped error, that of its cause."""
    return " ".join(str(error.__cause__ or error).split())


def _check_types(folder: Path) -> None:
    """Reject weights with an invalid dtype, unless they are quantized."""
    config = folder / "config.json"
    if config.is_file() and "quantization_config" in read_json_object(config):
        return
    try:
        state = read_folder(folder, device="meta")
    except FileNotFoundError:
        return  # transformers may support other files
    check_values(folder, {n: value for n, value in state.items() if n.endswith(PARAMETERS)})
