"""Files of other programs into ours and back."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from lxmert.data.answer_lists import read_answers
from lxmert.data.npz import UNKNOWN, import_npz
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME
from lxmert.data.store import RegionStore
from lxmert.data.tsv import FEATURE_DIM, PUBLISHED_EXTRACTOR, Progress, import_tsv, write_tsv
from lxmert.files import atomic_path
from lxmert.model.answers import answers_of, name_answers
from lxmert.model.heads import LxmertAnsweringModel
from lxmert.model.loading import load_model, load_original, save_original
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.names import count
from lxmert.regions.published import read_names
from lxmert.schema import Failure
from lxmert.tensor_files import report_write_errors
from lxmert.workflows.inspection import NPZ, STORE, TSV, TSVS, recognise
from lxmert.workflows.region_files import has_names, npz_feature_dim, tsv_feature_dim

_OTHER_WEIGHTS = (".bin", ".h5", ".msgpack", ".onnx", ".ot", ".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Choices:
    """What may be said about a conversion.

    Attributes:
        answers: list of the model's answers, in any form that `read_answers` knows.
        heads: number of attention heads, which a file of the original code does not tell.
        allow: names of weights that may be left over or stay random; see `load_original`.
        dtype: of stored features, `float32` or `float16`; absent: `float32`.
        fingerprint: name of what made the regions: a model refuses those of another. Absent: that
            of the published files, where the features are as wide as theirs.
        objects: list of the names of objects by id, one a line.
        attributes: the same for attributes.
    """

    answers: Path | None = None
    heads: int | None = None
    allow: tuple[str, ...] = ()
    dtype: str | None = None
    fingerprint: str | None = None
    objects: Path | None = None
    attributes: Path | None = None


class Converted(NamedTuple):
    """What became of a conversion.

    Attributes:
        notes: what the user should know, one sentence each.
        failures: what could not be converted, while the rest was.
    """

    notes: list[str]
    failures: list[Failure]


@dataclass(frozen=True)
class Job:
    """What a conversion is given; the arguments of `convert`."""

    source: Path
    target: Path
    choices: Choices
    progress: Progress


class Conversion(NamedTuple):
    """A way from one kind of file to another.

    Attributes:
        run: reads the source and writes the target, under a temporary name until it is whole.
        choices: the fields of `Choices` that it reads.
        resumes: whether it takes up a target that is there, where it was interrupted.
    """

    run: Callable[[Job], Converted]
    choices: tuple[str, ...]
    resumes: bool = False


def convert(
    source: str | Path,
    target: str | Path,
    choices: Choices | None = None,
    *,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> Converted:
    """Convert a file or folder; what the source is, its content tells.

    The target is written under a temporary name and renamed when it is whole; but a region store
    is there at once, and finished when it is whole.

    Args:
        source: weights: a parameter file of the original code, or a model folder; regions: a TSV file, a folder
            of .npz or TSV files, or a region store.
        target: file or folder to write. One that ends in `.pth` becomes a file of the original code, one that
            ends in `.tsv` a TSV file, any other one a model folder with safetensors or a region
            store.
        choices: absent: nothing is said beyond that.
        progress: called with what of the source is done and in all, for regions only.

    Returns:
        What the user should know of the result, and what failed.

    Raises:
        FileNotFoundError: if the source is not there.
        FileExistsError: if the target is there already; a store, if it is finished and nothing
            failed.
        OSError: if the target cannot be written; nothing is left of it then, but for a store.
        ValueError: if the source cannot be read or converted, or a choice does not apply.
    """
    source, target = Path(source), Path(target)
    choices = choices or Choices()
    conversion = _find(source, target, choices)
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} for {target}: make it first")
    if target.exists() and not conversion.resumes:
        raise FileExistsError(f"{target} is there already: name another target, or remove it first")
    return conversion.run(Job(source, target, choices, progress))


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


def _original_to_folder(job: Job) -> Converted:
    choices = job.choices
    model = load_original(job.source, num_attention_heads=choices.heads, allow=choices.allow)
    notes = _name_answers(model, choices.answers)
    with atomic_path(job.target) as part, report_write_errors():
        model.save_pretrained(part)
    heads = model.config.num_attention_heads
    if choices.heads is None:
        notes.append(f"it has {heads} attention heads, by its width; the file does not tell")
    notes.append(
        "tokenizer and eyes were not in the file: to ask it, add the tokenizer's files and a "
        f"{FILE_NAME} that names the eyes"
    )
    return Converted(notes, [])


def _folder_to_folder(job: Job) -> Converted:
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
    return Converted(notes, [])


def _files_beside(folder: Path) -> Iterator[Path]:
    """Yield what lies beside the weights of a model: small files, and all of its extractor."""
    for path in sorted(folder.iterdir()):
        weights = any(ending in path.suffixes for ending in _OTHER_WEIGHTS)
        if path.is_file() and not weights and not path.name.startswith("."):
            yield path
    yield from (path for path in sorted((folder / EXTRACTOR_FOLDER).glob("*")) if path.is_file())


def _check_link(path: Path, folder: Path) -> None:
    """Refuse a link out of the folder; the cache of the hub links to what lies beside it."""
    places = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        places.append(folder.resolve().parent.parent / "blobs")
    found = path.resolve()
    if not any(found.is_relative_to(place) for place in places):
        raise ValueError(
            f"{path} is a link to {found}, outside of the model: put a copy of it in its place, or "
            "remove it"
        )


def _folder_to_original(job: Job) -> Converted:
    model = load_model(job.source, allow=job.choices.allow)
    save_original(model, job.target)
    note = "the file holds the weights alone: keep answers, tokenizer and eyes beside it"
    return Converted([note], [])


def _tsv_to_store(job: Job) -> Converted:
    choices = job.choices
    feature_dim = tsv_feature_dim(job.source)
    notes = []
    fingerprint = choices.fingerprint
    if fingerprint is None:
        if feature_dim != FEATURE_DIM:
            raise ValueError(
                f"{job.source} has features of {feature_dim} numbers, not the {FEATURE_DIM} of the "
                "published files: say with --fingerprint NAME what made them"
            )
        fingerprint = PUBLISHED_EXTRACTOR
        notes.append(
            f"taken for regions of {fingerprint}: say with --fingerprint if others made them"
        )
    objects = None if choices.objects is None else read_names(choices.objects)
    attributes = None if choices.attributes is None else read_names(choices.attributes)
    if not has_names(job.source):
        objects, attributes = objects or (UNKNOWN,), attributes or ()
        notes.append(
            "the lines have the six columns of bottom-up-attention, without objects and attributes:"
            " every object is of class 0 with confidence 0"
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


def _npz_to_store(job: Job) -> Converted:
    if job.choices.fingerprint is None:
        raise ValueError(
            f"the files in {job.source} do not say what made their regions: say it with "
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
    return Converted(["the regions have no names: such files hold none"], store.failures)


def _store_to_tsv(job: Job) -> Converted:
    store = RegionStore(job.source)
    write_tsv(job.target, store, progress=job.progress)
    notes = []
    if store.header.dtype != "float32":
        notes.append(f"the features were {store.header.dtype}, and stay as coarse in float32")
    if store.failures:
        notes.append(f"without regions, and without a line: {count(len(store.failures), 'image')}")
    return Converted(notes, [])


def _dtype(choices: Choices) -> str:
    dtype = choices.dtype or "float32"
    if dtype not in ("float16", "float32"):
        raise ValueError(f"--dtype is {dtype!r}: expected float16 or float32")
    return dtype


CONVERSIONS: dict[tuple[str, str], Conversion] = {
    ("file of the original code", "folder"): Conversion(
        _original_to_folder, ("answers", "heads", "allow")
    ),
    ("model folder", "folder"): Conversion(_folder_to_folder, ("answers", "allow")),
    ("model folder", ".pth"): Conversion(_folder_to_original, ("allow",)),
    (TSV, "folder"): Conversion(
        _tsv_to_store, ("dtype", "fingerprint", "objects", "attributes"), resumes=True
    ),
    (TSVS, "folder"): Conversion(
        _tsv_to_store, ("dtype", "fingerprint", "objects", "attributes"), resumes=True
    ),
    (NPZ, "folder"): Conversion(_npz_to_store, ("dtype", "fingerprint"), resumes=True),
    (STORE, ".tsv"): Conversion(_store_to_tsv, ()),
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
