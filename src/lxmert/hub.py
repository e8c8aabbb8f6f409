"""Finds bundled, local and hub models, and remembers parts that were added to them."""

import json
import logging
import os
import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from lxmert.files import read_json_object, shorten

_ANSWER_LISTS = {
    3129: "data/vqa/trainval_label2ans.json",
    1842: "data/gqa/trainval_label2ans.json",
    9500: "data/lxmert/all_ans.json",
}
"""Number of answers -> their list in the repository airsplay/lxmert."""

_DETECTORS = (
    "resnet101_faster_rcnn_final_iter_320000.caffemodel",
    "faster_rcnn_from_caffe_attr.pkl",
    "the pytorch_model.bin of unc-nlp/frcnn-vg-finetuned",
)
"""Files of the detector that the published models were trained with, by format."""

_FORGET = "remove the file, and give --extractor and --answers again"
_SMALL_FILES = ("*.json", "*.txt", "*.safetensors")
_LARGE_FILES = ("pytorch_model*.bin",)
"""Downloaded only if there are no safetensors."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Parts that a published model comes without.

    Attributes:
        extractor: folder or published file of the region extractor it was trained with.
        answers: file with its answer list.
    """

    extractor: Path | None = None
    answers: Path | None = None


def find_model(name_or_path: str | Path | None, *, revision: str | None = None) -> Path:
    """Return the folder of a model: bundled, local, or downloaded from the Hugging Face hub.

    Downloaded models are found in the hub's cache if the hub is offline.

    Args:
        name_or_path: a folder, a hub name such as `unc-nlp/lxmert-base-uncased`, or None for the
            bundled model.
        revision: branch, tag or commit of a hub model; None means the latest.

    Raises:
        FileNotFoundError: if there is no such model.
        TypeError: if `name_or_path` is of another type.
        ValueError: if the folder holds a PEFT adapter only.
    """
    if name_or_path is None:
        return Path(__file__).parent / "default"
    if not isinstance(name_or_path, str | Path):
        raise TypeError(f"the model is {name_or_path!r}, expected a folder or a hub name")
    folder = Path(name_or_path)
    folder = folder if folder.is_dir() else _fetch(str(name_or_path), revision)
    _check_adapter(folder)
    return folder


def _check_adapter(folder: Path) -> None:
    """Raise `ValueError` for a folder that holds a PEFT adapter without its model."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} holds a PEFT adapter (such as LoRA) without its model: load the model, add "
            "the adapter with peft.PeftModel.from_pretrained(model, folder), and save its "
            "merge_and_unload() with tokenizer and extractor in a new folder"
        )


def model_name(folder: Path) -> str:
    """Return the hub name of the model in a folder, or else its path."""
    hub = _hub_name(folder)
    return str(folder) if hub is None else hub[0]


def find_parts(
    folder: Path,
    given: Parts,
    *,
    needed: Collection[str] = ("extractor", "answers"),
    memory: str | Path | None = None,
) -> Parts:
    """Return each part as given, or else as remembered.

    Args:
        folder: folder of the model.
        given: parts that the user named.
        needed: parts to look up: those that the folder itself lacks.
        memory: file of remembered parts; None means `default_memory()`.

    Raises:
        FileNotFoundError: if a remembered part no longer exists.
        ValueError: if the memory file is damaged.
    """
    path = _memory_path(memory)
    known = _read_memory(path).get(_key(folder), {})
    found: dict[str, Path | None] = {}
    for name, wanted in asdict(given).items():
        found[name] = wanted
        if wanted is None and name in needed and name in known:
            found[name] = Path(known[name])
            if not Path(known[name]).exists():
                raise FileNotFoundError(
                    f"{known[name]}, which is remembered as the {name} of {model_name(folder)}, no "
                    f"longer exists: restore it, or name another one with --{name} (in Python "
                    f"{name}=...)"
                )
    return Parts(**found)


def remember_parts(folder: Path, parts: Parts, *, memory: str | Path | None = None) -> None:
    """Remember parts of a model for later calls; parts that are None stay unchanged.

    If the memory file cannot be written, a warning is logged.
    """
    path = _memory_path(memory)
    new = {name: str(part.absolute()) for name, part in asdict(parts).items() if part is not None}
    entries = _read_memory(path)
    old = entries.get(_key(folder), {})
    if old | new == old:
        return
    entries[_key(folder)] = old | new
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        _logger.warning("the parts of %s are not remembered: %s", model_name(folder), error)


def default_memory() -> Path:
    """Return the file of remembered parts, in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lxmert" / "parts.json"


def missing_parts(folder: Path, *, extractor: bool, num_answers: int | None) -> ValueError:
    """Return the error about parts that a model lacks, where to get them and how to add them.

    Args:
        folder: folder of the model.
        extractor: whether its region extractor is missing.
        num_answers: number of answers whose names are missing; None if none are.
    """
    name = shlex.quote(model_name(folder))
    missing, options, sources = [], "", []
    if extractor:
        missing.append("its region extractor")
        options += " --extractor DETECTOR"
        sources.append(
            "DETECTOR is a folder written by `lxmert train`, or a published detector file: "
            + ", ".join(_DETECTORS)
        )
    if num_answers is not None:
        missing.append(f"the list of its {num_answers} answers")
        options += " --answers LIST"
        published = _ANSWER_LISTS.get(num_answers, "one of " + ", ".join(_ANSWER_LISTS.values()))
        sources.append(f"LIST is, for the published models, {published} of airsplay/lxmert")
    return ValueError(
        f"{name} comes without {' and '.join(missing)}: name them once, then they are "
        f"remembered: `lxmert ask IMAGE QUESTION --model {name}{options}`. " + "; ".join(sources)
    )


def _fetch(name: str, revision: str | None) -> Path:
    """Download a model from the hub, or find it in the hub's cache."""
    from huggingface_hub import errors, snapshot_download

    # The HTTP library differs between versions of the hub client.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(_SMALL_FILES)))
        if not any(folder.glob("*.safetensors")):
            patterns = [*_SMALL_FILES, *_LARGE_FILES]
            commit = folder.name
            folder = Path(snapshot_download(name, revision=commit, allow_patterns=patterns))
    except (http_error, OSError, ValueError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise FileNotFoundError(
            f"no model {name!r}: there is no such folder, and the Hugging Face hub did not provide "
            f"it ({reason}); name a folder written by `lxmert train`, or leave it out for the bundled "
            "model"
        ) from error
    return folder


def _hub_name(folder: Path) -> tuple[str, str] | None:
    """Return name and commit of a folder in the hub's cache, or None."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), folder.name


def _key(folder: Path) -> str:
    """Return the key of a model in the memory: hub name with commit, or path."""
    hub = _hub_name(folder)
    return str(folder.resolve()) if hub is None else "@".join(hub)


def _memory_path(memory: str | Path | None) -> Path:
    return default_memory() if memory is None else Path(memory)


def _read_memory(path: Path) -> dict[str, dict[str, str]]:
    """Return the remembered parts by model."""
    try:
        content: dict[str, dict[str, str]] = read_json_object(path, remedy=_FORGET)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for name, parts in content.items():
        if not isinstance(parts, dict) or not all(isinstance(p, str) for p in parts.values()):
            raise ValueError(
                f"{path} has {shorten(parts)} for {name!r}; expected a path for each part: "
                f"{_FORGET}"
            )
    return content
