"""Image-text matching on captions and foils, and on Winoground's groups, with intervals."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lxmert.data.arrays import text_arrays
from lxmert.data.corpus import Corpus
from lxmert.data.lines import scan_lines
from lxmert.data.preprocessing import FILE_NAME, PreprocessorConfig
from lxmert.data.tokenizer import check_words, load_tokenizer
from lxmert.data.tokens import Tokens
from lxmert.files import read_json_object
from lxmert.hub import find_model
from lxmert.metrics.foils import (
    FoilScores,
    GroupScores,
    foil_intervals,
    group_intervals,
    score_foils,
    score_groups,
)
from lxmert.metrics.intervals import Limits
from lxmert.model.loading import load_heads
from lxmert.model.runtime import TorchRuntime
from lxmert.names import count
from lxmert.predict import (
    Progress,
    check_images,
    open_reader,
    refuse_exported,
    region_batches,
    score,
    softmax,
)
from lxmert.schema import Example
from lxmert.study.consensus import evaluate_consensus
from lxmert.study.kinds import KindReport, report_by_kind

Scores = npt.NDArray[np.float64]

VALID_VOTES = 2
"""Annotators of VALSE, of three, who must have chosen the caption alone."""

_BATCH = 32


class FoilPair(NamedTuple):
    """A caption and a foil of one image.

    Attributes:
        pair_id: unique in its file.
        image: path below the image folder, or key of the region store.
        caption: text that describes the image.
        foil: text that does not.
        phenomenon: kind of the foil.
    """

    pair_id: str
    image: str
    caption: str
    foil: str
    phenomenon: str


class Group(NamedTuple):
    """Two images and two texts; text i describes image i.

    Attributes:
        group_id: unique in its file.
        images: both images, as in `FoilPair`.
        texts: both texts.
        tag: kind of the group.
    """

    group_id: str
    images: tuple[str, str]
    texts: tuple[str, str]
    tag: str


def read_foils(path: Path) -> tuple[list[FoilPair], list[str]]:
    """Read pairs of captions and foils.

    Args:
        path: a JSON file of VALSE, or a JSONL file with `image`, `caption`, `foil` and `phenomenon`
            in each line, as `lxmert lab make foils` writes it.

    Returns:
        The pairs, and the names of those of VALSE that are left out because fewer than two of three
        annotators chose the caption alone (as in the paper, section 4.4).

    Raises:
        ValueError: naming the entry that is not such a pair, or if there is no valid pair.
    """
    if path.suffix == ".json":
        entries = [(f"{path}: {key}", key, entry) for key, entry in read_json_object(path).items()]
    else:
        entries = [(where, "", record) for where, record in _lines(path)]
    pairs, invalid = [], []
    for where, key, entry in entries:
        pair = _pair(where, key, entry)
        if pair is None:
            invalid.append(key or where)
        else:
            pairs.append(pair)
    if not pairs:
        raise ValueError(f"{path} has no valid pair of a caption and a foil")
    return pairs, invalid


def read_groups(path: Path) -> list[Group]:
    """Read groups from a JSONL file of Winoground (`image_0`, `caption_0` and so on in each line).

    Raises:
        ValueError: naming the line that is no such group, or if there is none.
    """
    groups = []
    for where, entry in _lines(path):
        names = ("image_0", "image_1", "caption_0", "caption_1")
        texts = [_text(where, entry, name) for name in names]
        tag = str(entry.get("collapsed_tag") or entry.get("tag") or "")
        group_id = str(entry.get("id", where))
        groups.append(Group(group_id, (texts[0], texts[1]), (texts[2], texts[3]), tag))
    if not groups:
        raise ValueError(f"{path} has no group: expected one JSON object per line")
    return groups


def evaluate_foils(
    model: str | Path,
    data: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> KindReport[FoilScores]:
    """Score a model with a matching head on captions and foils.

    Args:
        model: folder or hub name.
        data: as for `read_foils`.
        images: image folder.
        stores: region stores to use instead of images.
        device: where to compute.
        progress: called with the numbers of finished and of all texts.

    Raises:
        ValueError: if the model has no matching head, or an entry cannot be used.

    Source: Parcalabescu et al. 2022 (VALSE).
    """
    pairs, invalid = read_foils(data)
    total = count(len(pairs) + len(invalid), "pair")
    warning = f"{len(invalid):,} of {total} not validated by annotators: left out"
    texts = [(text, pair.image) for pair in pairs for text in (pair.caption, pair.foil)]
    found = match_texts(
        model, texts, images=images, stores=stores, device=device, progress=progress
    ).reshape(-1, 2)
    keys = np.array([pair.image for pair in pairs])

    def score(rows: list[int]) -> FoilScores:
        return score_foils(found[rows, 0], found[rows, 1])

    def limits(rows: list[int]) -> dict[str, Limits]:
        return foil_intervals(found[rows, 0], found[rows, 1], keys[rows].tolist())

    kinds = [pair.phenomenon for pair in pairs]
    return report_by_kind(kinds, score, limits, warnings=[warning] if invalid else [])


def evaluate_groups(
    model: str | Path,
    data: Path,
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> KindReport[GroupScores]:
    """Score a model with a matching head on Winoground's groups; arguments as `evaluate_foils`.

    Source: Thrush et al. 2022 (Winoground).
    """
    groups = read_groups(data)
    texts = [(text, image) for group in groups for text in group.texts for image in group.images]
    found = match_texts(
        model, texts, images=images, stores=stores, device=device, progress=progress
    ).reshape(-1, 2, 2)
    return report_by_kind(
        [group.tag for group in groups],
        lambda rows: score_groups(found[rows]),
        lambda rows: group_intervals(found[rows]),
        warnings=[],
    )


def match_texts(
    model: str | Path,
    texts: Sequence[tuple[str, str]],
    *,
    images: Path | None = None,
    stores: tuple[Path, ...] = (),
    device: str = "cpu",
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> Scores:
    """Return the probability that each text describes its image, `[texts]`.

    Args:
        model: folder or hub name of a model with a matching head.
        texts: each text with its image.
        images: image folder.
        stores: region stores to use instead of images.
        device: where to compute.
        progress: called with the numbers of finished and of all texts.

    Raises:
        ValueError: if the model has no matching head, or an image is missing.
    """
    folder = find_model(model, check=refuse_exported)
    matching = load_heads(folder).matching
    if matching is None:
        raise ValueError(
            f"{model} has no matching head: name a pretrained model, or train one with "
            "`lxmert train retrieval`"
        )
    matching.to(device)  # type: ignore[arg-type]
    runtime = TorchRuntime(matching)
    tokenizer = load_tokenizer(folder)
    check_words(tokenizer, matching.config.vocab_size, folder)
    known = (folder / FILE_NAME).is_file()
    longest = PreprocessorConfig.load(folder).max_text_length if known else 20
    tokens = Tokens((text for text, _ in texts), tokenizer, longest=longest)
    corpus = Corpus.of(
        Example(str(number), text, (image,)) for number, (text, image) in enumerate(texts)
    )
    read = open_reader(folder, images=images, stores=stores, device=device)
    check_images(corpus, read, 1)
    found, done = np.zeros(len(texts)), 0
    for indices, regions in region_batches(corpus, read, batch_size=_BATCH):
        batch = text_arrays([tokens[index] for index in indices], pad_id=tokenizer.pad_token_id)
        # In single precision, sure matches are all 1, and captions tie with foils.
        found[indices] = softmax(score(runtime, batch, regions).astype(np.float64))[:, 1]
        done += len(indices)
        progress(done, len(texts))
    return found


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the place and the object of each line; raise `ValueError` for a line without one."""
    for line in scan_lines(path):
        where = f"{path} line {line.number}"
        if line.record is None:
            raise ValueError(f"{where}: {next(p.detail for p in line.problems if p.refused)}")
        yield where, line.record


def _pair(where: str, key: str, entry: object) -> FoilPair | None:
    """Return a pair; None if VALSE's annotators did not validate it."""
    fields: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
    votes = fields.get("mturk")
    if isinstance(votes, Mapping) and not (
        isinstance(votes.get("caption"), int) and votes["caption"] >= VALID_VOTES
    ):
        return None
    image = "image_file" if "image_file" in fields else "image"
    phenomenon = fields.get("phenomenon") or fields.get("linguistic_phenomena") or ""
    names = (image, "caption", "foil")
    path, caption, foil = (_text(where, fields, name) for name in names)
    pair_id = key or str(fields.get("foil_id", where))
    return FoilPair(pair_id, path, caption, foil, str(phenomenon))


def _text(where: str, entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if isinstance(value, list) and len(value) == 1:  # captions of VALSE's first version
        value = value[0]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected an object with a text as {name!r}, got {value!r:.60}")
    return value


METRICS: dict[str, Callable[..., KindReport[Any]]] = {
    "consensus": evaluate_consensus,
    "foil": evaluate_foils,
    "pairs": evaluate_foils,
    "winoground": evaluate_groups,
}
"""Name of the metric -> its evaluation; minimal pairs are pairs of a caption and a foil."""
