"""Detects the type of a file or folder and describes it, without running any code in it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from lxmert.data.parquet import read_parquet_header
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME, PreprocessorConfig
from lxmert.data.saved_datasets import (
    describe_saved_dataset,
    is_saved_dataset,
    open_saved_dataset,
)
from lxmert.data.store import describe_store, is_store, list_failures
from lxmert.data.store_layout import OLD_STORE_FILE
from lxmert.data.tokenizer import TOKENIZER_FILES
from lxmert.data.web_dataset import is_web_dataset, read_web_index
from lxmert.files import read_json_object, shorten
from lxmert.model.answers import answers_of
from lxmert.model.checkpoints import check_fit, read_folder, read_weights
from lxmert.model.configuration import LxmertConfig
from lxmert.model.loading import MODELS, SECOND_HEADS, empty_model, find_kind, rename_encoder
from lxmert.model.original import HEAD_WIDTH, OriginalCheckpoint, from_original
from lxmert.model.pretrained import read_config
from lxmert.names import count, file_size
from lxmert.regions.checkpoints import WEIGHTS_NAMES, YAML_NAME, load_published
from lxmert.regions.configuration import CONFIG_NAME
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.extractor import EXTRACTORS, load_extractor
from lxmert.workflows.old_store import read_old_header
from lxmert.workflows.region_files import (
    check_layout,
    describe_npz,
    describe_tsv,
    has_npz,
    has_tsv,
    is_tsv,
)

_GROUPS = {
    "embeddings.": "text embeddings",
    "encoder.visn_fc.": "region embedding",
    "encoder.layer.": "language layers",
    "encoder.r_layers.": "region layers",
    "encoder.x_layers.": "cross-modality layers",
    "pooler.": "pooler",
    "cls.": "word and matching heads",
    "obj_predict_head.": "region heads",
    "answer_head.": "answer head",
    "classifier.": "classifier of image sets",
}
_OBJECTIVES = {
    "task_mask_lm": "masked words",
    "task_matched": "matching",
    "visual_obj_loss": "objects",
    "visual_attr_loss": "attributes",
    "visual_feat_loss": "features",
    "task_qa": "answers",
}


class FileKind(StrEnum):
    """Types of files and folders."""

    MODEL = "model folder"
    ORIGINAL = "original checkpoint"
    DETECTOR = "detector folder"
    EXTRACTOR = "extractor folder"
    PUBLISHED = "published detector"
    STORE = "region store"
    OLD_STORE = "region store in an earlier format"
    TSV = "TSV file of regions"
    TSVS = "folder of TSV files with regions"
    NPZ = "folder of .npz files"
    PARQUET = "Parquet file of regions"
    WEB_DATASET = "WebDataset folder of regions"
    SAVED_DATASET = "saved data set"
    TOKENIZER = "tokenizer"


class Described(NamedTuple):
    """What is said about a file or folder; see `Inspection`."""

    facts: dict[str, object]
    parameters: Mapping[str, int] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """Description of a file or folder.

    Attributes:
        path: the file or folder.
        kind: its type.
        facts: its properties by name, the most important first.
        parameters: number of parameters by group; shared ones are counted once.
        notes: missing parts and remarks.
        problems: errors, for which `verify` fails.
    """

    path: str
    kind: FileKind
    facts: dict[str, object]
    parameters: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values, and `num_parameters`, their total."""
        return {**asdict(self), "num_parameters": sum(self.parameters.values())}


def inspect(path: str | Path) -> Inspection:
    """Describe a file or folder.

    Args:
        path: model folder, original checkpoint, detector folder or published detector file,
            region store, TSV file or folder of .npz or TSV files with regions, or tokenizer.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if it is none of these, or damaged.
    """
    path = Path(path)
    kind = recognize(path)
    found = INSPECTORS[kind](path)
    return Inspection(str(path), kind, found.facts, {**found.parameters}, *found[2:])


def recognize(path: Path) -> FileKind:
    """Detect the type of a file or folder by its content.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if the type is unknown.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: check the path")
    if path.is_dir():
        return _recognize_folder(path)
    check_layout(path)
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        raise ValueError(f"{path} is one file of a model: name its folder")
    # A zip archive or a pickle, the two formats of torch.save.
    if start.startswith((b"PK", b"\x80")):
        return _recognize_pickle(path)
    if start.startswith(b"PAR1"):
        return FileKind.SAVED_DATASET if is_saved_dataset(path) else FileKind.PARQUET
    if is_tsv(path):
        return FileKind.TSV
    try:
        load_published(path)
    except ValueError as error:
        named = path.suffix == ".caffemodel"  # the error is about this format then
        raise ValueError(str(error) if named else f"{path} is {_EXPECTED}") from error
    return FileKind.PUBLISHED


_EXPECTED = (
    "of an unknown type: expected a model folder, an original checkpoint such as "
    "model_LXRT.pth, a detector folder or published detector file, a region store, a TSV file or "
    "a folder of .npz or TSV files with regions, a data set of Hugging Face's datasets, or a "
    "tokenizer"
)


def _recognize_pickle(path: Path) -> FileKind:
    """Distinguish an original checkpoint from a detector; if neither, raise the first error."""
    try:
        _read_original(path)
    except ValueError as error:
        try:
            load_published(path)
        except ValueError:
            raise error from None
        return FileKind.PUBLISHED
    return FileKind.ORIGINAL


def _recognize_folder(folder: Path) -> FileKind:
    if is_store(folder):
        return FileKind.STORE
    if (folder / OLD_STORE_FILE).is_file():
        return FileKind.OLD_STORE
    if (folder / CONFIG_NAME).is_file():
        model_type = read_json_object(folder / CONFIG_NAME, remedy="copy it again").get(
            "model_type"
        )
        if model_type == LxmertConfig.model_type:
            return FileKind.MODEL
        if not isinstance(model_type, str) or model_type not in EXTRACTORS:
            raise ValueError(
                f"{folder} holds a model of type {shorten(model_type)}; expected lxmert or one of "
                f"{', '.join(EXTRACTORS)}"
            )
        return (
            FileKind.DETECTOR if EXTRACTORS[model_type] is DetectorExtractor else FileKind.EXTRACTOR
        )
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return FileKind.TOKENIZER
    if (folder / YAML_NAME).is_file() and any((folder / name).is_file() for name in WEIGHTS_NAMES):
        return FileKind.PUBLISHED
    if is_web_dataset(folder):
        return FileKind.WEB_DATASET
    if is_saved_dataset(folder):
        return FileKind.SAVED_DATASET
    check_layout(folder)
    if has_npz(folder):
        return FileKind.NPZ
    if has_tsv(folder):
        return FileKind.TSVS
    raise ValueError(f"{folder} is {_EXPECTED}")


def _inspect_original(path: Path) -> Described:
    original = _read_original(path)
    facts, notes = _describe_model(original.kind, original.config, original.state)
    width = original.config.hidden_size
    facts["attention heads"] = f"{width // HEAD_WIDTH}, by hidden size; not stored in the file"
    if width % HEAD_WIDTH:
        facts["attention heads"] = "unknown: convert it with --heads N"
    problems = _find_misfit(path, original.kind, original.config, original.state, original.unknown)
    counts = _count(original.config, original.state)
    return Described(facts, counts, notes, problems)


def _inspect_model(folder: Path) -> Described:
    state = read_folder(folder, device="meta")
    config = read_config(folder)
    kind = find_kind(state)
    facts, notes = _describe_model(kind, config, state)
    state = rename_encoder(state, kind, kind)
    extractor, differs = _describe_extractor(folder)
    problems = _find_misfit(folder, kind, config, state, ()) + differs
    facts["extractor"] = extractor
    facts["tokenizer"] = _describe_tokenizer(folder)
    return Described(facts, _count(config, state), notes, problems)


def _inspect_detector(folder: Path) -> Described:
    extractor = DetectorExtractor.from_pretrained(folder)
    config = extractor.detector.config
    facts: dict[str, object] = {
        "fingerprint": extractor.fingerprint,
        "objects": list(extractor.object_names),
        "attributes": list(extractor.attribute_names),
        "region feature": config.feature_dim,
        "maximum regions": config.num_regions,
        "image": f"{config.channel_order}, {config.shorter_side} to {config.longer_side} pixels",
    }
    parameters = _count_by_part(dict(extractor.detector.named_parameters()))
    return Described(facts, parameters)


def _inspect_extractor(folder: Path) -> Described:
    extractor = load_extractor(folder)
    facts: dict[str, object] = {
        "extractor": type(extractor).__name__,
        "fingerprint": extractor.fingerprint,
        "objects": list(extractor.object_names),
        "region feature": extractor.feature_dim,
    }
    return Described(facts)


def _inspect_published(path: Path) -> Described:
    published = load_published(path)
    facts: dict[str, object] = {
        "format": published.format,
        "tensors": len(published.state),
        **{f"norm of {name}": norm for name, norm in published.norms.items()},
    }
    parameters = _count_by_part(published.state)
    return Described(facts, parameters, published.notes)


def _inspect_parquet(path: Path) -> Described:
    header, images = read_parquet_header(path)
    facts = {"images": images, "feature dim": header.feature_dim, "dtype": header.dtype}
    return Described({**facts, "fingerprint": header.fingerprint})


def _inspect_web_dataset(folder: Path) -> Described:
    index = read_web_index(folder)
    facts: dict[str, object] = {
        "images": sum(shard.images for shard in index.shards),
        "tar files": len(index.shards),
        "feature dim": index.header.feature_dim,
        "dtype": index.header.dtype,
        "fingerprint": index.header.fingerprint,
    }
    return Described(facts)


def _inspect_store(folder: Path) -> Described:
    described = describe_store(folder)
    notes: tuple[str, ...] = (
        () if described["complete"] else ("it is not finished: rerun the same command to resume",)
    )
    failures = list_failures(folder)
    if failures:
        some = count(len(failures), "image")
        notes += (f"no regions of {some}, the first: {failures[0].reason}",)
    size = described.pop("bytes")
    facts = {name.replace("_", " "): value for name, value in described.items()}
    assert isinstance(size, int)
    return Described(facts | {"size": file_size(size)}, notes=notes)


def _inspect_old_store(folder: Path) -> Described:
    header, images = read_old_header(folder)
    facts: dict[str, object] = {"images": len(images), "feature dim": header.feature_dim}
    note = f"convert it to read it: lxmert convert {folder} NEW"
    return Described(facts, notes=(note,))


def _inspect_saved_dataset(path: Path) -> Described:
    return Described(describe_saved_dataset(open_saved_dataset(path)))


INSPECTORS: dict[FileKind, Callable[[Path], Described]] = {
    FileKind.ORIGINAL: _inspect_original,
    FileKind.MODEL: _inspect_model,
    FileKind.DETECTOR: _inspect_detector,
    FileKind.EXTRACTOR: _inspect_extractor,
    FileKind.PUBLISHED: _inspect_published,
    FileKind.STORE: _inspect_store,
    FileKind.OLD_STORE: _inspect_old_store,
    FileKind.TSV: lambda path: Described(describe_tsv(path)),
    FileKind.TSVS: lambda path: Described(describe_tsv(path)),
    FileKind.NPZ: lambda path: Described(describe_npz(path)),
    FileKind.PARQUET: _inspect_parquet,
    FileKind.WEB_DATASET: _inspect_web_dataset,
    FileKind.SAVED_DATASET: lambda path: Described(
        describe_saved_dataset(open_saved_dataset(path))
    ),
    FileKind.TOKENIZER: lambda path: Described({"vocabulary": _describe_tokenizer(path)}),
}
"""Type of file or folder -> the function that describes it."""


def _read_original(path: Path) -> OriginalCheckpoint:
    """Read names and shapes of an original checkpoint; its number of heads is unknown."""
    return from_original(read_weights(path, device="meta"), source=path, num_attention_heads=1)


def _describe_model(
    kind: str, config: LxmertConfig, state: Mapping[str, Tensor]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return facts and notes of LXMERT weights."""
    types = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})
    size = sum(value.numel() * value.element_size() for value in _unshared(config, state).values())
    facts: dict[str, object] = {
        "model": MODELS[kind].__name__,
        "layers": f"{config.l_layers} language, {config.r_layers} region, "
        f"{config.x_layers} cross-modality",
        "hidden size": config.hidden_size,
        "attention heads": config.num_attention_heads,
        "text": f"{config.vocab_size} word pieces, up to {config.max_position_embeddings} per text",
        "region": f"{config.visual_feat_dim} features, {config.visual_pos_dim} box coordinates",
        "weights": f"{', '.join(types)}, {file_size(size)}",
    }
    notes: tuple[str, ...] = ()
    if kind == "pretraining":
        facts["objectives"] = [
            name for switch, name in _OBJECTIVES.items() if _is_on(config, switch)
        ]
    if any(name.startswith("answer_head.") for name in state):
        answers = answers_of(config)
        facts["answers"] = config.num_qa_labels if answers is None else list(answers)
        if answers is None:
            notes = (
                f"the {config.num_qa_labels} answers have no names: "
                "`lxmert convert ... --answers LIST` writes them into the model",
            )
    if kind == "pairs":
        facts["images per text"] = config.num_images
    return facts, notes


def _is_on(config: LxmertConfig, switch: str) -> bool:
    on: bool = getattr(config, switch)
    return on and (config.task_obj_predict or not switch.startswith("visual_"))


def _find_misfit(
    source: Path,
    kind: str,
    config: LxmertConfig,
    state: Mapping[str, Tensor],
    unknown: tuple[str, ...],
) -> tuple[str, ...]:
    """Return the mismatch between weights and their model, if any."""
    empty = empty_model(kind, config)
    tied = empty.all_tied_weights_keys
    try:
        own, beside = empty.state_dict(), SECOND_HEADS.get(kind, ())
        check_fit(source, state, own, tied=tied, unknown=unknown, allow=beside)
    except ValueError as error:
        return (str(error),)
    return ()


def _describe_extractor(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Return the fingerprint that a model expects, and problems of its region extractor."""
    if not (folder / FILE_NAME).is_file():
        return "not named in this folder", ()
    expected = PreprocessorConfig.load(folder).fingerprint
    if not (folder / EXTRACTOR_FOLDER).is_dir():
        return f"{expected}, not in this folder", ()
    found = load_extractor(folder / EXTRACTOR_FOLDER).fingerprint
    if found == expected:
        return f"{expected}, in {EXTRACTOR_FOLDER}", ()
    problem = (
        f"{folder / EXTRACTOR_FOLDER} holds the region extractor {found}, but the model expects "
        f"{expected}: put the expected one there"
    )
    return expected, (problem,)


def _describe_tokenizer(folder: Path) -> str:
    """Return the vocabulary size of a tokenizer."""
    rich, plain = (folder / name for name in TOKENIZER_FILES)
    if rich.is_file():
        model = read_json_object(rich, remedy="copy it again").get("model")
        words = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(words, dict | list):
            raise ValueError(f"{rich} has no vocabulary; expected a tokenizer: copy it again")
        return f"{len(words)} word pieces"
    if plain.is_file():
        return f"{len(plain.read_text(encoding='utf-8').splitlines())} word pieces"
    return "not in this folder"


def _count(config: LxmertConfig, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Count the parameters by group."""
    counts = dict.fromkeys([*_GROUPS.values(), "other"], 0)
    for name, value in _unshared(config, state).items():
        name = name.removeprefix("lxmert.")
        group = next((title for start, title in _GROUPS.items() if name.startswith(start)), "other")
        counts[group] += math.prod(value.shape)
    return {group: count for group, count in counts.items() if count}


def _count_by_part(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Count the parameters of each part of a detector."""
    counts: dict[str, int] = {}
    for name, value in state.items():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + value.numel()
    return counts


def _unshared(config: LxmertConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the word decoder if it shares the embedding."""
    shared = {"cls.predictions.decoder.weight"} if config.tie_word_embeddings else set()
    return {name: value for name, value in state.items() if name not in shared}
