"""Prepares custom data for training with an existing region extractor.

It writes a region store of the images and normalized question files.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lxmert.data.check import Progress
from lxmert.data.corpus import Corpus
from lxmert.data.preprocessing import EXTRACTOR_FOLDER, FILE_NAME, PreprocessorConfig
from lxmert.data.store import RegionStore, is_finished
from lxmert.files import atomic_path
from lxmert.names import count
from lxmert.regions.extractor import RegionExtractor, load_extractor
from lxmert.tasks.answering import AnsweringData, AnsweringSettings
from lxmert.tasks.custom_data import CustomDataSettings, is_single
from lxmert.tasks.custom_files import open_custom_files
from lxmert.tasks.initialization import check_initial
from lxmert.tasks.pairs import PairsData, PairsSettings
from lxmert.workflows.extraction import extract_folder

REGIONS, QUESTIONS, ANSWERS = "regions", "questions", "answers.json"
"""Where the folder of a run keeps what was made: a region store, and questions by split."""

_logger = logging.getLogger(__name__)


def prepare_regions(
    settings: CustomDataSettings,
    folder: Path,
    *,
    seed: int,
    device: str,
    checked: bool,
    progress: Progress,
) -> None:
    """Look at the data, extract the regions of their images, and write what is trained on.

    An interrupted extraction is resumed.

    Args:
        settings: name the extractor, or an initial model that contains one.
        folder: of the run.
        seed: of the split.
        device: where the extractor computes.
        checked: whether the data were checked before, with the report in the folder.
        progress: called while files are looked at and regions are extracted.

    Raises:
        FileNotFoundError: if there is no extractor.
        ValueError: if they are not those of the model to start from, the model cannot be started
            from, or the data cannot be used, such as questions about one image and about two.
    """
    extractor = _open_matching(settings, device)
    length = settings.model.max_text_length
    training, validation, _ = open_custom_files(
        settings.data, folder, seed=seed, longest=length, first=not checked, progress=progress
    )
    kind = "pairs" if _about_pairs(training, settings.data.train) else "answering"
    check_initial(settings.model, kind, extractor.feature_dim)
    parts = {"train": training, "valid": validation}
    names = sorted({part.image_names[i] for part in parts.values() for i in part.used_images})
    regions = _store_path(settings, folder)
    store = _extract(Path(settings.data.images), regions, extractor, names, progress)
    parts = {split: _keep_seen(part, store, split) for split, part in parts.items()}
    (folder / QUESTIONS).mkdir(exist_ok=True)
    for split, part in parts.items():
        _write(folder / QUESTIONS / f"{split}.jsonl", _lines(part))
    answers = parts["train"].vocabulary().answers
    _write(folder / QUESTIONS / ANSWERS, [json.dumps(answers, ensure_ascii=False)])


def region_settings(
    settings: CustomDataSettings, folder: Path
) -> AnsweringSettings | PairsSettings:
    """Return the settings of the task that learns from what `prepare_regions` wrote."""
    questions, regions = folder / QUESTIONS, str(_store_path(settings, folder))
    train, valid = str(questions / "train.jsonl"), str(questions / "valid.jsonl")
    sources: dict[str, Any] = {
        "train": (train,),
        "valid": (valid,),
        "regions": (regions,),
        "valid_regions": (regions,),
        "extractor": str(_extractor_path(settings)),
    }
    model = settings.model.replace(new_words=True)
    training = Corpus.read([train])
    if _about_pairs(training, settings.data.train):
        return PairsSettings(data=PairsData(**sources), model=model)
    is_soft = not is_single(settings.data.targets, training)
    sources |= {"answers": str(questions / ANSWERS), "targets": "soft" if is_soft else "single"}
    data = AnsweringData(**sources)
    return AnsweringSettings(data=data, model=model)


def _about_pairs(training: Corpus, path: str) -> bool:
    """Return whether the questions are about two images; raise `ValueError` for both kinds."""
    pairs = training.image_pairs[:, 1] >= 0
    if pairs.any() and not pairs.all():
        raise ValueError(
            f"{path} has {count(int(pairs.sum()), 'question')} about two images and "
            f"{int((~pairs).sum()):,} about one: train on one kind at a time"
        )
    return bool(pairs.all())


def _store_path(settings: CustomDataSettings, folder: Path) -> Path:
    """Return the folder of the regions; those of an extractor of the run have one of their own.

    A run may try the detector of the bundled model and a backbone, whose regions differ.
    """
    extractor = _extractor_path(settings)
    return folder / (f"{REGIONS}-{extractor.name}" if extractor.parent == folder else REGIONS)


def _extractor_path(settings: CustomDataSettings) -> Path:
    """Return the path of the region extractor: as given, or in the folder of the initial model."""
    if settings.data.extractor is not None:
        return Path(settings.data.extractor)
    path = Path(settings.model.init_from or "") / EXTRACTOR_FOLDER
    if not path.is_dir():
        raise FileNotFoundError(
            f"model.init_from {settings.model.init_from} has no region extractor in "
            f"{EXTRACTOR_FOLDER}/: name the one it was trained with, --set data.extractor=FOLDER"
        )
    return path


def _open_matching(settings: CustomDataSettings, device: str) -> RegionExtractor:
    """Load the region extractor; raise `ValueError` if the initial model needs another one."""
    path = _extractor_path(settings)
    extractor = load_extractor(path, device=device)
    start = settings.model.init_from
    if start is not None and (Path(start) / FILE_NAME).is_file():
        expected = PreprocessorConfig.load(start).fingerprint
        if extractor.fingerprint != expected:
            raise ValueError(
                f"{path} is extractor {extractor.fingerprint}, but the model in {start} was "
                f"trained on regions of extractor {expected}: leave out data.extractor, or name "
                "the extractor of the model"
            )
    return extractor


def _extract(
    images: Path, folder: Path, extractor: RegionExtractor, names: Sequence[str], progress: Progress
) -> RegionStore:
    """Extract the regions of the images used; resumes an interrupted extraction."""
    if is_finished(folder):
        store = RegionStore(folder)
        known = {failure.image_id for failure in store.failures}
        if all(name in store or name in known for name in names):
            return store
    return extract_folder(
        images,
        folder,
        extractor,
        image_ids=names,
        progress=lambda done, total: progress("regions", done, total),
    )


def find_store(folder: Path, model: Path) -> RegionStore | None:
    """Return the store of a run that has the regions of its model; None if it needs no store.

    Args:
        folder: of the run.
        model: folder of the model.
    """
    known = PreprocessorConfig.load(model)
    stores = (RegionStore(path) for path in folder.glob(f"{REGIONS}*") if is_finished(path))
    return next((store for store in stores if known.accepts(store.header.fingerprint)), None)


def seen(corpus: Corpus, store: RegionStore) -> Corpus:
    """Return the questions whose images all have regions."""
    lost = _unseen(corpus, store)
    return corpus.select(np.flatnonzero(~np.isin(corpus.image_pairs, lost).any(axis=1)))


def _unseen(corpus: Corpus, store: RegionStore) -> list[int]:
    """Return the positions in `image_names` of the images without regions."""
    used = corpus.used_images.tolist()
    return [image for image in used if corpus.image_names[image] not in store]


def _keep_seen(corpus: Corpus, store: RegionStore, split: str) -> Corpus:
    """Leave out questions about images without regions, with a warning."""
    lost, kept = _unseen(corpus, store), seen(corpus, store)
    if not lost:
        return corpus
    reasons = {failure.image_id: failure.reason for failure in store.failures}
    _logger.warning(
        "left out: %d of %s of %s; no regions of %s, the first: %s",
        len(corpus) - len(kept),
        count(len(corpus), "question"),
        split,
        count(len(lost), "image"),
        reasons[corpus.image_names[lost[0]]],
    )
    if not len(kept):
        raise ValueError(f"no image of the {split} questions has regions: see the reasons above")
    return kept


def _lines(corpus: Corpus) -> Iterator[str]:
    """Yield the questions in normalized form, one JSON object per line."""
    for example in corpus:
        record = {
            "question_id": example.example_id,
            "images": list(example.image_ids),
            "question": example.text,
            "answers": dict(example.answers),
            **({"question_type": example.question_type} if example.question_type else {}),
        }
        yield json.dumps(record, ensure_ascii=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write lines atomically."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
