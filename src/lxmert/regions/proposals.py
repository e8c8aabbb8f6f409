"""The region proposal network: matching, sampling and proposals.

Legend: `anchors` = rows x columns x shapes, in this order; `objects` = true objects of an image,
padded to the maximum of the batch. Boxes are float32 `(x1, y1, x2, y2)` in pixels of the resized
image. The proposals are independent of classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms  # type: ignore[import-untyped]

from lxmert.regions.anchors import AnchorGenerator
from lxmert.regions.backbone import own_cells
from lxmert.regions.box_coding import (
    clip_boxes,
    decode_boxes,
    encode_boxes,
    extend_boxes,
    pairwise_iou,
)
from lxmert.regions.choosing import ANCHOR_WEIGHTS, CANDIDATES_PER_PROPOSAL, strict_threshold
from lxmert.regions.configuration import DetectorConfig
from lxmert.regions.objectives import EMPTY, box_loss, objectness_loss

# Faster R-CNN's rule is 0.7 / 0.3. With objects of two cells no anchor may reach 0.7.
ANCHOR_IS_OBJECT = 0.6
ANCHOR_IS_BACKGROUND = 0.3
REGION_IS_OBJECT = 0.5


def match_anchors(anchors: Tensor, boxes: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Assign objects to anchors (Faster R-CNN, section 3.1.2).

    Args:
        anchors: `[anchors, 4]`.
        boxes: `[batch, objects, 4]`.
        real: boolean `[batch, objects]`, False for padding.

    Returns:
        `[batch, anchors]` labels: 1 object, 0 background, -1 neither; and `[batch, anchors]`, the
        object with the largest overlap.
    """
    iou = _iou_with_objects(anchors, boxes, real)  # [batch, anchors, objects]
    best, matched = iou.max(dim=2)
    labels = torch.full_like(matched, EMPTY)
    labels[best < ANCHOR_IS_BACKGROUND] = 0
    labels[best >= ANCHOR_IS_OBJECT] = 1
    # The best anchors of an object always count, so that every object has an anchor.
    best_of_object = iou.amax(dim=1, keepdim=True)
    is_best = (iou == best_of_object) & (best_of_object > 0)
    forced = is_best.any(dim=2)
    labels[forced] = 1
    return labels, torch.where(forced, is_best.to(torch.uint8).argmax(dim=2), matched)


def match_regions(boxes: Tensor, objects: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Assign objects to boxes `[batch, boxes, 4]`, as `match_anchors`, but without -1."""
    best, matched = _iou_with_objects(boxes, objects, real).max(dim=2)
    return (best >= REGION_IS_OBJECT).long(), matched


def sample(labels: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Sample from each image: at most half of the samples are objects, the rest background.

    Args:
        labels: `[batch, candidates]`, 1 object, 0 background, -1 neither.
        num_samples: samples per image, drawn with torch's global generator.

    Returns:
        `[batch, samples]` indices of the candidates, and their labels, -1 for samples that could
        not be filled.
    """
    num_samples = min(num_samples, labels.shape[1])
    chance = torch.rand(labels.shape, device=labels.device)
    objects = (chance - (labels != 1).float()).topk(num_samples // 2, dim=1)
    others = (chance - (labels != 0).float()).topk(num_samples, dim=1)
    indices = torch.cat([objects.indices, others.indices], dim=1)
    drawn = torch.cat([objects.values >= 0, others.values >= 0], dim=1)
    # A stable sort moves the drawn candidates to the front, objects before background.
    order = torch.argsort((~drawn).to(torch.uint8), dim=1, stable=True)[:, :num_samples]
    indices, drawn = indices.gather(1, order), drawn.gather(1, order)
    return indices, torch.where(drawn, labels.gather(1, indices), EMPTY)


@dataclass(frozen=True)
class Proposals:
    """Output of the proposal network.

    Attributes:
        boxes: `[batch, proposals, 4]`, best first, clipped to the image, without gradient.
        mask: boolean `[batch, proposals]`, True = real.
        losses: loss sums by name; empty outside training.
    """

    boxes: Tensor
    mask: Tensor
    losses: dict[str, Tensor]


class ProposalHead(nn.Module):
    """Predicts objectness and box deltas for the anchors of every cell."""

    def __init__(self, width: int, hidden_width: int, num_shapes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, hidden_width, 3, padding=1)
        self.objectness_logits = nn.Conv2d(hidden_width, num_shapes, 1)
        self.anchor_deltas = nn.Conv2d(hidden_width, num_shapes * 4, 1)
        for layer in (self.conv, self.objectness_logits, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)  # Faster R-CNN, section 3.1.3
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[batch, width, rows, columns]` to `[batch, anchors]`, `[batch, anchors, 4]`."""
        hidden = functional.relu(self.conv(feature_map.to(self.conv.weight.dtype)), inplace=True)
        logits = self.objectness_logits(hidden).permute(
            0, 2, 3, 1
        )  # [batch, rows, columns, shapes]
        deltas = self.anchor_deltas(hidden).permute(0, 2, 3, 1)
        return logits.flatten(1).float(), deltas.reshape(len(deltas), -1, 4).float()


class ProposalGenerator(nn.Module):
    """The region proposal network of Faster R-CNN."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.anchor_generator = AnchorGenerator(config)
        width = config.stage_widths[-1]
        self.rpn_head = ProposalHead(
            width, config.proposal_width or width, self.anchor_generator.num_shapes
        )

    def forward(
        self,
        feature_map: Tensor,
        image_sizes: Tensor,
        targets: dict[str, Tensor] | None,
        *,
        map_sizes: Tensor | None = None,
        scales: Tensor | None = None,
    ) -> Proposals:
        """Propose boxes, and compute the losses if targets are given.

        Args:
            feature_map: `[batch, width, rows, columns]`.
            image_sizes: `[batch, 2]`, (height, width) of each image without its padding.
            targets: as for `Detector.forward`.
            map_sizes: `[batch, 2]`, rows and columns of each image's map without padding. None:
                there is no padding.
            scales: `[batch]`, resized pixels per original pixel. None: 1.
        """
        logits, deltas = self.rpn_head(feature_map)
        batch, _, rows, columns = feature_map.shape
        with torch.autocast(feature_map.device.type, enabled=False):
            anchors = self.anchor_generator(rows, columns)
            if map_sizes is None:
                map_sizes = image_sizes.new_tensor([(rows, columns)]).expand(batch, -1)
            own = own_cells(map_sizes, rows, columns).flatten(1)
            own = own.repeat_interleave(self.anchor_generator.num_shapes, dim=1)
            if scales is None:
                scales = logits.new_ones(batch)
            with torch.no_grad():
                boxes, mask = self._propose(logits, deltas, anchors, own, image_sizes, scales)
            losses = {} if targets is None else self._losses(logits, deltas, anchors, own, targets)
        return Proposals(boxes, mask, losses)

    def _propose(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        own: Tensor,
        image_sizes: Tensor,
        scales: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode the best anchors, drop small boxes and duplicates, and pad to `proposals`."""
        config = self.config
        wanted = config.proposal_candidates or CANDIDATES_PER_PROPOSAL * config.proposals
        references = anchors.expand(len(logits), -1, -1)
        usable = own
        if config.min_side_when == "before":
            boxes = self._decode(deltas, references, image_sizes)
            usable = usable & self._is_large(boxes, scales)
        scores = logits.masked_fill(~usable, -math.inf)
        # For equal scores the first one wins, so that padding cannot change the choice.
        scores, best = (
            part[:, :wanted] for part in scores.sort(dim=1, descending=True, stable=True)
        )
        if config.min_side_when == "before":
            boxes = gather_rows(boxes, best)
        else:
            boxes = self._decode(
                gather_rows(deltas, best), gather_rows(references, best), image_sizes
            )
            scores = scores.masked_fill(~self._is_large(boxes, scales), -math.inf)
        threshold = strict_threshold(config.proposal_nms_threshold, config.nms_ties)
        proposals = boxes.new_zeros(len(boxes), config.proposals, 4)
        mask = own.new_zeros(len(boxes), config.proposals)
        for image in range(len(boxes)):
            real = scores[image] > -math.inf
            candidates = boxes[image][real]
            extended = extend_boxes(candidates, config.side_offset)
            kept = nms(extended, scores[image][real], threshold)[: config.proposals]
            proposals[image, : len(kept)] = candidates[kept]
            mask[image, : len(kept)] = True
        return proposals, mask

    def _decode(self, deltas: Tensor, references: Tensor, image_sizes: Tensor) -> Tensor:
        """Return `[batch, boxes, 4]`, clipped to the images."""
        boxes = decode_boxes(
            deltas, references, ANCHOR_WEIGHTS, max_log_scale=self.config.max_log_scale
        )
        return clip_boxes(boxes, image_sizes, margin=self.config.clip_margin)

    def _is_large(self, boxes: Tensor, scales: Tensor) -> Tensor:
        """Return a boolean `[batch, boxes]`, True if both sides are long enough."""
        smallest = torch.full_like(scales, self.config.proposal_min_side)
        if self.config.min_side_unit == "original":
            smallest = smallest * scales
        sides = boxes[..., 2:] - boxes[..., :2] + self.config.side_offset
        return ((sides >= smallest[:, None, None]) & (sides > 0)).all(dim=2)

    def _losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        own: Tensor,
        targets: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the loss sums `rpn_objectness` and `rpn_box`."""
        with torch.no_grad():
            real = targets["object_ids"] >= 0
            labels, matched = match_anchors(anchors, targets["boxes"], real)
            labels = labels.masked_fill(~own, EMPTY)
            indices, labels = sample(labels, self.config.anchor_samples)
            boxes = gather_rows(targets["boxes"], matched.gather(1, indices))
            wanted = encode_boxes(boxes, anchors[indices], ANCHOR_WEIGHTS)
        objectness, _ = objectness_loss(logits.gather(1, indices), labels)
        box, _ = box_loss(
            gather_rows(deltas, indices), wanted, labels, positive=labels == 1, beta=1 / 9
        )
        return {"rpn_objectness": objectness, "rpn_box": box}


def gather_rows(values: Tensor, indices: Tensor) -> Tensor:
    """Gather rows `[batch, samples]` from `[batch, rows, width]`: `[batch, samples, width]`."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[2]))


def _iou_with_objects(boxes: Tensor, objects: Tensor, real: Tensor) -> Tensor:
    """Return the IoU `[batch, boxes, objects]`, 0 for padding; needs at least one object."""
    return pairwise_iou(boxes, objects) * real[:, None]
