"""Selects the regions of one image from its candidate boxes: pure functions.

Legend: `candidates` boxes of one image that the head has scored; a `pair` is a candidate and one
class. For equal scores the first candidate always ranks higher.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms  # type: ignore[import-untyped]

from lxmert.regions.box_coding import extend_boxes, pairwise_iou, strict_threshold
from lxmert.regions.configuration import DetectorConfig

MOST_PAIRS = 2048
"""Maximum number of pairs compared at once, in 100 MB; more are compared class by class."""


@dataclass(frozen=True)
class Candidates:
    """Outputs of the head for one image.

    Attributes:
        probabilities: `[candidates, classes]` without background.
        proposals: `[candidates, 4]`.
        refine: maps candidates and classes, both `[pairs]`, to refined boxes `[pairs, 4]`.
    """

    probabilities: Tensor
    proposals: Tensor
    refine: Callable[[Tensor, Tensor], Tensor]

    def boxes(self, kind: str, candidates: Tensor, classes: Tensor) -> Tensor:
        """Return the "proposal" or the "refined" boxes of pairs: `[pairs, 4]`."""
        if kind == "proposal":
            return self.proposals[candidates]
        return self.refine(candidates, classes)


@dataclass(frozen=True)
class Choice:
    """Candidates from best to worst.

    Attributes:
        candidates: `[chosen]` indices.
        classes: `[chosen]`, the class that each was selected for.
        ranking: `[chosen]`, the probability that each was selected by.
        num_good: number of leading candidates that pass the score threshold and the NMS.
    """

    candidates: Tensor
    classes: Tensor
    ranking: Tensor
    num_good: int

    def first(self, count: int) -> "Choice":
        """Return the best `count`."""
        return Choice(
            self.candidates[:count],
            self.classes[:count],
            self.ranking[:count],
            min(self.num_good, count),
        )


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
    return choice.first(min(wanted, config.num_regions))


def select_agnostic(
    candidates: Candidates, config: DetectorConfig, threshold: float, offset: float
) -> Choice:
    """Run NMS once, with each candidate as its best class; the rest follows by probability."""
    scores, classes = candidates.probabilities.max(dim=1)
    everyone = torch.arange(len(scores), device=scores.device)
    boxes = extend_boxes(candidates.boxes(config.nms_boxes, everyone, classes), offset)
    good = torch.nonzero(scores >= config.score_threshold).squeeze(1)
    kept = good[nms(boxes[good], scores[good], threshold)]
    rest = _others(kept, scores)
    order = torch.cat([kept, rest])
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
    scores = probabilities.new_zeros(len(probabilities))
    for floor, regions, classes in _best_pairs(probabilities, num_wanted):
        kept = _keep_pairs(candidates, config, (regions, classes), threshold, offset)
        pair_scores = probabilities[regions[kept], classes[kept]]
        scores = scores.new_zeros(len(scores))
        scores.scatter_reduce_(0, regions[kept], pair_scores, "amax")
        # Pairs that have not been examined have lower scores than those that have.
        num_certain = int((scores > 0).sum())
        if num_certain >= num_wanted or (
            floor <= config.score_threshold and num_certain >= min(needed, len(scores))
        ):
            break
    ranking, order = scores.sort(descending=True, stable=True)
    num_good = int((scores >= config.score_threshold).sum())
    return Choice(order, probabilities[order].argmax(dim=1), ranking, num_good)


def select_pairs(
    candidates: Candidates, config: DetectorConfig, threshold: float, offset: float
) -> Choice:
    """Run NMS for each class; a candidate may be selected for several classes."""
    probabilities = candidates.probabilities
    for floor, regions, classes in _best_pairs(probabilities, config.num_regions):
        good = probabilities[regions, classes] >= config.score_threshold
        regions, classes = regions[good], classes[good]
        kept = _keep_pairs(candidates, config, (regions, classes), threshold, offset)
        if len(kept) >= config.num_regions or floor <= config.score_threshold:
            break
    rest = _others(regions[kept], probabilities.amax(dim=1))
    order = torch.cat([regions[kept], rest])
    chosen_as = torch.cat([classes[kept], probabilities[rest].argmax(dim=1)])
    return Choice(order, chosen_as, probabilities[order, chosen_as], len(kept))


SELECTIONS: dict[str, Callable[[Candidates, DetectorConfig, float, float], Choice]] = {
    "agnostic": select_agnostic,
    "survivors": select_survivors,
    "per_class": select_pairs,
}


def _best_pairs(probabilities: Tensor, num_wanted: int) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield the pairs above a probability floor, which is lowered step by step to 0.

    The NMS of a class never depends on weaker boxes. So the survivors among the best pairs are
    certain, and weaker pairs need no examination if these suffice: no candidate can have a score
    above its best probability.

    Yields:
        The floor, and the candidates and the classes of the pairs, `[pairs]` each.
    """
    best = probabilities.amax(dim=1).sort(descending=True).values
    floor = float(best[min(len(best), 2 * num_wanted) - 1]) if len(best) else 0.0
    while True:
        pairs = torch.nonzero(probabilities >= floor)
        if len(pairs) > MOST_PAIRS:
            break
        yield floor, pairs[:, 0], pairs[:, 1]
        if floor == 0.0 or len(pairs) == probabilities.numel():
            return
        floor = floor / 4 if floor > torch.finfo(probabilities.dtype).tiny else 0.0
    pairs = torch.nonzero(probabilities >= 0)
    yield 0.0, pairs[:, 0], pairs[:, 1]


def _keep_pairs(
    candidates: Candidates,
    config: DetectorConfig,
    pairs: tuple[Tensor, Tensor],
    threshold: float,
    offset: float,
) -> Tensor:
    """Return the indices of the pairs that survive the NMS of their class, best first."""
    regions, classes = pairs
    scores = candidates.probabilities[regions, classes]
    boxes = extend_boxes(candidates.boxes(config.nms_boxes, regions, classes), offset)
    if len(scores) > MOST_PAIRS:
        return _keep_class_by_class(boxes, scores, classes, threshold)
    order = scores.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    same_class = classes[:, None] == classes
    overlaps = pairwise_iou(boxes, boxes).double() > threshold
    beats = (same_class & overlaps).tril(diagonal=-1)  # [loser, winner]
    kept = torch.ones_like(order, dtype=torch.bool)
    # Each iteration settles at least the next link of every chain of suppressions.
    while True:
        survives = ~(beats & kept).any(dim=1)
        if torch.equal(survives, kept):
            return order[kept]
        kept = survives


def _keep_class_by_class(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float
) -> Tensor:
    """Return the same as `_keep_pairs`, with one NMS per class."""
    order = classes.argsort(stable=True)
    counts = torch.bincount(classes).tolist()
    kept = [part[nms(boxes[part], scores[part], threshold)] for part in torch.split(order, counts)]
    survivors = torch.cat(kept).sort().values
    return survivors[scores[survivors].argsort(descending=True, stable=True)]


def _others(chosen: Tensor, scores: Tensor) -> Tensor:
    """Return the candidates that are not selected, best score first."""
    order = scores.argsort(descending=True, stable=True)
    return order[~torch.isin(order, chosen)]


def whole_image(image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box of the image, which is used if nothing was detected."""
    height, width = image_size
    return (0.0, 0.0, float(width), float(height))
