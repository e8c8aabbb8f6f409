"""A Faster R-CNN with an attribute head: image pixels in, described boxes out.

Legend: `batch` images; `regions` boxes of one image. Boxes are float32 `(x1, y1, x2, y2)` in
pixels of the resized image.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import nms  # type: ignore[import-untyped]

from lxmert.regions.backbone import Backbone
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.heads import Description, RegionHeads
from lxmert.regions.proposals import ProposalGenerator, Proposals
from lxmert.regions.selection import Candidates, select_regions, whole_image
from lxmert.schema import FloatArray, IntArray

LOSSES = ("rpn_objectness", "rpn_box", "object", "box", "attribute")
"""Names of the losses that `Detector.forward` returns; "attribute" only with attributes."""


@dataclass(frozen=True)
class Detections:
    """The regions of one image.

    Attributes:
        boxes: `[regions, 4]`, best first.
        ranking: `[regions]`, the class probability of the candidate behind each box, by which the
            regions were selected; 0 for the whole image.
        description: the outputs of the head for the boxes.
        found: False if nothing was detected; the only region is then the whole image.
    """

    boxes: Tensor
    ranking: Tensor
    description: Description
    found: bool


class Detector(nn.Module):
    """The complete detector."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.proposal_generator = ProposalGenerator(config)
        self.roi_heads = RegionHeads(config)

    def forward(
        self, pixel_values: Tensor, image_sizes: Tensor, targets: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Return the loss sums if targets are given, otherwise the regions of each image.

        Args:
            pixel_values: `[batch, 3, height, width]`, normalized, in the configured channel order;
                images of different sizes are padded with 0 at the bottom and on the right.
            image_sizes: `[batch, 2]`, (height, width) in pixels, without the padding.
            targets: `boxes` `[batch, objects, 4]`; `object_ids` `[batch, objects]`, -1 for
                padding; `attribute_ids` `[batch, objects, groups]` in the list of all attributes,
                -1 for unknown. There must be at least one place per image, real or padding.

        Returns:
            With targets, a sum over images for each name in `LOSSES`.
        """
        if targets is None:
            return self.detect(pixel_values, image_sizes)
        feature_map = self.backbone(pixel_values, image_sizes)
        map_sizes = self.backbone.map_sizes(image_sizes)
        proposals: Proposals = self.proposal_generator(
            feature_map, image_sizes, targets, map_sizes=map_sizes
        )
        losses = self.roi_heads.losses(feature_map, proposals, targets, map_sizes)
        return proposals.losses | losses

    def detect(
        self,
        pixel_values: Tensor,
        image_sizes: Tensor,
        *,
        scales: Tensor | None = None,
        score_threshold: float | None = None,
        num_regions: tuple[int, int] | None = None,
    ) -> list[Detections]:
        """Find the regions of each image and describe them.

        Args:
            pixel_values: as for `forward`.
            image_sizes: as for `forward`.
            scales: `[batch]`, resized pixels per original pixel, needed for settings in pixels of
                the original image. None: 1.
            score_threshold: replaces the configured value.
            num_regions: (minimum, maximum) that replaces `min_regions` and `num_regions`.
        """
        config = self.config
        if score_threshold is not None:
            config = config.replace(score_threshold=score_threshold)
        if num_regions is not None:
            low, high = num_regions
            config = config.replace(min_regions=low, num_regions=high)
        if scales is None:
            scales = image_sizes.new_ones(len(image_sizes), dtype=torch.float32)
        feature_map = self.backbone(pixel_values, image_sizes)
        map_sizes = self.backbone.map_sizes(image_sizes)
        proposals = self.proposal_generator(
            feature_map, image_sizes, None, map_sizes=map_sizes, scales=scales
        )
        found = self._choose(feature_map, map_sizes, proposals, image_sizes, scales, config)
        # A second pass over the selected boxes is needed if the features must belong to the
        # returned boxes, and for the whole image if nothing was detected.
        again = [
            image
            for image, part in enumerate(found)
            if config.features_from == "box" or not part.found
        ]
        boxes = [found[image].boxes for image in again]
        descriptions = self._describe(feature_map[again], boxes, map_sizes[again]) if again else []
        for image, description in zip(again, descriptions, strict=True):
            found[image] = dataclasses.replace(found[image], description=description)
        return found

    def describe(
        self, pixel_values: Tensor, boxes: Sequence[Tensor], image_sizes: Tensor | None = None
    ) -> list[Description]:
        """Describe given boxes `[regions, 4]` of each image. Without sizes there is no padding."""
        feature_map = self.backbone(pixel_values, image_sizes)
        if image_sizes is None:
            size = tuple(pixel_values.shape[2:])
            image_sizes = torch.tensor([size] * len(boxes), device=pixel_values.device)
        return self._describe(feature_map, boxes, self.backbone.map_sizes(image_sizes))

    def _choose(
        self,
        feature_map: Tensor,
        map_sizes: Tensor,
        proposals: Proposals,
        image_sizes: Tensor,
        scales: Tensor,
        config: DetectorConfig,
    ) -> list[Detections]:
        """Select the best proposals of each image, or the whole image if there are none."""
        boxes = [part[mask] for part, mask in zip(proposals.boxes, proposals.mask, strict=True)]
        features = self.roi_heads.pool(feature_map, boxes, map_sizes)
        parts = torch.split(features, [len(part) for part in boxes])
        return [
            self._choose_from(part, features, image_size, scale, config)
            for part, features, image_size, scale in zip(
                boxes, parts, image_sizes, scales.tolist(), strict=True
            )
        ]

    def _choose_from(
        self,
        boxes: Tensor,
        features: Tensor,
        image_size: Tensor,
        scale: float,
        config: DetectorConfig,
    ) -> Detections:
        """Select from the proposals `[proposals, 4]` of one image."""
        # One image at a time, because a matrix product with more rows may round differently.
        probabilities = self.roi_heads.classify(features)

        predictor = self.roi_heads.box_predictor
        moves = "refined" in (config.nms_boxes, config.output_boxes)
        deltas = predictor.deltas(features) if moves else None

        def refine(regions: Tensor, classes: Tensor) -> Tensor:
            assert deltas is not None
            chosen = predictor.deltas_of(deltas, regions, classes)
            return self.roi_heads.refine(chosen, boxes[regions], image_size)

        candidates = Candidates(
            _to_array(probabilities[:, :-1]),
            _to_array(boxes),
            lambda *pairs: _to_array(refine(*map(torch.from_numpy, pairs))),
            suppress,
        )
        chosen = select_regions(candidates, config, offset=config.side_offset * scale)
        kept, classes, ranking = (
            torch.from_numpy(part).to(boxes.device)
            for part in (chosen.candidates, chosen.classes, chosen.ranking)
        )
        if not len(kept):
            height, width = image_size.tolist()
            return Detections(
                boxes=boxes.new_tensor([whole_image((height, width))]),
                ranking=boxes.new_zeros(1),
                description=self.roi_heads.describe(features[kept], probabilities[kept]),
                found=False,
            )
        return Detections(
            boxes=refine(kept, classes) if config.output_boxes == "refined" else boxes[kept],
            ranking=ranking,
            description=self.roi_heads.describe(features[kept], probabilities[kept], classes),
            found=True,
        )

    def _describe(
        self, feature_map: Tensor, boxes: Sequence[Tensor], map_sizes: Tensor
    ) -> list[Description]:
        """Pool and describe boxes `[regions, 4]` of each image."""
        features = self.roi_heads.pool(feature_map, boxes, map_sizes)
        return [
            self.roi_heads.describe(part, self.roi_heads.classify(part))
            for part in torch.split(features, [len(part) for part in boxes])
        ]


def suppress(boxes: FloatArray, scores: FloatArray, threshold: float) -> IntArray:
    """Return the boxes that torchvision's non-maximum suppression keeps, best first."""
    kept: Tensor = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    return kept.numpy()


def _to_array(values: Tensor) -> FloatArray:
    array: FloatArray = values.detach().cpu().numpy()
    return array
