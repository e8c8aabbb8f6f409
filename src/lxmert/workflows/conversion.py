"""Files of other programs into ours and back."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from lxmert.data.answer_lists import read_answers
from lxmert.data.preprocessing import EYES_FOLDER, FILE_NAME
from lxmert.model.answers import answers_of, name_answers
from lxmert.model.heads import LxmertAnsweringModel
from lxmert.model.loading import load_folder, load_original, save_original
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.workflows.inspection import recognise

_OTHER_WEIGHTS = (".bin", ".h5", ".msgpack", ".onnx", ".ot", ".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Choices:
    """What may be said about a conversion.

    Attributes:
        answers: list of the model's answers, in any form that `read_answers` knows.
        heads: number of attention heads, which a file of 2019 does not tell.
        allow: names of weights that may be left over or stay random; see `load_original`.
    """

    answers: Path | None = None
    heads: int | None = None
    allow: tuple[str, ...] = ()


class Conversion(NamedTuple):
    """A way from one kind of file to another.

    Attributes:
        run: reads the source, writes the target, and returns what its user should know.
        choices: the fields of `Choices` that it reads.
    """

    run: Callable[[Path, Path, Choices], list[str]]
    choices: tuple[str, ...]


def convert(source: str | Path, target: str | Path, choices: Choices | None = None) -> list[str]:
    """Convert a file or folder; what the source is, its content tells.

    The target is written under a temporary name and renamed when it is whole.

    Args:
        source: a parameter file of 2019, or a model folder.
        target: file or folder to write. One that ends in `.pth` becomes a file of 2019, any other
            one a model folder with safetensors.
        choices: absent: nothing is said beyond that.

    Returns:
        What the user should know of the result, one sentence each.

    Raises:
        FileNotFoundError: if the source is not there.
        FileExistsError: if the target is there already.
        ValueError: if the source cannot be read or converted, or a choice does not apply.
    """
    source, target = Path(source), Path(target)
    choices = choices or Choices()
    conversion = _find(source, target, choices)
    if target.exists():
        raise FileExistsError(f"{target} is there already: name another target, or remove it first")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} for {target}: make it first")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        notes = conversion.run(source, part, choices)
        part.rename(target)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
    return notes


def _find(source: Path, target: Path, choices: Choices) -> Conversion:
    """Look up the way from source to target, and refuse choices that it would not read."""
    kind = recognise(source)
    ending = target.suffix.lower()
    form = ending if any(ending == form for _, form in CONVERSIONS) else "folder"
    conversion = CONVERSIONS.get((kind, form))
    if conversion is None:
        forms = " or ".join(
            "a folder" if to == "folder" else f"a file that ends in {to}"
            for of, to in CONVERSIONS
            if of == kind
        )
        raise ValueError(
            f"{source} is a {kind}, which cannot become {target}"
            + (f": it can become {forms}" if forms else "")
        )
    for choice in fields(Choices):
        given = getattr(choices, choice.name) != choice.default
        if given and choice.name not in conversion.choices:
            raise ValueError(f"--{choice.name} does not apply to a {kind} that becomes {target}")
    return conversion


def _original_to_folder(source: Path, target: Path, choices: Choices) -> list[str]:
    model = load_original(source, num_attention_heads=choices.heads, allow=choices.allow)
    notes = _name_answers(model, choices.answers)
    model.save_pretrained(target)
    heads = model.config.num_attention_heads
    if choices.heads is None:
        notes.append(f"it has {heads} attention heads, by its width; the file does not tell")
    notes.append(
        "tokenizer and eyes were not in the file: to ask it, add the tokenizer's files and a "
        f"{FILE_NAME} that names the eyes"
    )
    return notes


def _folder_to_folder(source: Path, target: Path, choices: Choices) -> list[str]:
    model = load_folder(source, allow=choices.allow)
    notes = _name_answers(model, choices.answers)
    target.mkdir()
    for path in sorted(source.iterdir()):
        weights = any(ending in path.suffixes for ending in _OTHER_WEIGHTS)
        if path.is_file() and not weights and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)
    if (source / EYES_FOLDER).is_dir():
        shutil.copytree(source / EYES_FOLDER, target / EYES_FOLDER)
    model.save_pretrained(target)
    return notes


def _folder_to_original(source: Path, target: Path, choices: Choices) -> list[str]:
    model = load_folder(source, allow=choices.allow)
    save_original(model, target)
    return ["the file holds the weights alone: keep answers, tokenizer and eyes beside it"]


CONVERSIONS: dict[tuple[str, str], Conversion] = {
    ("file of 2019", "folder"): Conversion(_original_to_folder, ("answers", "heads", "allow")),
    ("model folder", "folder"): Conversion(_folder_to_folder, ("answers", "allow")),
    ("model folder", ".pth"): Conversion(_folder_to_original, ("allow",)),
}
"""(kind of the source as `recognise` names it, ending of the target or `folder`) -> the way."""


def _name_answers(model: LxmertPreTrainedModel, path: Path | None) -> list[str]:
    """Write a list of answers into a model, or tell that it has none."""
    layer = model.get_qa_logit_layer() if isinstance(model, LxmertAnsweringModel) else None
    if path is not None:
        if layer is None:
            raise ValueError(f"--answers {path}: a {type(model).__name__} has no answers to name")
        name_answers(model.config, read_answers(path).answers)
    elif layer is not None and answers_of(model.config) is None:
        return [
            f"its {layer.out_features} answers have no names: convert again with --answers LIST, "
            "the list that the model was trained with, such as trainval_label2ans.json"
        ]
    return []
