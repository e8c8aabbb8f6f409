"""What a file or folder is, and what is in it; nothing of it is ever run."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME, PreprocessorConfig
from lxmert.data.store import describe_store
from lxmert.data.store_layout import HEADER, UNFINISHED, read_failures
from lxmert.data.tokenizer import TOKENIZER_FILES
from lxmert.files import read_json_object, shorten
from lxmert.model.answers import answers_of
from lxmert.model.checkpoints import check_fit, read_folder, read_weights
from lxmert.model.configuration import LxmertConfig
from lxmert.model.loading import MODELS, find_kind, outline
from lxmert.model.original import HEAD_WIDTH, Original, from_original
from lxmert.model.pretrained import read_config
from lxmert.names import count
from lxmert.regions.checkpoints import WEIGHTS_NAMES, YAML_NAME, load_published
from lxmert.regions.configuration import CONFIG_NAME
from lxmert.regions.extract import DetectorExtractor
from lxmert.regions.extractor import EXTRACTORS, load_extractor
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
MODEL, ORIGINAL = "model folder", "file of the original code"
STORE, TSV, NPZ = "region store", "TSV file of regions", "folder of .npz files"
TSVS = "folder of TSV files with regions"
DETECTOR, EXTRACTOR, PUBLISHED = "detector folder", "folder of eyes", "published detector"
"""Kinds of files that others need by name."""


@dataclass(frozen=True)
class Report:
    """What is known of a file or folder.

    Attributes:
        path: where it is.
        kind: what it is; a row of `INSPECTORS`.
        facts: what is to be said of it, by name, the important first.
        parameters: how many numbers its weights are, by group; shared ones are counted once.
        notes: what lacks or should be known.
        problems: what is wrong with it, for which `verify` fails.
    """

    path: str
    kind: str
    facts: dict[str, object]
    parameters: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values, with `num_parameters`, the sum, beside them."""
        return {**asdict(self), "num_parameters": sum(self.parameters.values())}


def inspect(path: str | Path) -> Report:
    """Find out what a file or folder is and what is in it.

    Args:
        path: model folder, parameter file of the original code, a detector's folder or published file, region
            store, TSV file or folder of .npz or TSV files with regions, or tokenizer.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is none of these, or damaged.
    """
    path = Path(path)
    return INSPECTORS[recognise(path)](path)


def recognise(path: Path) -> str:
    """Tell by its content what a file or folder is.

    Returns:
        A row of `INSPECTORS`.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is nothing that is known.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: check the path")
    if path.is_dir():
        return _recognise_folder(path)
    check_layout(path)
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        raise ValueError(f"{path} is one file of a model: name the folder that it lies in")
    # A zip archive or a pickle: the two forms that torch has written.
    if start.startswith((b"PK", b"\x80")):
        return _recognise_pickle(path)
    if is_tsv(path):
        return TSV
    try:
        load_published(path)
    except ValueError as error:
        named = path.suffix == ".caffemodel"  # then it is known what is wrong with it
        raise ValueError(str(error) if named else f"{path} is {_EXPECTED}") from error
    return PUBLISHED


_EXPECTED = (
    "nothing that is known here: expected a model folder, a parameter file of the original code such as "
    "model_LXRT.pth, a detector's folder or published file, a region store, a TSV file or a folder "
    "of .npz or TSV files with regions, or a tokenizer"
)


def _recognise_pickle(path: Path) -> str:
    """Tell LXMERT's parameters from a detector's; if it is neither, say why it is not LXMERT's."""
    try:
        _read_original(path)
    except ValueError as error:
        try:
            load_published(path)
        except ValueError:
            raise error from None
        return PUBLISHED
    return ORIGINAL


def _recognise_folder(folder: Path) -> str:
    if any((folder / name).is_file() for name in (HEADER, UNFINISHED)):
        return STORE
    if (folder / CONFIG_NAME).is_file():
        model_type = read_json_object(folder / CONFIG_NAME, remedy="copy it again").get(
            "model_type"
        )
        if model_type == LxmertConfig.model_type:
            return MODEL
        if not isinstance(model_type, str) or model_type not in EXTRACTORS:
            raise ValueError(
                f"{folder} holds a model of type {shorten(model_type)}, not one of LXMERT's"
            )
        return DETECTOR if EXTRACTORS[model_type] is DetectorExtractor else EXTRACTOR
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return "tokenizer"
    if (folder / YAML_NAME).is_file() and any((folder / name).is_file() for name in WEIGHTS_NAMES):
        return PUBLISHED
    check_layout(folder)
    if has_npz(folder):
        return NPZ
    if has_tsv(folder):
        return TSVS
    raise ValueError(f"{folder} is {_EXPECTED}")


def _inspect_original(path: Path) -> Report:
    original = _read_original(path)
    facts, notes = _describe_model(original.kind, original.config, original.state)
    width = original.config.hidden_size
    facts["attention heads"] = f"{width // HEAD_WIDTH}, by the width; the file does not tell"
    if width % HEAD_WIDTH:
        facts["attention heads"] = "unknown: convert it with --heads N"
    problems = _find_misfit(path, original.kind, original.config, original.state, original.unknown)
    counts = _count(original.config, original.state)
    return Report(str(path), ORIGINAL, facts, counts, notes, problems)


def _inspect_model(folder: Path) -> Report:
    state = read_folder(folder, device="meta")
    config = read_config(folder)
    kind = find_kind(state)
    facts, notes = _describe_model(kind, config, state)
    if kind == "encoder":
        state = {name.removeprefix("lxmert."): value for name, value in state.items()}
    extractor, differs = _describe_extractor(folder)
    problems = _find_misfit(folder, kind, config, state, ()) + differs
    facts["extractor"] = extractor
    facts["tokenizer"] = _describe_tokenizer(folder)
    return Report(str(folder), MODEL, facts, _count(config, state), notes, problems)


def _inspect_detector(folder: Path) -> Report:
    extractor = DetectorExtractor.from_pretrained(folder)
    config = extractor.detector.config
    parameters: dict[str, int] = {}
    for name, parameter in extractor.detector.named_parameters():
        group = name.split(".")[0]
        parameters[group] = parameters.get(group, 0) + parameter.numel()
    facts: dict[str, object] = {
        "fingerprint": extractor.fingerprint,
        "objects": list(extractor.object_names),
        "attributes": list(extractor.attribute_names),
        "region feature": config.feature_dim,
        "regions at most": config.num_regions,
        "image": f"{config.channel_order}, {config.shorter_side} to {config.longer_side} pixels",
    }
    return Report(str(folder), DETECTOR, facts, parameters)


def _inspect_extractor(folder: Path) -> Report:
    extractor = load_extractor(folder)
    facts: dict[str, object] = {
        "extractor": type(extractor).__name__,
        "fingerprint": extractor.fingerprint,
        "objects": list(extractor.object_names),
        "region feature": extractor.feature_dim,
    }
    return Report(str(folder), EXTRACTOR, facts)


def _inspect_published(path: Path) -> Report:
    published = load_published(path)
    parameters: dict[str, int] = {}
    for name, value in published.state.items():
        group = name.split(".")[0]
        parameters[group] = parameters.get(group, 0) + value.numel()
    facts: dict[str, object] = {
        "format": published.format,
        "tensors": len(published.state),
        **{f"norm of {name}": norm for name, norm in published.norms.items()},
    }
    return Report(str(path), PUBLISHED, facts, parameters, published.notes)


def _inspect_tsv(path: Path) -> Report:
    return Report(str(path), TSVS if path.is_dir() else TSV, describe_tsv(path))


def _inspect_npz(folder: Path) -> Report:
    return Report(str(folder), NPZ, describe_npz(folder))


def _inspect_store(folder: Path) -> Report:
    described = describe_store(folder)
    notes: tuple[str, ...] = (
        () if described["complete"] else ("it is not finished: the same command goes on",)
    )
    failures = read_failures(folder)
    if failures:
        some = count(len(failures), "image")
        notes += (f"no regions of {some}, the first: {failures[0].reason}",)
    size = described.pop("bytes")
    facts = {name.replace("_", " "): value for name, value in described.items()}
    assert isinstance(size, int)
    return Report(str(folder), STORE, facts | {"size": _megabytes(size)}, notes=notes)


def _inspect_tokenizer(folder: Path) -> Report:
    return Report(str(folder), "tokenizer", {"vocabulary": _describe_tokenizer(folder)})


INSPECTORS: dict[str, Callable[[Path], Report]] = {
    ORIGINAL: _inspect_original,
    MODEL: _inspect_model,
    DETECTOR: _inspect_detector,
    EXTRACTOR: _inspect_extractor,
    PUBLISHED: _inspect_published,
    STORE: _inspect_store,
    TSV: _inspect_tsv,
    TSVS: _inspect_tsv,
    NPZ: _inspect_npz,
    "tokenizer": _inspect_tokenizer,
}
"""Kind of file or folder -> what reports on it."""


def _read_original(path: Path) -> Original:
    """Read names and shapes of a file of the original code; its number of heads is left open."""
    return from_original(read_weights(path, device="meta"), source=path, num_attention_heads=1)


def _describe_model(
    kind: str, config: LxmertConfig, state: Mapping[str, Tensor]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return facts and notes of an LXMERT."""
    types = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})
    size = sum(value.numel() * value.element_size() for value in _unshared(config, state).values())
    facts: dict[str, object] = {
        "model": MODELS[kind].__name__,
        "layers": f"{config.l_layers} language, {config.r_layers} region, "
        f"{config.x_layers} cross-modality",
        "width": config.hidden_size,
        "attention heads": config.num_attention_heads,
        "text": f"{config.vocab_size} word pieces, {config.max_position_embeddings} at once",
        "region": f"feature of {config.visual_feat_dim}, position of {config.visual_pos_dim}",
        "weights": f"{', '.join(types)}, {_megabytes(size)}",
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
        facts["images at once"] = config.num_images
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
    """Return what keeps weights from filling their model."""
    empty = outline(kind, config)
    tied = empty.all_tied_weights_keys
    try:
        check_fit(source, state, empty.state_dict(), tied=tied, unknown=unknown)
    except ValueError as error:
        return (str(error),)
    return ()


def _describe_extractor(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Return the fingerprint that a model expects, and what is wrong with the eyes beside it."""
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
    """Return how many word pieces a tokenizer knows."""
    rich, plain = (folder / name for name in TOKENIZER_FILES)
    if rich.is_file():
        model = read_json_object(rich, remedy="copy it again").get("model")
        words = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(words, dict | list):
            raise ValueError(f"{rich} is no tokenizer: it has no vocabulary")
        return f"{len(words)} word pieces"
    if plain.is_file():
        return f"{len(plain.read_text(encoding='utf-8').splitlines())} word pieces"
    return "not in this folder"


def _count(config: LxmertConfig, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Add up the parameters by group."""
    counts = dict.fromkeys([*_GROUPS.values(), "other"], 0)
    for name, value in _unshared(config, state).items():
        name = name.removeprefix("lxmert.")
        group = next((title for start, title in _GROUPS.items() if name.startswith(start)), "other")
        counts[group] += math.prod(value.shape)
    return {group: count for group, count in counts.items() if count}


def _unshared(config: LxmertConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the decoder of words where it is the embedding once more."""
    shared = {"cls.predictions.decoder.weight"} if config.tie_word_embeddings else set()
    return {name: value for name, value in state.items() if name not in shared}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
