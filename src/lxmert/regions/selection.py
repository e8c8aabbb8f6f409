"""Selects the regions of one image from its candidate boxes: pure functions of NumPy arrays.

Legend: `candidates` boxes of one image that the head has scored; a `pair` is a candidate and one
class. For equal scores the first candidate always ranks higher.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lxmert.regions.choosing import extend, nms, strict_threshold
from lxmert.regions.configuration import DetectorConfig
from lxmert.schema import FloatArray, IntArray

MOST_PAIRS = 2048
"""Maximum number of pairs above a floor; if there are more, all pairs are examined at once."""

Suppression = Callable[[FloatArray, FloatArray, float], IntArray]
"""Returns the boxes that no stronger kept box overlaps by more than a threshold, best first."""


class Candidates(NamedTuple):
    """Outputs of the head for one image.

    Attributes:
        probabilities: `[candidates, classes]` without background.
        proposals: `[candidates, 4]`.
        refine: maps candidates and classes, both `[pairs]`, to refined boxes `[pairs, 4]`.
        nms: the non-maximum suppression; that of torchvision returns the same in less time.
    """

    probabilities: FloatArray
    proposals: FloatArray
    refine: Callable[[IntArray, IntArray], FloatArray]
    nms: Suppression = nms

    def boxes(self, kind: str, candidates: IntArray, classes: IntArray) -> FloatArray:
        """Return the "proposal" or the "refined" boxes of pairs: `[pairs, 4]`."""
        if kind == "proposal":
            return self.proposals[candidates]
        return self.refine(candidates, classes)


class Choice(NamedTuple):
    """Candidates from best to worst.

    Attributes:
        candidates: `[chosen]` indices.
        classes: `[chosen]`, the class that each was selected for.
        ranking: `[chosen]`, the probability that each was selected by.
        num_good: number of leading candidates that pass the score threshold and the NMS.
    """

    candidates: IntArray
    classes: IntArray
    ranking: FloatArray
    num_good: int


def select_regions(
    candidates: Candidates, config: DetectorConfig, *, offset: float = 0.0
) -> Choice:
    """Select the regions of one image according to the configuration.

    Args:
        candidates: the candidates; may be empty.
        config: `selection` and the fields documented after it.
        offset: added to x2 - x1 to get the side of a box, in the pixels of the boxes.

    Returns:
        The selected candidates, best first; none if none is good enough and `fill_up` is off.
    """
    for threshold in config.nms_thresholds:
        strict = strict_threshold(threshold, config.nms_ties)
        choice = SELECTIONS[config.selection](candidates, config, strict, offset)
        if choice.num_good >= config.min_regions:
            break
    wanted = max(choice.num_good, config.min_regions) if config.fill_up else choice.num_good
    count = min(wanted, config.num_regions)
    return Choice(
        choice.candidates[:count],
        choice.classes[:count],
        choice.ranking[:count],
        min(choice.num_good, count),
    )


def select_agnostic(
    candidates: Candidates, config: DetectorConfig, threshold: float, offset: float
) -> Choice:
    """Run NMS once, with each candidate as its best class; the rest follows by probability."""
    scores, classes = candidates.probabilities.max(axis=1), candidates.probabilities.argmax(axis=1)
    everyone = np.arange(len(scores))
    boxes = extend(candidates.boxes(config.nms_boxes, everyone, classes), offset)
    good = np.flatnonzero(scores >= np.float32(config.score_threshold))
    kept = good[candidates.nms(boxes[good], scores[good], threshold)]
    order = np.concatenate([kept, _others(kept, scores)])
    return Choice(order, classes[order], scores[order], len(kept))


def select_survivors(
    candidates: Candidates, config: DetectorConfig, threshold: float, offset: float
) -> Choice:
    """Score each candidate by the best class in whose NMS it survived.

    A candidate that survives in no class has score 0 and comes last.
    """
    probabilities = candidates.probabilities
    num_wanted = min(len(probabilities), config.num_regions)
    needed = config.min_regions if config.fill_up else 0
    scores = np.zeros(len(probabilities), np.float32)
    for floor, regions, classes in _best_pairs(probabilities, num_wanted):
        kept = _keep_pairs(candidates, config, (regions, classes), threshold, offset)
        scores = np.zeros(len(probabilities), np.float32)
        np.maximum.at(scores, regions[kept], probabilities[regions[kept], classes[kept]])
        # Pairs that have not been examined have lower scores than those that have.
        num_certain = int((scores > 0).sum())
        enough = floor <= config.score_threshold and num_certain >= min(needed, len(scores))
        if num_certain >= num_wanted or enough:
            break
    order = np.argsort(-scores, kind="stable")
    num_good = int((scores >= np.float32(config.score_threshold)).sum())
    return Choice(order, probabilities[order].argmax(axis=1), scores[order], num_good)


def select_pairs(
    candidates: Candidates, config: DetectorConfig, threshold: float, offset: float
) -> Choice:
    """Run NMS for each class; a candidate may be selected for several classes."""
    probabilities = candidates.probabilities
    for floor, regions, classes in _best_pairs(probabilities, config.num_regions):
        good = probabilities[regions, classes] >= np.float32(config.score_threshold)
        regions, classes = regions[good], classes[good]
        kept = _keep_pairs(candidates, config, (regions, classes), threshold, offset)
        if len(kept) >= config.num_regions or floor <= config.score_threshold:
            break
    rest = _others(regions[kept], probabilities.max(axis=1))
    order = np.concatenate([regions[kept], rest])
    chosen_as = np.concatenate([classes[kept], probabilities[rest].argmax(axis=1)])
    return Choice(order, chosen_as, probabilities[order, chosen_as], len(kept))


SELECTIONS: dict[str, Callable[[Candidates, DetectorConfig, float, float], Choice]] = {
    "agnostic": select_agnostic,
    "survivors": select_survivors,
    "per_class": select_pairs,
}


def _best_pairs(
    probabilities: FloatArray, num_wanted: int
) -> Iterator[tuple[float, IntArray, IntArray]]:
    """Yield the pairs above a probability floor, which is lowered step by step to 0.

    The NMS of a class never depends on weaker boxes. So the survivors among the best pairs are
    certain, and weaker pairs need no examination if these suffice: no candidate can have a score
    above its best probability.

    Yields:
        The floor, and the candidates and the classes of the pairs, `[pairs]` each.
    """
    best = np.sort(probabilities.max(axis=1))[::-1]
    floor = float(best[min(len(best), 2 * num_wanted) - 1]) if len(best) else 0.0
    while True:
        regions, classes = np.nonzero(probabilities >= np.float32(floor))
        if len(regions) > MOST_PAIRS:
            break
        yield floor, regions, classes
        if floor == 0.0 or len(regions) == probabilities.size:
            return
        floor = floor / 4 if floor > np.finfo(np.float32).tiny else 0.0
    regions, classes = np.nonzero(probabilities >= 0)
    yield 0.0, regions, classes


def _keep_pairs(
    candidates: Candidates,
    config: DetectorConfig,
    pairs: tuple[IntArray, IntArray],
    threshold: float,
    offset: float,
) -> IntArray:
    """Return the indices of the pairs that survive the NMS of their class, best first."""
    regions, classes = pairs
    scores = candidates.probabilities[regions, classes]
    boxes = extend(candidates.boxes(config.nms_boxes, regions, classes), offset)
    order = np.argsort(classes, kind="stable")
    by_class = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
    kept = [
        part if len(part) == 1 else part[candidates.nms(boxes[part], scores[part], threshold)]
        for part in by_class
    ]
    survivors = np.sort(np.concatenate(kept))
    return survivors[np.argsort(-scores[survivors], kind="stable")]


def _others(chosen: IntArray, scores: FloatArray) -> IntArray:
    """Return the candidates that are not selected, best score first."""
    order = np.argsort(-scores, kind="stable")
    return order[~np.isin(order, chosen)]


def whole_image(image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box of the image, which is used if nothing was detected."""
    height, width = image_size
    return (0.0, 0.0, float(width), float(height))
