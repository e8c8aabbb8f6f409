"""Splits a data set by image, so that no image is in two splits."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lxmert.data.corpus import Corpus
from lxmert.names import count
from lxmert.schema import IntArray

SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
"""Shares of the images if a data set is a single file."""


@dataclass(frozen=True)
class Splits:
    """The assignment of examples to splits.

    Attributes:
        rows: indices of the examples by split, in order.
        unseen: answers of other splits that no training example has, with the number of examples.
    """

    rows: dict[str, IntArray]
    unseen: dict[str, int]


def draw_rows(number: int, limit: int | None, *, seed: int | Sequence[int]) -> IntArray:
    """Return a random subset of at most `limit` of `number` rows, sorted; None returns all."""
    if limit is None or limit >= number:
        return np.arange(number)
    return np.sort(np.random.default_rng(seed).permutation(number)[:limit])


def split_by_image(
    corpus: Corpus,
    *,
    seed: int,
    shares: Mapping[str, float] = SHARES,
    copies: Mapping[str, str] | None = None,
) -> Splits:
    """Split the examples randomly; the result depends only on the image ids and the seed.

    Images shown together in a pair task and copies of an image stay together. If an answer would
    be missing from training, an image with it is swapped with a training image that has no such
    answer, if possible.

    Args:
        corpus: the examples.
        seed: seed of the random order of the images.
        shares: share of the images by split, including `train`; they add up to 1.
        copies: another image id with the same content, by image id, as returned by
            `ImageFolder.same`.

    Raises:
        ValueError: if there are fewer images than splits.
    """
    assert abs(sum(shares.values()) - 1) < 1e-6
    groups = _group_images(corpus, copies or {})
    order = _shuffle(corpus, groups, seed)
    if len(order) < len(shares):
        raise ValueError(
            f"the data set has {count(len(order), 'separate image')} (copies count once), "
            f"too few for the splits {', '.join(shares)}: add images, or provide a file for each "
            "split"
        )
    group_of = groups[corpus.image_pairs[:, 0]]
    names = list(shares)
    parts = _deal(order, list(shares.values()), len(groups))
    incidence = _group_answers(corpus, group_of)
    _swap_groups(parts, order, incidence, train=names.index("train"))
    part_of = parts[group_of]
    rows = {name: np.flatnonzero(part_of == place) for place, name in enumerate(names)}
    return Splits(rows, _find_unseen(corpus, rows))


def _group_images(corpus: Corpus, copies: Mapping[str, str]) -> IntArray:
    """Return for each image the first image that must be in the same split."""
    parents = list(range(len(corpus.image_names)))

    def root(image: int) -> int:
        while parents[image] != image:
            parents[image] = parents[parents[image]]
            image = parents[image]
        return image

    def join(first: int, second: int) -> None:
        low, high = sorted((root(first), root(second)))
        parents[high] = low

    pairs = corpus.image_pairs
    for first, second in pairs[pairs[:, 1] >= 0].tolist():
        join(first, second)
    if copies:
        places = {name: place for place, name in enumerate(corpus.image_names)}
        for name, original in copies.items():
            if name in places and original in places:
                join(places[name], places[original])
    return np.array([root(image) for image in range(len(parents))], dtype=np.int64)


def _shuffle(corpus: Corpus, groups: IntArray, seed: int) -> IntArray:
    """Return the used groups, in an order that depends only on the image ids and the seed."""
    used = corpus.used_images
    names = corpus.image_names
    keys: dict[int, bytes] = {}
    for image in used.tolist():
        key = hashlib.blake2b(f"{seed}/{names[image]}".encode(), digest_size=8).digest()
        group = int(groups[image])
        keys[group] = min(key, keys.get(group, key))
    return np.array(sorted(keys, key=lambda group: keys[group]), dtype=np.int64)


def _deal(order: IntArray, shares: list[float], num_groups: int) -> npt.NDArray[np.int8]:
    """Return the split of each group; every split gets at least one group."""
    parts = np.full(num_groups, -1, dtype=np.int8)
    ends = np.round(np.cumsum(shares) * len(order)).astype(int)
    for place in range(len(shares)):  # leave at least one group for each other split
        ends[place] = max(ends[place], place + 1)
        ends[place] = min(ends[place], len(order) - (len(shares) - 1 - place))
    start = 0
    for place, end in enumerate(ends.tolist()):
        parts[order[start:end]] = place
        start = end
    return parts


def _group_answers(corpus: Corpus, group_of: IntArray) -> dict[int, list[int]]:
    """Return the answers of each group, by their positions in `answer_names`."""
    found: dict[int, set[int]] = {}
    for index, group in enumerate(group_of.tolist()):
        found.setdefault(group, set()).update(corpus.answer_ids(index)[0].tolist())
    return {group: sorted(answers) for group, answers in found.items()}


def _swap_groups(
    parts: npt.NDArray[np.int8], order: IntArray, answers: Mapping[int, list[int]], *, train: int
) -> None:
    """Move groups with answers that training lacks into training, and others out of it."""
    sequence = order.tolist()
    counts: dict[int, int] = {}
    for group in sequence:
        if parts[group] == train:
            for answer in answers[group]:
                counts[answer] = counts.get(answer, 0) + 1
    spare = (group for group in reversed(sequence) if parts[group] == train)
    for group in sequence:
        if parts[group] == train or all(counts.get(answer) for answer in answers[group]):
            continue
        for other in spare:
            # All of its answers must remain in training.
            if all(counts[answer] > 1 for answer in answers[other]):
                break
        else:
            return
        for answer in answers[other]:
            counts[answer] -= 1
        for answer in answers[group]:
            counts[answer] = counts.get(answer, 0) + 1
        parts[group], parts[other] = train, parts[group]


def _find_unseen(corpus: Corpus, rows: Mapping[str, IntArray]) -> dict[str, int]:
    """Count the examples in other splits by answers that training lacks."""
    known = corpus.select(rows["train"]).answer_counts() > 0
    others = [corpus.select(rows[name]).answer_counts() for name in rows if name != "train"]
    counts = np.sum(others, axis=0)
    unseen = np.flatnonzero((counts > 0) & ~known)
    return {corpus.answer_names[place]: int(counts[place]) for place in unseen.tolist()}
