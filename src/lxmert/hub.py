"""Finds bundled, local and hub models, and says what published ones come without."""

import shlex
from pathlib import Path

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

_SMALL_FILES = ("*.json", "*.txt", "*.safetensors")
_LARGE_FILES = ("pytorch_model*.bin",)
"""Downloaded only if there are no safetensors."""


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
            "DETECTOR is a folder written by `lxmert train`, or a published detector file: "
            + ", ".join(_DETECTORS)
        )
    if num_answers is not None:
        missing.append(f"the list of its {num_answers} answers")
        options += " --answers LIST"
        published = _ANSWER_LISTS.get(num_answers, "one of " + ", ".join(_ANSWER_LISTS.values()))
        sources.append(f"LIST is, for the published models, {published} of airsplay/lxmert")
    return ValueError(
        f"{name} comes without {' and '.join(missing)}: write a complete model folder once and use "
        f"it from then on: `lxmert convert {name} FOLDER{options}`. " + "; ".join(sources)
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
            f"it ({reason}); name a folder written by `lxmert train`, or leave it out for the "
            "bundled model"
        ) from error
    return folder


def _hub_name(folder: Path) -> tuple[str, str] | None:
    """Return name and commit of a folder in the hub's cache, or None."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), folder.name
