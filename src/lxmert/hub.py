"""Finds bundled, local, published and hub models, and says what others come without."""

import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lxmert.vocabularies import ANSWERS
from lxmert.weights.table import PUBLISHED, find_name

BUNDLED_NAME = "the bundled model"
"""How messages call the bundled model."""

BUNDLED = Path(__file__).parent.resolve() / "default"
"""Folder of the bundled model."""

BUNDLED_EXPORT = BUNDLED.with_name("default_export")
"""Folder of the bundled model, exported for ONNX Runtime."""

DRAWINGS = Path(__file__).parent / "drawings"
"""Folder of the bundled start for custom data."""

_PUBLISHED_LISTS = {3129: "vqa", 1842: "gqa", 9500: "pretraining"}
"""Number of answers -> name of their published list."""

_SMALL_FILES = ("*.json", "*.txt")
_SAFETENSORS = ("*.safetensors",)
_LARGE_FILES = ("pytorch_model*.bin",)
"""Downloaded only if there are no safetensors."""


def find_model(
    name_or_path: str | Path | None,
    *,
    revision: str | None = None,
    complete: bool = True,
    check: Callable[[Path], None] = lambda folder: None,  # noqa: ARG005
) -> Path:
    """Return the folder of a model: bundled, local, published, or from the Hugging Face hub.

    A folder is preferred to a published model of the same name. Published models are fetched once,
    with the region extractor and the answers that they come without; see `lxmert.weights`. Other
    hub models are found in the hub's cache if the hub is offline.

    Args:
        name_or_path: a folder; a published model, such as `vqa`; a hub name, such as
            `unc-nlp/lxmert-vqa-uncased`; or None for the bundled model.
        revision: branch, tag or commit of a hub model; None means the latest. With a revision, a
            published model comes without extractor and answers.
        complete: whether published models are completed; otherwise they come as on the hub.
        check: called with a folder that has the small files of the model, before large ones are
            downloaded; raises an error if the model cannot be used.

    Raises:
        FileNotFoundError: if there is no such model.
        OSError: if a published model cannot be fetched.
        TypeError: if `name_or_path` is of another type.
        ValueError: if the folder holds a PEFT adapter only, or a downloaded file is damaged.
    """
    if name_or_path is None:
        folder = BUNDLED
    elif not isinstance(name_or_path, str | Path):
        raise TypeError(f"the model is {name_or_path!r}, expected a folder or a hub name")
    elif Path(name_or_path).is_dir():
        folder = Path(name_or_path)
    else:
        folder = _find_elsewhere(str(name_or_path), revision, complete, check)
    _check_adapter(folder)
    check(folder)
    return folder


def _find_elsewhere(
    name: str, revision: str | None, complete: bool, check: Callable[[Path], None]
) -> Path:
    """Find a published model, or one on the hub."""
    known = find_name(name)
    if known is not None and PUBLISHED[known].kind == "detector":
        raise ValueError(
            f"{known} is a published detector, not a model: name it with --extractor, in Python "
            "extractor=..."
        )
    bare = revision is not None or not complete
    if known is not None and (not bare or PUBLISHED[known].repository is None):
        from lxmert.weights.folders import open_published  # needs PyTorch

        return open_published(known)
    return _fetch((PUBLISHED[known].repository or name) if known else name, revision, check)


def find_fast_model(
    name_or_path: str | None, *, extractor: Path | None, answers: Path | None, device: str | None
) -> str | Path | None:
    """Return the export of the bundled model where it serves instead; else the name as it is.

    It needs neither PyTorch nor transformers, whose import takes most of the time of a command.
    """
    given = (name_or_path, extractor, answers, device)
    if all(value is None for value in given) and find_spec("onnxruntime") is not None:
        return BUNDLED_EXPORT
    return name_or_path


def find_extractor(path: str | Path) -> Path:
    """Return the path of a region extractor; one of a published name is fetched.

    Raises:
        OSError: if it cannot be fetched.
    """
    known = None if Path(path).exists() else find_name(str(path))
    if known is None:
        return Path(path)
    from lxmert.weights.folders import open_extractor  # needs PyTorch

    return open_extractor(known)


def _check_adapter(folder: Path) -> None:
    """Raise `ValueError` for a folder that holds a PEFT adapter without its model."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} holds a PEFT adapter (such as LoRA) without its model: load the model, add "
            "the adapter with peft.PeftModel.from_pretrained(model, folder), and save its "
            "merge_and_unload() with tokenizer and extractor in a new folder"
        )


def model_name(folder: Path) -> str:
    """Return `BUNDLED_NAME`, or the hub name of the model in a folder, or else its path."""
    if folder.resolve() in (BUNDLED, BUNDLED_EXPORT):
        return BUNDLED_NAME
    if folder.name in PUBLISHED:
        from lxmert.weights.folders import published_folder  # needs PyTorch

        if folder == published_folder(folder.name):
            return folder.name
    hub = _hub_name(folder)
    return str(folder) if hub is None else hub[0]


def missing_parts(folder: Path, *, extractor: bool, num_answers: int | None) -> ValueError:
    """Return the error about parts that a model lacks: where to get them, and how to add them.

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
            "DETECTOR is a folder written by `lxmert train`, a published detector file, or the "
            "name of one in `lxmert weights`, such as detector-caffe"
        )
    if num_answers is not None:
        missing.append(f"the list of its {num_answers} answers")
        options += " --answers LIST"
        known = _PUBLISHED_LISTS.get(num_answers)
        listed = f", here {known}" if known else f", one of {', '.join(ANSWERS)}"
        sources.append(f"LIST is a file, or the name of a published list{listed}")
    return ValueError(
        f"{name} comes without {' and '.join(missing)}: write a complete model folder once and use "
        f"it from then on: `lxmert convert {name} FOLDER{options}`. " + "; ".join(sources)
    )


def _fetch(name: str, revision: str | None, check: Callable[[Path], None]) -> Path:
    """Download a model from the hub, or find it in the hub's cache; its small files first."""
    from huggingface_hub import errors, snapshot_download

    def fetch(*patterns: str, commit: str | None) -> Path:
        return Path(snapshot_download(name, revision=commit, allow_patterns=list(patterns)))

    # The HTTP library differs between versions of the hub client.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        folder = fetch(*_SMALL_FILES, commit=revision)
        if (folder / "config.json").is_file():
            check(folder)
        folder = fetch(*_SMALL_FILES, *_SAFETENSORS, commit=folder.name)
        if not any(folder.glob("*.safetensors")):
            folder = fetch(*_SMALL_FILES, *_LARGE_FILES, commit=folder.name)
    except (http_error, errors.HFValidationError, OSError) as error:
        published = ", ".join(key for key, entry in PUBLISHED.items() if entry.kind == "model")
        if isinstance(error, errors.HFValidationError):
            hub = "it has not the form OWNER/NAME of the Hugging Face hub"
        else:
            reason = str(error).partition("\n")[0].removeprefix("Got: ")
            hub = f"the Hugging Face hub did not provide it ({reason})"
        raise FileNotFoundError(
            f"no model {name!r}: there is no such folder, it is none of the published models "
            f"({published}), and {hub}; name a folder written by `lxmert train`, or leave it out "
            "for the bundled model"
        ) from error
    return folder


def _hub_name(folder: Path) -> tuple[str, str] | None:
    """Return name and commit of a folder in the hub's cache, or None."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), folder.name
