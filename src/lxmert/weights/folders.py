"""Published weights as complete model folders: weights, tokenizer, answers and region extractor.

The folders are in the user's cache. Each is written as a whole, from the files that the table names
and the lists of the package, and has a record of the origin and checksum of every file.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lxmert.data.answer_lists import read_answers
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, PreprocessorConfig
from lxmert.data.tokenizer import check_words, load_tokenizer
from lxmert.data.tsv import PUBLISHED_EXTRACTOR
from lxmert.downloading import FullDiskError
from lxmert.files import atomic_path, cache_folder, write_json
from lxmert.locks import FolderLock
from lxmert.model.answers import name_answers
from lxmert.model.checkpoints import read_weights
from lxmert.model.configuration import LxmertConfig
from lxmert.model.loading import fill_model, find_kind, load_original
from lxmert.model.modeling import LxmertPreTrainedModel
from lxmert.model.pretrained import read_config
from lxmert.regions.extract import DetectorExtractor
from lxmert.tensor_files import report_write_errors
from lxmert.weights.fetching import (
    Origin,
    Sources,
    fetch_file,
    find_local,
    origin_note,
    read_record,
)
from lxmert.weights.table import PUBLISHED, PublishedModel

RECORD = "source.json"
"""Record of the files that a folder was made of."""

_logger = logging.getLogger(__name__)


def published_folder(name: str) -> Path:
    """Return the folder of published weights in the cache, which may not exist yet."""
    return cache_folder() / "weights" / name


def open_published(name: str, sources: Sources | None = None) -> Path:
    """Return the complete folder of published weights; fetch and write it once.

    Args:
        name: row of `PUBLISHED`.
        sources: where to look for the files first.

    Returns:
        A model folder, or the folder of a region extractor.

    Raises:
        OSError: if no address delivers a file, the disk is full, or downloads are forbidden.
        ValueError: if a file is damaged or not what the table says.
    """
    folder = published_folder(name)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent, name):
        if not folder.is_dir():
            write = _write_model if PUBLISHED[name].kind == "model" else _write_detector
            write(name, folder, sources or Sources())
    return folder


def open_extractor(name: str, sources: Sources | None = None) -> Path:
    """Return the folder of the region extractor of a published model, or of a detector.

    The detectors of the model are tried in turn.

    Raises:
        OSError: if none can be fetched, with the reasons.
    """
    names = PUBLISHED[name].extractors or (name,)
    for known in names:
        if published_folder(known).is_dir():
            return published_folder(known)
    sources = sources or Sources()
    names = tuple(sorted(names, key=lambda each: not _is_local(PUBLISHED[each], sources)))
    reasons = []
    for place, each in enumerate(names):
        try:
            return open_published(each, sources)
        except FullDiskError:
            raise
        except (OSError, ValueError) as error:
            reasons.append(f"{each}: {getattr(error, 'reasons', error)}")
            if place + 1 < len(names):
                _logger.warning("%s is not available; trying %s", each, names[place + 1])
    raise OSError(
        f"the region extractor of {name} was not fetched ({'; '.join(reasons)}): if you have one "
        f"of its files ({', '.join(_file_names(names))}), name its folder: `lxmert weights fetch "
        f"{name} --from FOLDER`"
    )


def _write_detector(name: str, target: Path, sources: Sources) -> None:
    origins = [fetch_file(name, file, _downloads(), sources) for file in PUBLISHED[name].files]
    weights = origins[-1].path
    _logger.info("%s: checking and converting %s", name, origins[-1].url)
    with _usable(origins):
        extractor = DetectorExtractor.from_pretrained(weights)
    with atomic_path(target) as partial, report_write_errors():
        extractor.save_pretrained(partial)
        _write_record(partial, name, origins, fingerprint=extractor.fingerprint)
    _remove_downloads(origins)


def _write_model(name: str, target: Path, sources: Sources) -> None:
    """Write a model folder: small files first, then the extractor, then the weights."""
    entry = PUBLISHED[name]
    assert entry.answers is not None
    answers = read_answers(entry.answers).answers
    _logger.info("%s: fetching once, to %s", name, target)
    origins = [fetch_file(name, file, _downloads(), sources) for file in entry.files[:-1]]
    by_name = {origin.path.name: origin.path for origin in origins}
    with _usable(origins):
        tokenizer = load_tokenizer(by_name["vocab.txt"])
        if "config.json" in by_name:
            _check_config(read_config(by_name["config.json"].parent), len(answers), name)
    extractor = open_extractor(name, sources)
    origins.append(fetch_file(name, entry.files[-1], _downloads(), sources))
    _logger.info("%s: checking and converting %s", name, origins[-1].url)
    with _usable(origins):
        model = _load(origins)
        check_words(tokenizer, model.config.vocab_size, name)
    name_answers(model.config, answers)
    detector = read_record(extractor / RECORD)
    with atomic_path(target) as partial, report_write_errors():
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        _link(extractor, partial / EXTRACTOR_FOLDER)
        PreprocessorConfig(
            fingerprint=str(detector["fingerprint"]), also=(PUBLISHED_EXTRACTOR,)
        ).save(partial)
        _write_record(partial, name, origins, extractor=detector["name"])
    _remove_downloads(origins)
    _logger.info("%s: ready, with regions of %s", name, detector["name"])


def _load(origins: list[Origin]) -> LxmertPreTrainedModel:
    """Load a model from its published files; all weights are required."""
    weights = origins[-1].path
    if weights.suffix == ".pth":
        return load_original(weights)
    folder = next(origin.path.parent for origin in origins if origin.path.name == "config.json")
    state = read_weights(weights)
    return fill_model(weights, find_kind(state), read_config(folder), state)


def _check_config(config: LxmertConfig, num_answers: int, name: str) -> None:
    """Check a configuration before a gigabyte is fetched for it."""
    if config.num_qa_labels != num_answers:
        raise ValueError(
            f"the configuration of {name} has {config.num_qa_labels} answers, but its answer list "
            f"has {num_answers}: the files belong to different models, remove and fetch them again"
        )


def _write_record(folder: Path, name: str, origins: list[Origin], **more: object) -> None:
    files = [origin.to_dict() for origin in origins]
    write_json(folder / RECORD, {"name": name, **more, "files": files})


def _link(source: Path, target: Path) -> None:
    """Copy a folder of files; large ones as hard links, where the disk has them."""
    target.mkdir()
    for path in source.iterdir():
        try:
            os.link(path, target / path.name)
        except OSError:
            shutil.copyfile(path, target / path.name)


def _downloads() -> Path:
    return published_folder("downloads")


@contextmanager
def _usable(origins: list[Origin]) -> Iterator[None]:
    """Remove what was downloaded if it is damaged, so that the next attempt fetches it again."""
    try:
        yield
    except ValueError:
        _remove_downloads(origins)
        raise


def _remove_downloads(origins: list[Origin]) -> None:
    """Remove files that were downloaded, but not those of the user."""
    for origin in origins:
        if origin.path.is_relative_to(_downloads()):
            origin.path.unlink(missing_ok=True)
            origin_note(origin.path).unlink(missing_ok=True)


def _is_local(entry: PublishedModel, sources: Sources) -> bool:
    return all(find_local(file, sources.local) for file in entry.files)


def _file_names(names: tuple[str, ...]) -> list[str]:
    return [PUBLISHED[name].files[-1].name for name in names]


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """Let other processes wait while one fetches these weights."""
    with closing(FolderLock(folder, file=f".{name}.lock", wait=True)):
        yield
