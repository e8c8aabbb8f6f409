"""Finds models - bundled, in a folder, on the hub - and remembers the parts they came without."""

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
"""Files of the detector that the published models were trained with, in its several formats."""

_FORGET = "remove it, and name all again"
_SMALL_FILES = ("*.json", "*.txt", "*.safetensors")
_LARGE_FILES = ("pytorch_model*.bin",)
"""Fetched only where there are no safetensors, so that nothing large comes twice."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a published model comes without.

    Attributes:
        extractor: the detector that it was trained with: a folder, or a file as it was published.
        answers: the list of its answers.
    """

    extractor: Path | None = None
    answers: Path | None = None


def find_model(name_or_path: str | Path | None, *, revision: str | None = None) -> Path:
    """Return the folder of a model: bundled, local, or fetched from the Hugging Face hub.

    What was fetched once is found without a network, where the hub's offline mode is on or the hub
    does not answer.

    Args:
        name_or_path: a folder, a name on the hub such as `unc-nlp/lxmert-base-uncased`, or None
            for the bundled model.
        revision: branch, tag or commit of one on the hub; None means its newest.

    Raises:
        FileNotFoundError: if there is none.
        TypeError: if it is no name.
        ValueError: if there is only an adapter.
    """
    if name_or_path is None:
        return Path(__file__).parent / "default"
    if not isinstance(name_or_path, str | Path):
        raise TypeError(f"the model is {name_or_path!r}, expected a folder or a name on the hub")
    folder = Path(name_or_path)
    folder = folder if folder.is_dir() else _fetch(str(name_or_path), revision)
    _check_adapter(folder)
    return folder


def _check_adapter(folder: Path) -> None:
    """Refuse a folder that holds an adapter of PEFT, such as LoRA, and not the model under it."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} holds a PEFT adapter (such as LoRA) without its model: load the model, put "
            "the adapter on with peft.PeftModel.from_pretrained(model, folder), and save "
            "merge_and_unload() of that, with tokenizer and extractor, as a folder of its own"
        )


def model_name(folder: Path) -> str:
    """Return how a user names the model in this folder: by its path, or by its name on the hub."""
    hub = _hub_name(folder)
    return str(folder) if hub is None else hub[0]


def find_parts(
    folder: Path,
    given: Parts,
    *,
    needed: Collection[str] = ("extractor", "answers"),
    memory: str | Path | None = None,
) -> Parts:
    """Return each part as it is given now, or else as it was remembered.

    Args:
        folder: of the model.
        given: what the user names.
        needed: the parts that are looked up; what the folder has itself is not.
        memory: file of what is remembered; None means `default_memory()`.

    Raises:
        FileNotFoundError: if a remembered part is gone.
        ValueError: if the memory is damaged.
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
                    f"{known[name]}, which was named as the {name} of {model_name(folder)} before, "
                    f"is gone: put it back, or name another with --{name} (in Python {name}=...)"
                )
    return Parts(**found)


def remember_parts(folder: Path, parts: Parts, *, memory: str | Path | None = None) -> None:
    """Remember parts of a model for the next time; those that are None stay as they were.

    A memory that cannot be written is a warning in the log: this time all parts are known.
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
        _logger.warning("what was named for %s is not remembered: %s", model_name(folder), error)


def default_memory() -> Path:
    """Return the file of what is remembered, in the user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lxmert" / "parts.json"


def missing_parts(folder: Path, *, extractor: bool, num_answers: int | None) -> ValueError:
    """Return the error that says what a model came without, where to get it and how to name it.

    Args:
        folder: of the model.
        extractor: whether its eyes are missing.
        num_answers: how many answers it has whose names are missing; None: no list is missing.
    """
    name = shlex.quote(model_name(folder))
    missing, options, sources = [], "", []
    if extractor:
        missing.append("the detector that was its eyes")
        options += " --extractor DETECTOR"
        sources.append(
            "DETECTOR is a folder that `lxmert train` wrote, or a file of the published detector: "
            + ", ".join(_DETECTORS)
        )
    if num_answers is not None:
        missing.append(f"the list of its {num_answers} answers")
        options += " --answers LIST"
        published = _ANSWER_LISTS.get(num_answers, "one of " + ", ".join(_ANSWER_LISTS.values()))
        sources.append(f"LIST is, for the published models, {published} of airsplay/lxmert")
    return ValueError(
        f"{name} comes without {' and '.join(missing)}: name what is missing once, it is then "
        f"remembered, as in `lxmert ask IMAGE QUESTION --model {name}{options}`. "
        + "; ".join(sources)
    )


def _fetch(name: str, revision: str | None) -> Path:
    """Fetch a model from the hub, or find it among what was fetched before."""
    from huggingface_hub import errors, snapshot_download

    # Of the HTTP library beneath, which differs between versions of the hub's client.
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
            f"no model {name!r}: it is no folder, and the Hugging Face hub did not give it "
            f"({reason}); name a folder that `lxmert train` wrote, or leave it out for the bundled "
            "model"
        ) from error
    return folder


def _hub_name(folder: Path) -> tuple[str, str] | None:
    """Return name and commit of a folder in the hub's cache; None for any other folder."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), folder.name


def _key(folder: Path) -> str:
    """Return what a model is remembered by: its name on the hub with the commit, or its path."""
    hub = _hub_name(folder)
    return str(folder.resolve()) if hub is None else "@".join(hub)


def _memory_path(memory: str | Path | None) -> Path:
    return default_memory() if memory is None else Path(memory)


def _read_memory(path: Path) -> dict[str, dict[str, str]]:
    """Return the parts by model; nothing where nothing was remembered yet."""
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
