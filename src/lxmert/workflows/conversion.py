"""Converts weights, regions and questions between our formats and those of other programs."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lxmert.data.answer_lists import read_answers
from lxmert.data.npz import UNKNOWN, import_npz
from lxmert.data.parquet import read_parquet, read_parquet_header, write_parquet
from lxmert.data.preprocessing import EXTRACTOR_FOLDER
from lxmert.data.records import KEYS
from lxmert.data.saved_datasets import open_saved_dataset, write_questions
from lxmert.data.store import RegionStore, is_finished
from lxmert.data.store_layout import StoreHeader
from lxmert.data.store_writing import Extracted, StoreWriter
from lxmert.data.tokenizer import TOKENIZER_FILES, load_tokenizer
from lxmert.data.tsv import FEATURE_DIM, PUBLISHED_EXTRACTOR, Progress, import_tsv, write_tsv
from lxmert.data.web_dataset import read_web_dataset, read_web_index, write_web_dataset
from lxmert.files import atomic_path, check_absent
from lxmert.hub import find_model
from lxmert.model.answers import answers_of, name_answers
from lxmert.model.heads import LxmertAnsweringModel
from lxmert.model.loading import load_model, load_original, save_original
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.names import count
from lxmert.processing import LxmertProcessor
from lxmert.regions.published import read_names
from lxmert.schema import Failure
from lxmert.tensor_files import report_write_errors
from lxmert.vocabularies import ATTRIBUTES, OBJECTS
from lxmert.weights.table import find_name
from lxmert.workflows.inspection import FileKind, recognize
from lxmert.workflows.old_store import convert_old_store
from lxmert.workflows.region_files import has_names, npz_feature_dim, tsv_feature_dim

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")

_PARTS = ("answers", "extractor", "tokenizer")
"""Options that add what a published model comes without."""

_OTHER_WEIGHTS = (".bin", ".h5", ".msgpack", ".onnx", ".ot", ".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class ConversionOptions:
    """Options of a conversion.

    Attributes:
        answers: answer list of the model, in any format that `read_answers` reads.
        heads: number of attention heads, which an original checkpoint does not store.
        allow: names of weights that may be unused or missing; see `load_original`.
        dtype: data type of stored features, `float32` (default) or `float16`.
        fingerprint: fingerprint of the extractor to store; models reject stores of another one.
            Absent: that of the published files, if the features have the same width.
        objects: file with the object names by id, one per line.
        attributes: the same for attributes.
        extractor: region extractor of the model, a folder or a published file.
        tokenizer: tokenizer of the model, a folder or a `vocab.txt`.
    """

    answers: Path | None = None
    heads: int | None = None
    allow: tuple[str, ...] = ()
    dtype: str | None = None
    fingerprint: str | None = None
    objects: Path | None = None
    attributes: Path | None = None
    extractor: Path | None = None
    tokenizer: Path | None = None


class Converted(NamedTuple):
    """Result of a conversion.

    Attributes:
        notes: remarks for the user, one sentence each.
        failures: images that could not be converted.
    """

    notes: list[str]
    failures: list[Failure]


@dataclass(frozen=True)
class ConversionJob:
    """The arguments of `convert`."""

    source: Path
    target: Path
    choices: ConversionOptions
    progress: Progress


class Conversion(NamedTuple):
    """A conversion from one format to another.

    Attributes:
        run: reads the source and writes the target atomically.
        choices: the fields of `ConversionOptions` that it uses.
        resumes: whether it resumes an incomplete target.
    """

    run: Callable[[ConversionJob], Converted]
    choices: tuple[str, ...]
    resumes: bool = False


def convert(
    source: str | Path,
    target: str | Path,
    choices: ConversionOptions | None = None,
    *,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> Converted:
    """Convert a file or folder; the source format is detected automatically.

    The target is written atomically, except for region stores and images, which can be resumed.

    Args:
        source: weights: an original checkpoint, a model folder or its hub name; regions: a TSV or
            Parquet file, a folder of .npz, TSV or WebDataset files, or a region store, also in its
            earlier format; questions with images: a data set that Hugging Face's datasets saved,
            a Parquet file or a folder of them.
        target: file or folder to write: an original checkpoint if it ends in `.pth`, a TSV file if
            it ends in `.tsv`, a Parquet file if it ends in `.parquet`, a WebDataset folder if it
            ends in `.wds`, otherwise a model folder with safetensors, a region store, or a folder
            of questions and images.
        choices: options; absent: the defaults.
        progress: called with the converted part of the source and its total, for regions only.

    Returns:
        Notes on the result, and failures.

    Raises:
        FileNotFoundError: if there is no such source.
        FileExistsError: if the target exists; for stores, if it is finished without failures.
        OSError: if the target cannot be written; nothing but an incomplete store is left.
        ValueError: if the source cannot be read or converted, or an option does not apply.
    """
    source, target = Path(source), Path(target)
    choices = choices or ConversionOptions()
    known = find_name(str(source)) is not None or _HUB_NAME.fullmatch(str(source))
    if not source.exists() and known:
        source = find_model(str(source), complete=choices.extractor is None)
    conversion = _find(source, target, choices)
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} for {target}: create it first")
    if not conversion.resumes:
        check_absent(target, remedy="name another target, or remove it first")
    return conversion.run(ConversionJob(source, target, choices, progress))


def _find(source: Path, target: Path, choices: ConversionOptions) -> Conversion:
    """Look up the conversion, and raise `ValueError` for options that it does not use."""
    kind = recognize(source)
    ending = target.suffix.lower()
    form = ending if any(ending == form for _, form in CONVERSIONS) else "folder"
    conversion = CONVERSIONS.get((kind, form))
    if conversion is None:
        forms = " or ".join(
            "a folder" if to == "folder" else f"a name with the suffix {to}"
            for of, to in CONVERSIONS
            if of == kind
        )
        raise ValueError(
            f"{source} ({kind}) cannot be converted to {target}"
            + (f": expected {forms}" if forms else "")
        )
    for choice in fields(ConversionOptions):
        given = getattr(choices, choice.name) != choice.default
        if given and choice.name not in conversion.choices:
            raise ValueError(
                f"--{choice.name} does not apply when {source} ({kind}) is converted to "
                f"{target}: leave it out"
            )
    return conversion


def _original_to_folder(job: ConversionJob) -> Converted:
    choices = job.choices
    model = load_original(job.source, num_attention_heads=choices.heads, allow=choices.allow)
    notes = _name_answers(model, choices.answers)
    with atomic_path(job.target) as part, report_write_errors():
        model.save_pretrained(part)
        _add_parts(part, model, choices, job.source)
    heads = model.config.num_attention_heads
    if choices.heads is None:
        notes.append(
            f"{heads} attention heads, assumed from the hidden size: the file does not store their "
            "number, --heads sets it"
        )
    missing = [part for part in ("tokenizer", "extractor") if getattr(choices, part) is None]
    if missing:
        notes.append(
            f"the file has no {' and no '.join(missing)}, which answering needs: convert again "
            "with " + " ".join(f"--{part} {part.upper()}" for part in missing)
        )
    return Converted(notes, [])


def _folder_to_folder(job: ConversionJob) -> Converted:
    source = job.source
    model = load_model(source, allow=job.choices.allow)
    notes = _name_answers(model, job.choices.answers)
    beside = list(_files_beside(source))
    for path in beside:
        _check_link(path, source)
    with atomic_path(job.target) as part, report_write_errors():
        part.mkdir()
        for path in beside:
            copy = part / path.relative_to(source)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
        model.save_pretrained(part)
        _add_parts(part, model, job.choices, source)
    return Converted(notes, [])


def _add_parts(
    folder: Path, model: LxmertPreTrainedModel, choices: ConversionOptions, source: Path
) -> None:
    """Write the tokenizer and the region extractor of the choices into a model folder.

    Raises:
        ValueError: if they do not fit the model.
    """
    if choices.tokenizer is not None:
        load_tokenizer(choices.tokenizer).save_pretrained(folder)
    if choices.extractor is None:
        return
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(
            f"{source} has no tokenizer; expected one beside --extractor {choices.extractor}: add "
            "--tokenizer FOLDER or vocab.txt"
        )
    processor = LxmertProcessor.from_folder(folder, choices.extractor)
    processor.check_fit(model.config, source)
    processor.save_pretrained(folder)


def _files_beside(folder: Path) -> Iterator[Path]:
    """Yield the other files of a model folder: small files, and its region extractor."""
    for path in sorted(folder.iterdir()):
        weights = any(ending in path.suffixes for ending in _OTHER_WEIGHTS)
        if path.is_file() and not weights and not path.name.startswith("."):
            yield path
    yield from (path for path in sorted((folder / EXTRACTOR_FOLDER).glob("*")) if path.is_file())


def _check_link(path: Path, folder: Path) -> None:
    """Raise `ValueError` for a link out of the folder, except within the hub's cache."""
    places = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        places.append(folder.resolve().parent.parent / "blobs")
    found = path.resolve()
    if not any(found.is_relative_to(place) for place in places):
        raise ValueError(
            f"{path} is a link to {found}, outside of the model folder: replace it by a copy, or "
            "remove it"
        )


def _folder_to_original(job: ConversionJob) -> Converted:
    model = load_model(job.source, allow=job.choices.allow)
    save_original(model, job.target)
    note = "the file holds the weights only: keep answers, tokenizer and region extractor with it"
    return Converted([note], [])


def _tsv_to_store(job: ConversionJob) -> Converted:
    choices = job.choices
    feature_dim = tsv_feature_dim(job.source)
    notes = []
    fingerprint = choices.fingerprint
    if fingerprint is None:
        if feature_dim != FEATURE_DIM:
            raise ValueError(
                f"{job.source} has features of width {feature_dim}, not the {FEATURE_DIM} of the "
                "published files: name their extractor with --fingerprint NAME"
            )
        fingerprint = PUBLISHED_EXTRACTOR
        notes.append(
            f"the regions are assumed to be from {fingerprint}: otherwise use --fingerprint"
        )
    known = fingerprint == PUBLISHED_EXTRACTOR and feature_dim == FEATURE_DIM
    objects = _names_in(choices.objects or (OBJECTS if known else None))
    attributes = _names_in(choices.attributes or (ATTRIBUTES if known else None))
    if not has_names(job.source):
        objects = _names_in(choices.objects) or (UNKNOWN,)
        attributes = _names_in(choices.attributes) or ()
        notes.append(
            "the lines have the six columns of bottom-up-attention, without objects and attributes:"
            " all objects have class 0 and confidence 0"
        )
    store = import_tsv(
        job.source,
        job.target,
        dtype=_dtype(choices),
        feature_dim=feature_dim,
        fingerprint=fingerprint,
        object_names=objects,
        attribute_names=attributes,
        progress=job.progress,
    )
    return Converted(notes, store.failures)


def _npz_to_store(job: ConversionJob) -> Converted:
    if job.choices.fingerprint is None:
        raise ValueError(
            f"the files in {job.source} do not name their region extractor: name it with "
            "--fingerprint NAME"
        )
    store = import_npz(
        job.source,
        job.target,
        fingerprint=job.choices.fingerprint,
        dtype=_dtype(job.choices),
        feature_dim=npz_feature_dim(job.source),
        progress=job.progress,
    )
    return Converted(
        ["the regions have no object names, which .npz files do not store"], store.failures
    )


def _old_store_to_store(job: ConversionJob) -> Converted:
    return Converted([], convert_old_store(job.source, job.target, job.progress).failures)


def _store_to(write: Callable[..., None], job: ConversionJob) -> Converted:
    """Check a store, and write it by a function that takes target, store and `progress`."""
    store = RegionStore(job.source)
    if damages := store.verify():
        raise ValueError(f"{job.source} is damaged ({damages[0].problem}): make the store again")
    write(job.target, store, progress=job.progress)
    skipped = count(len(store.failures), "image")
    return Converted([f"skipped without regions: {skipped}"] if store.failures else [], [])


def _parquet_to_store(job: ConversionJob) -> Converted:
    header, images = read_parquet_header(job.source)
    return _to_store(job, header, images, read_parquet)


def _web_dataset_to_store(job: ConversionJob) -> Converted:
    index = read_web_index(job.source)
    images = sum(shard.images for shard in index.shards)
    return _to_store(job, index.header, images, read_web_dataset)


def _to_store(
    job: ConversionJob,
    header: StoreHeader,
    images: int,
    read: Callable[[Path, frozenset[str]], Iterator[Extracted]],
) -> Converted:
    """Write a store, resuming it, from what `read` yields without the given images."""
    if is_finished(job.target):
        raise FileExistsError(f"{job.target} is a finished region store: name another folder")
    with StoreWriter(job.target, header) as writer:
        for item in read(job.source, frozenset(writer.done)):
            writer.add(item)
            job.progress(len(writer.done), images)
        writer.finish()
    return Converted([], [])


def _dataset_to_questions(job: ConversionJob) -> Converted:
    data = open_saved_dataset(job.source)
    failures = write_questions(data, job.target, progress=job.progress)
    unread = ", ".join(name for name in data.columns if name not in KEYS)
    return Converted([f"columns that are not read: {unread}"] if unread else [], failures)


def _store_to_tsv(job: ConversionJob) -> Converted:
    store = RegionStore(job.source)
    write_tsv(job.target, store, progress=job.progress)
    notes = []
    if store.header.dtype != "float32":
        notes.append(f"the features were {store.header.dtype}, and keep that precision in float32")
    if store.failures:
        notes.append(f"skipped without regions: {count(len(store.failures), 'image')}")
    return Converted(notes, [])


def _names_in(path: Path | None) -> tuple[str, ...] | None:
    return None if path is None else read_names(path)


def _dtype(choices: ConversionOptions) -> str:
    dtype = choices.dtype or "float32"
    if dtype not in ("float16", "float32"):
        raise ValueError(f"--dtype is {dtype!r}: expected float16 or float32")
    return dtype


CONVERSIONS: dict[tuple[FileKind, str], Conversion] = {
    (FileKind.ORIGINAL, "folder"): Conversion(_original_to_folder, (*_PARTS, "heads", "allow")),
    (FileKind.MODEL, "folder"): Conversion(_folder_to_folder, (*_PARTS, "allow")),
    (FileKind.MODEL, ".pth"): Conversion(_folder_to_original, ("allow",)),
    (FileKind.TSV, "folder"): Conversion(
        _tsv_to_store, ("dtype", "fingerprint", "objects", "attributes"), resumes=True
    ),
    (FileKind.TSVS, "folder"): Conversion(
        _tsv_to_store, ("dtype", "fingerprint", "objects", "attributes"), resumes=True
    ),
    (FileKind.NPZ, "folder"): Conversion(_npz_to_store, ("dtype", "fingerprint"), resumes=True),
    (FileKind.OLD_STORE, "folder"): Conversion(_old_store_to_store, (), resumes=True),
    (FileKind.STORE, ".parquet"): Conversion(partial(_store_to, write_parquet), ()),
    (FileKind.PARQUET, "folder"): Conversion(_parquet_to_store, (), resumes=True),
    (FileKind.STORE, ".wds"): Conversion(partial(_store_to, write_web_dataset), ()),
    (FileKind.WEB_DATASET, "folder"): Conversion(_web_dataset_to_store, (), resumes=True),
    (FileKind.SAVED_DATASET, "folder"): Conversion(_dataset_to_questions, (), resumes=True),
    (FileKind.STORE, ".tsv"): Conversion(_store_to_tsv, ()),
}
"""(type of the source, suffix of the target or `folder`) -> the conversion."""


def _name_answers(model: LxmertPreTrainedModel, path: Path | None) -> list[str]:
    """Write an answer list into a model, or return a note if its answers have no names."""
    layer = model.get_qa_logit_layer() if isinstance(model, LxmertAnsweringModel) else None
    if path is not None:
        if layer is None:
            raise ValueError(
                f"--answers {path}: {type(model).__name__} has no answers: leave it out"
            )
        name_answers(model.config, read_answers(path).answers)
    elif layer is not None and answers_of(model.config) is None:
        return [
            f"its {layer.out_features} answers have no names: convert again with --answers LIST, "
            "the answer list of its training, such as trainval_label2ans.json"
        ]
    return []
