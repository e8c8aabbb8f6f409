"""Reads `config.json` of a model folder, without PyTorch and transformers."""

from pathlib import Path
from typing import Any

from lxmert.files import read_json_object

REMEDY = "copy it again from the source of the weights"
"""What to do about a damaged file of a model folder."""

_KIND = "lxmert"


def read_values(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a model folder; its settings are checked when the model is built.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged, or that of another kind of model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json: copy it from the source of the weights"
        )
    values = read_json_object(path, remedy=REMEDY)
    kind = values.get("model_type", _KIND)
    if kind != _KIND:
        raise ValueError(
            f"config.json in {folder} has model_type {kind!r}, expected {_KIND!r}: use another "
            "folder"
        )
    return values
