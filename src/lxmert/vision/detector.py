"""A Faster R-CNN that also names attributes: pixels to candidate boxes, boxes to descriptions.

Legend: `batch` images; `samples` regions per image in training, `regions` boxes of all images one
after the other. Boxes are float32 `(x1, y1, x2, y2)` in pixels of the resized image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lxmert.vision import proposals as rpn
from lxmert.vision.backbone import Backbone, make_stage
from lxmert.vision.configuration import DetectorConfig
from lxmert.vision.objectives import EMPTY, attribute_loss, box_loss, object_loss
from lxmert.vision.pooling import align_regions
from lxmert.vision.selection import select_regions, whole_image

LOSSES = ("rpn_objectness", "rpn_box", "object", "box", "attribute")
"""Names of the losses that `Detector.forward` sums; the last only with attributes."""


@dataclass(frozen=True)
class Description:
    """What the head says about boxes.

    Attributes:
        features: `[regions, feature_dim]` float32.
        object_ids: `[regions]`, the most probable class, background excluded.
        object_scores: `[regions]`, its probability among all classes and background.
        attribute_ids: `[regions, groups]`, best of each group, in the list of all attributes.
        attribute_scores: `[regions, groups]`, its probability within the group.
    """

    features: Tensor
    object_ids: Tensor
    object_scores: Tensor
    attribute_ids: Tensor
    attribute_scores: Tensor


@dataclass(frozen=True)
class Detections:
    """The regions of one image.

    Attributes:
        boxes: `[regions, 4]`, best first.
        ranking: `[regions]`, class probability of the candidate that each box comes from, by
            which the regions were chosen; 0 for the whole image.
        description: what the head says about them.
        found: False if nothing was found and the whole image stands in.
    """

    boxes: Tensor
    ranking: Tensor
    description: Description
    found: bool


class BoxPredictor(nn.Module):
    """Names a region, moves its box and names its attributes."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        num_classes = len(config.object_names) + 1  # background is the last
        self.cls_score = nn.Linear(config.feature_dim, num_classes)
        self.bbox_pred = nn.Linear(config.feature_dim, 4)
        # Fast R-CNN's 0.01 suits features of a trained network. From random weights it passes next
        # to no gradient on to the features, and the classes start late.
        nn.init.normal_(self.cls_score.weight, std=0.1)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)  # Fast R-CNN, section 3.1
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)
        if config.attribute_groups:
            self.cls_embedding = nn.Embedding(num_classes, config.embedding_dim)
            self.fc_attr = nn.Linear(
                config.feature_dim + config.embedding_dim, config.attribute_dim
            )
            self.attr_score = nn.Linear(config.attribute_dim, len(config.attribute_names))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits `[regions, classes + 1]` and box deltas `[regions, 4]`."""
        return self.cls_score(features).float(), self.bbox_pred(features).float()

    def attributes(self, features: Tensor, object_ids: Tensor) -> Tensor:
        """Return attribute logits `[regions, attributes]`, knowing the class `[regions]`."""
        embedded = self.cls_embedding(object_ids)
        hidden = functional.relu(self.fc_attr(torch.cat([features, embedded], dim=1)))
        logits: Tensor = self.attr_score(hidden)
        return logits.float()


class RegionHeads(nn.Module):
    """Pools regions from the feature map and describes them."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.res5 = make_stage(
            config.stage_widths[-1],
            config.head_inner_width,
            config.feature_dim,
            depth=config.head_depth,
            stride=2,
            norm=config.norm,
        )
        self.box_predictor = BoxPredictor(config)
        self.pooled_size = config.pooled_size
        self.stride = config.stride
        self.group_sizes = config.group_sizes
        self.num_samples = config.region_samples

    def pool(self, feature_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Return the feature of each box.

        Args:
            feature_map: `[batch, width, rows, columns]`.
            boxes: `[boxes, 4]` of each image.

        Returns:
            `[regions, feature_dim]` float32.
        """
        counts = torch.tensor([len(part) for part in boxes], device=feature_map.device)
        images = torch.repeat_interleave(counts)  # [regions]
        cells = torch.cat(list(boxes)) / self.stride
        pooled = align_regions(feature_map, cells, images, size=self.pooled_size)
        maps: Tensor = self.res5(pooled)  # [regions, feature_dim, cells, cells]
        return maps.float().mean(dim=(2, 3))

    def losses(
        self, feature_map: Tensor, proposals: rpn.Proposals, targets: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the sums of `object`, `box` and, if there are any, `attribute`."""
        boxes, labels, matched = self._sample(proposals, targets)
        features = self.pool(feature_map, list(boxes))
        logits, deltas = self.box_predictor(features)
        positive = labels == 1
        object_ids = targets["object_ids"].gather(1, matched)
        background = logits.shape[1] - 1
        classes = torch.where(positive, object_ids, background)
        objects, _ = object_loss(
            logits.view(*labels.shape, -1), torch.where(labels == EMPTY, EMPTY, classes)
        )
        wanted = rpn.encode_boxes(
            rpn.gather_rows(targets["boxes"], matched), boxes, rpn.REGION_WEIGHTS
        )
        box, _ = box_loss(deltas.view_as(wanted), wanted, labels, positive=positive, beta=1.0)
        losses = {"object": objects, "box": box}
        if self.group_sizes:
            attribute_logits = self.box_predictor.attributes(features, classes.flatten())
            wanted_ids = rpn.gather_rows(targets["attribute_ids"], matched)
            losses["attribute"], _ = attribute_loss(
                attribute_logits.view(*labels.shape, -1),
                wanted_ids.masked_fill(~positive[..., None], EMPTY),
                group_sizes=self.group_sizes,
            )
        return losses

    @torch.no_grad()
    def _sample(
        self, proposals: rpn.Proposals, targets: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw boxes `[batch, samples, 4]`, their labels and their objects `[batch, samples]`."""
        real = targets["object_ids"] >= 0
        # The true boxes are proposals too: otherwise an untrained network proposes no object.
        boxes = torch.cat([proposals.boxes, targets["boxes"]], dim=1)
        usable = torch.cat([proposals.mask, real], dim=1)
        labels, matched = rpn.match_regions(boxes, targets["boxes"], real)
        indices, labels = rpn.sample(labels.masked_fill(~usable, EMPTY), self.num_samples)
        boxes = rpn.gather_rows(boxes, indices)
        # An empty place needs a box with an area, whose delta is a number, if never counted.
        unit = boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
        boxes = torch.where((labels == EMPTY)[..., None], unit, boxes)
        return boxes, labels, matched.gather(1, indices)

    def candidates(
        self, feature_map: Tensor, proposals: rpn.Proposals, image_sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Refine and score proposals.

        Returns:
            `[batch, proposals, 4]` boxes cut at the image's borders, and `[batch, proposals]`
            probabilities of their best class; -1 where there is no proposal.
        """
        features = self.pool(
            feature_map,
            [boxes[mask] for boxes, mask in zip(proposals.boxes, proposals.mask, strict=True)],
        )
        logits, deltas = self.box_predictor(features)
        with torch.autocast(feature_map.device.type, enabled=False):
            best = logits.softmax(dim=1)[:, :-1].amax(dim=1)
            scores = torch.full_like(proposals.boxes[..., 0], -1.0)
            scores[proposals.mask] = best
            boxes = proposals.boxes.clone()
            boxes[proposals.mask] = rpn.decode_boxes(
                deltas, proposals.boxes[proposals.mask], rpn.REGION_WEIGHTS
            )
            return rpn.clip_boxes(boxes, image_sizes), scores

    def describe(self, feature_map: Tensor, boxes: Sequence[Tensor]) -> Description:
        """Describe the given boxes of each image, whoever found them."""
        features = self.pool(feature_map, boxes)
        logits, _ = self.box_predictor(features)
        with torch.autocast(feature_map.device.type, enabled=False):
            scores, object_ids = logits.softmax(dim=1)[:, :-1].max(dim=1)
        best_ids, best_scores = [], []
        if self.group_sizes:
            attribute_logits = self.box_predictor.attributes(features, object_ids)
            start = 0
            for group in torch.split(attribute_logits, list(self.group_sizes), dim=1):
                best = group.softmax(dim=1).max(dim=1)
                best_ids.append(best.indices + start)
                best_scores.append(best.values)
                start += group.shape[1]
        return Description(
            features=features,
            object_ids=object_ids,
            object_scores=scores,
            attribute_ids=_stack_groups(best_ids, object_ids),
            attribute_scores=_stack_groups(best_scores, scores),
        )


class Detector(nn.Module):
    """The whole detector."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.proposal_generator = rpn.ProposalGenerator(config)
        self.roi_heads = RegionHeads(config)

    def forward(
        self, pixel_values: Tensor, image_sizes: Tensor, targets: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Return the loss sums if there are targets, otherwise the regions of each image.

        Args:
            pixel_values: `[batch, 3, height, width]`, normalised, in the configuration's channel
                order, images of different sizes padded with 0 below and on the right.
            image_sizes: `[batch, 2]`, (height, width) in pixels without the padding.
            targets: `boxes` `[batch, objects, 4]`; `object_ids` `[batch, objects]`, -1 for
                padding; `attribute_ids` `[batch, objects, groups]` in the list of all attributes,
                -1 for unknown. At least one place per image, real or padding.

        Returns:
            With targets, a sum over images for each name in `LOSSES`.
        """
        if targets is None:
            return self.detect(pixel_values, image_sizes)
        feature_map = self.backbone(pixel_values)
        proposals: rpn.Proposals = self.proposal_generator(feature_map, image_sizes, targets)
        losses: dict[str, Tensor] = self.roi_heads.losses(feature_map, proposals, targets)
        return proposals.losses | losses

    def detect(
        self, pixel_values: Tensor, image_sizes: Tensor, *, score_threshold: float | None = None
    ) -> list[Detections]:
        """Find the regions of each image and describe them.

        Args:
            pixel_values: as for `forward`.
            image_sizes: as for `forward`.
            score_threshold: takes the place of the configuration's, if given.
        """
        if score_threshold is None:
            score_threshold = self.config.score_threshold
        feature_map = self.backbone(pixel_values)
        boxes, scores = self.candidates(feature_map, image_sizes)
        chosen, rankings = [], []
        for image, size in enumerate(image_sizes.tolist()):
            kept = select_regions(
                boxes[image],
                scores[image],
                nms_threshold=self.config.nms_threshold,
                score_threshold=score_threshold,
                num_regions=self.config.num_regions,
            )
            chosen.append(
                boxes[image][kept] if len(kept) else boxes.new_tensor([whole_image(size)])
            )
            rankings.append(scores[image][kept] if len(kept) else scores.new_zeros(1))
        # A second look at the few chosen boxes, so that feature and names belong to the box that
        # is handed over and not to the proposal that it grew from.
        descriptions = split_description(self.roi_heads.describe(feature_map, chosen), chosen)
        return [
            Detections(part, ranking, description, found=bool(ranking[0] > 0))
            for part, ranking, description in zip(chosen, rankings, descriptions, strict=True)
        ]

    def candidates(self, feature_map: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return refined boxes `[batch, proposals, 4]` and scores, -1 where there is none."""
        proposals = self.proposal_generator(feature_map, image_sizes, None)
        return self.roi_heads.candidates(feature_map, proposals, image_sizes)

    def describe(self, pixel_values: Tensor, boxes: Sequence[Tensor]) -> list[Description]:
        """Describe given boxes `[boxes, 4]` of each image."""
        description = self.roi_heads.describe(self.backbone(pixel_values), boxes)
        return split_description(description, boxes)


def split_description(description: Description, boxes: Sequence[Tensor]) -> list[Description]:
    """Cut a description of all images' boxes into one for each image."""
    counts = [len(part) for part in boxes]
    fields = (
        description.features,
        description.object_ids,
        description.object_scores,
        description.attribute_ids,
        description.attribute_scores,
    )
    parts = [torch.split(values, counts) for values in fields]
    return [Description(*part) for part in zip(*parts, strict=True)]


def _stack_groups(columns: list[Tensor], like: Tensor) -> Tensor:
    """Stack one column per group: `[regions, groups]`, zero wide without groups."""
    return torch.stack(columns, dim=1) if columns else like.new_zeros(len(like), 0)
